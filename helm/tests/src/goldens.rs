//! What the profiles render to, kept in the repository: a change of the chart shows what it changes.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::{
    helm::{Helm, Install, profiles},
    root,
};

/// The profiles that are kept. Few, because each is long.
pub const KEPT: [&str; 3] = ["default", "ha", "external"];

/// Where a rendering is kept.
#[must_use]
pub fn path(profile: &str) -> PathBuf {
    root().join("helm/examples").join(profile).join("rendered.yaml")
}

/// The profile of a name.
///
/// # Errors
///
/// When there is none.
pub fn install(profile: &str) -> Result<Install> {
    let mut profiles = profiles()?.into_iter();
    let found = profiles.find(|(name, _)| name == profile);
    Ok(found.with_context(|| format!("there is no profile {profile}"))?.1)
}

/// The text that is kept of a rendering by Helm 4: without empty lines, which Helm's versions put in
/// different places.
#[must_use]
pub fn tidy(text: &str) -> String {
    let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
    let lines: Vec<_> = lines.collect();
    lines.join("\n") + "\n"
}

/// Renders all of them anew.
///
/// # Errors
///
/// When one cannot be rendered or written.
pub fn write() -> Result<()> {
    for profile in KEPT {
        let text = tidy(&install(profile)?.render(Helm::Four).with_context(|| profile.to_owned())?);
        let path = path(profile);
        fs::create_dir_all(path.parent().context("no directory")?)?;
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
