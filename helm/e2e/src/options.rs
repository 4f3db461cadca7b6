use std::path::PathBuf;

use clap::Parser;

/// Tests the chart on the cluster of the current kubeconfig.
#[derive(Clone, Debug, Parser)]
#[command(name = "portolan-cluster-e2e", version)]
pub(crate) struct Options {
    /// Only what fits into a quarter of an hour: install, test, refused callers, one pod of each
    /// kind deleted, upgrade.
    #[arg(long)]
    pub quick: bool,
    /// Only these steps (repeatable); the release must be installed unless `install` is one of them.
    #[arg(long, value_name = "STEP")]
    pub only: Vec<String>,
    /// Where to install. The namespace is deleted first and, unless `--keep`, at the end.
    #[arg(long, default_value = "portolan-e2e")]
    pub namespace: String,
    /// Leave the installation running.
    #[arg(long)]
    pub keep: bool,
    /// The release's name.
    #[arg(long, default_value = "portolan")]
    pub release: String,
    /// The chart.
    #[arg(long, default_value = "helm/portolan")]
    pub chart: PathBuf,
    /// More values for every install and upgrade, as `helm --set` takes them (repeatable).
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The tag of the images that are "the next version": the order service's has one migration more.
    #[arg(long, default_value = "next")]
    pub next_tag: String,
    /// How long the rotation is watched, in minutes.
    #[arg(long, default_value_t = 10)]
    pub rotation_minutes: u64,
    /// Orders a second while something is being broken.
    #[arg(long, default_value_t = 3)]
    pub rate: u32,
    /// The helm program (3.14 or later).
    #[arg(long, env = "PORTOLAN_HELM", default_value = "helm")]
    pub helm: String,
    /// Writes the table of results there, in Markdown.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

impl Options {
    /// Whether a step was asked for.
    pub(crate) fn wants(&self, name: &str, in_quick: bool) -> bool {
        if self.only.is_empty() {
            in_quick || !self.quick
        } else {
            self.only.iter().any(|n| n == name)
        }
    }
}
