//! Clocks that can be moved, one process at a time: a small library, compiled when it is needed and
//! preloaded into everything, answers in the place of the C library (see `deploy/local/clock.c`).

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use tokio::process::Command;

const SOURCE: &str = include_str!("../../../../deploy/local/clock.c");

/// Where the library is, and a file for each process whose clock is wrong, named by its number: a
/// process that is started again has the right time.
#[derive(Debug)]
pub(super) struct Clocks {
    directory: PathBuf,
    library: PathBuf,
}

impl Clocks {
    /// Compiles the library, where the user of every process can read it.
    ///
    /// # Errors
    /// There is no C compiler.
    pub(super) async fn make() -> anyhow::Result<Self> {
        let directory =
            std::env::temp_dir().join(format!("portolan-clocks-{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
        let (source, library) = (directory.join("clock.c"), directory.join("clock.so"));
        fs::write(&source, SOURCE)?;
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source);
        let status = compiler.status().await.context("cc cannot be started")?;
        ensure!(status.success(), "the library that moves clocks does not compile");
        Ok(Self { directory, library })
    }

    /// What everything needs in its environment.
    pub(super) fn environment(&self) -> [(&str, &Path); 2] {
        [("LD_PRELOAD", &self.library), ("CLOCKS_AHEAD", &self.directory)]
    }

    /// Moves the clock of a process by so many seconds, until the value is dropped.
    pub(super) fn step(&self, pid: i32, seconds: i64) -> anyhow::Result<Wrong> {
        let wrong = Wrong(self.directory.join(pid.to_string()));
        let draft = self.directory.join(format!("{pid}.draft"));
        fs::write(&draft, (seconds * 1_000_000).to_string())?;
        fs::rename(&draft, &wrong.0)?;
        Ok(wrong)
    }
}

impl Drop for Clocks {
    fn drop(&mut self) {
        let _of_no_use_any_more = fs::remove_dir_all(&self.directory);
    }
}

/// A clock that is wrong.
#[derive(Debug)]
pub(super) struct Wrong(PathBuf);

impl Drop for Wrong {
    fn drop(&mut self) {
        let _of_a_process_that_is_gone = fs::remove_file(&self.0);
    }
}
