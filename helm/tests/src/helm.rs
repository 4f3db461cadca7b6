//! Helm, called as a user calls it.

use std::{
    fmt,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::root;

/// The versions of Helm that the chart is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Helm {
    Three,
    Four,
}

impl Helm {
    pub const ALL: [Self; 2] = [Self::Three, Self::Four];

    fn variable(self) -> &'static str {
        match self {
            Self::Three => "PORTOLAN_HELM3",
            Self::Four => "PORTOLAN_HELM",
        }
    }

    /// Calls it in the root of the repository and returns what it prints.
    ///
    /// # Errors
    ///
    /// With Helm's own words when it fails, and when it cannot be started.
    pub fn call(self, arguments: &[String]) -> Result<String> {
        let mut command = Command::new(program(self.variable())?);
        // What a chart renders must not depend on the cluster that somebody happens to use.
        command.args(arguments).current_dir(root()).env("KUBECONFIG", "/dev/null");
        let output = command.stdin(Stdio::null()).output().context("cannot start Helm")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl fmt::Display for Helm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Three => "Helm 3",
            Self::Four => "Helm 4",
        })
    }
}

/// The program that a variable of the environment names.
///
/// # Errors
///
/// When it names none.
#[expect(clippy::disallowed_methods, reason = "scripts/tools says where the programs are")]
pub fn program(variable: &str) -> Result<String> {
    std::env::var(variable).with_context(|| {
        format!("{variable} is not set: run `make test`, or `eval \"$(scripts/tools)\"` before")
    })
}

/// One way to install the chart.
#[derive(Clone, Debug)]
pub struct Install {
    pub release: String,
    pub namespace: String,
    /// The Kubernetes version that Helm is told.
    pub kubernetes: String,
    /// Helm's options: files of values, single values.
    pub options: Vec<String>,
}

/// Where the chart is, from the root of the repository.
pub const CHART: &str = "helm/portolan";

impl Default for Install {
    fn default() -> Self {
        Self {
            release: "portolan".to_owned(),
            namespace: "shop".to_owned(),
            kubernetes: crate::schemas::VERSION.to_owned(),
            options: Vec::new(),
        }
    }
}

impl Install {
    /// With an option of Helm's.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.options.push(format!("--{name}={value}"));
        self
    }

    /// With a file of values, named from the root of the repository.
    #[must_use]
    pub fn file(self, path: &str) -> Self {
        self.option("values", path)
    }

    /// With one value more.
    #[must_use]
    pub fn set(self, assignment: &str) -> Self {
        self.option("set", assignment)
    }

    /// With one value more, which is JSON.
    #[must_use]
    pub fn json(self, assignment: &str) -> Self {
        self.option("set-json", assignment)
    }

    /// As a release of another name.
    #[must_use]
    pub fn release(mut self, name: &str) -> Self {
        name.clone_into(&mut self.release);
        self
    }

    /// In another namespace.
    #[must_use]
    pub fn namespace(mut self, name: &str) -> Self {
        name.clone_into(&mut self.namespace);
        self
    }

    /// On another version of Kubernetes.
    #[must_use]
    pub fn kubernetes(mut self, version: &str) -> Self {
        version.clone_into(&mut self.kubernetes);
        self
    }

    /// The arguments for one of Helm's commands; `lint` knows no release names.
    fn arguments(&self, command: &str) -> Vec<String> {
        let mut arguments = vec![command.to_owned()];
        if command != "lint" {
            arguments.push(self.release.clone());
        }
        arguments.push(CHART.to_owned());
        arguments.push(format!("--namespace={}", self.namespace));
        arguments.push(format!("--kube-version={}", self.kubernetes));
        arguments.extend(self.options.iter().cloned());
        arguments
    }

    /// The text that Helm renders.
    ///
    /// # Errors
    ///
    /// With Helm's own words when the values are refused.
    pub fn render(&self, helm: Helm) -> Result<String> {
        helm.call(&self.arguments("template"))
    }

    /// What `helm lint --strict` says.
    ///
    /// # Errors
    ///
    /// When it finds anything.
    pub fn lint(&self, helm: Helm) -> Result<String> {
        let mut arguments = self.arguments("lint");
        arguments.push("--strict".to_owned());
        helm.call(&arguments)
    }

    /// What Helm tells its user after an installation.
    ///
    /// # Errors
    ///
    /// When the values are refused.
    pub fn notes(&self) -> Result<String> {
        let mut arguments = self.arguments("install");
        arguments.retain(|argument| !argument.starts_with("--kube-version"));
        arguments.push("--dry-run=client".to_owned());
        let said = Helm::Four.call(&arguments)?;
        let (_, notes) = said.rsplit_once("NOTES:\n").context("no notes")?;
        Ok(notes.trim_end().to_owned())
    }
}

/// The ways to install that are kept with the chart: the default values, the profiles beside them
/// (`values-ha.yaml` is `ha`) and the variants that only tests use (`ci/ha-values.yaml` is `ci/ha`).
///
/// # Errors
///
/// When the chart's directory cannot be read.
pub fn profiles() -> Result<Vec<(String, Install)>> {
    let mut profiles = vec![("default".to_owned(), Install::default())];
    for (directory, start, end) in [("", "values-", ".yaml"), ("ci/", "", "-values.yaml")] {
        let mut names = Vec::new();
        for entry in root().join(CHART).join(directory).read_dir().context("the chart")? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        for name in names {
            let short = name.strip_prefix(start).and_then(|name| name.strip_suffix(end));
            if let Some(short) = short {
                let install = Install::default().file(&format!("{CHART}/{directory}{name}"));
                profiles.push((format!("{directory}{short}"), install));
            }
        }
    }
    Ok(profiles)
}
