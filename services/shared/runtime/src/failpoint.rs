//! Places in the code where a test can have the process end, exactly there.
//!
//! Only programs built with the feature `failpoints` have them: `failpoint!("name")` is nothing
//! otherwise. A point is armed by a file called `<program>.<name>` in the directory that the
//! variable `PORTOLAN_FAILPOINTS` names, for instance `portolan-order.place:before-commit`. The
//! first process that comes there renames the file, so that it dies once and no other with it.

/// Ends the process here if a test has armed this point; see [`failpoint`](crate::failpoint).
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        $crate::failpoint::reach($name)
    };
}

/// Nothing: this program is built without the feature `failpoints`.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {};
}

/// Ends the process as if it had crashed, if the point is armed.
#[cfg(feature = "failpoints")]
pub fn reach(name: &str) {
    use std::{ffi::OsStr, path::PathBuf, sync::LazyLock};

    #[expect(clippy::disallowed_methods, reason = "no configuration knows of this")]
    static PLACE: LazyLock<Option<(PathBuf, String)>> = LazyLock::new(|| {
        let directory = std::env::var_os("PORTOLAN_FAILPOINTS")?;
        let program = std::env::current_exe().ok()?;
        Some((directory.into(), program.file_name().and_then(OsStr::to_str)?.to_owned()))
    });

    let Some((directory, program)) = PLACE.as_ref() else { return };
    let armed = directory.join(format!("{program}.{name}"));
    let hit = directory.join(format!("{program}.{name}.hit"));
    if armed.exists() && std::fs::rename(&armed, hit).is_ok() {
        std::process::abort();
    }
}
