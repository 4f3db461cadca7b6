//! That the programs accept the files that the chart renders for them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use figment::{
    Figment,
    providers::{Format as _, Toml},
};
use portolan_chart_tests::object::{Container, Pod};
use serde_json::Value;

use crate::{
    pods::{is_ours, is_server},
    support::{Findings, Rendered, distinct, everywhere, in_parallel},
};

/// The text of the configuration file that a container is told of, and its path there.
pub(crate) fn file<'a>(
    rendered: &'a Rendered,
    container: Container<'a>,
) -> Option<(&'a str, &'a str)> {
    let words = container.command_line();
    let option = words.iter().position(|word| *word == "--config");
    let option = option.and_then(|index| words.get(index + 1)).copied();
    let path = option.or_else(|| container.variable("PORTOLAN_CONFIG"))?;
    Some((path, rendered.objects.file(container, path)?))
}

/// What that file says.
pub(crate) fn of(rendered: &Rendered, container: Container<'_>) -> Option<Value> {
    let (_, text) = file(rendered, container)?;
    toml(text).ok()
}

/// A TOML file.
pub(crate) fn toml(text: &str) -> Result<Value, String> {
    Figment::from(Toml::string(text)).extract().map_err(|error| error.to_string())
}

/// The program in an image of ours, beside the directory of this test.
fn program(container: Container<'_>) -> PathBuf {
    let service = container.image().rsplit('/').next().unwrap().split(['@', ':']).next().unwrap();
    let name = if service == "cli" { "portolan".to_owned() } else { format!("portolan-{service}") };
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join(name);
    assert!(
        path.is_file(),
        "{} is missing: build the programs first (cargo build --workspace --bins)",
        path.display()
    );
    path
}

#[test]
fn every_configuration_file_is_there_and_is_toml() {
    everywhere(|rendered, findings| {
        for container in rendered.objects.containers().filter(|container| is_ours(*container)) {
            let told = container.command_line().contains(&"--config")
                || container.variable("PORTOLAN_CONFIG").is_some();
            let file = file(rendered, container);
            findings.check(!told || file.is_some(), || {
                format!("{container} is told of a file that is not there")
            });
            let Some((path, text)) = file else { continue };
            let read = toml(text);
            findings.check(read.is_ok(), || format!("{container}: {path}: {}", read.unwrap_err()));
        }
    });
}

#[test]
fn every_service_accepts_its_configuration() {
    let mut tasks = Vec::new();
    for rendered in distinct() {
        let servers = rendered.objects.pods().filter(|pod| is_server(pod.owner));
        for container in servers.flat_map(Pod::containers) {
            if is_ours(container) && !container.init {
                tasks.push((rendered, container));
            }
        }
    }
    let mut findings = Findings::default();
    let complaints = in_parallel(tasks, |(rendered, container)| {
        (rendered, container, check(rendered, container))
    });
    for (rendered, container, complaint) in complaints {
        let findings = findings.at(&rendered.profile);
        findings.check(complaint.is_none(), || {
            format!("{container}: {}", complaint.unwrap_or_default())
        });
    }
    findings.assert_none();
}

/// What a service says against the configuration that its container gives it.
fn check(rendered: &Rendered, container: Container<'_>) -> Option<String> {
    let Some((_, text)) = file(rendered, container) else {
        return Some("it has no configuration file".to_owned());
    };
    let name = format!("{}-{:?}.toml", std::process::id(), std::thread::current().id());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).unwrap();
    let mut command = Command::new(program(container));
    command.arg("check-config").env_clear().stdin(Stdio::null());
    command.envs(container.variables().into_iter().filter(|(name, _)| name.contains("PORTOLAN")));
    let output = command.env("PORTOLAN_CONFIG", &path).output().unwrap();
    fs::remove_file(&path).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let complaint = complaint.replace(&path.display().to_string(), "its file");
    (!output.status.success()).then_some(complaint)
}
