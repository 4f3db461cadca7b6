//! What must hold of the chart, checked without a cluster: the tests in `tests/ring1`, and here what
//! they and the commands `make chart-readme`, `chart-goldens` and `chart-schemas` share.

pub mod goldens;
pub mod helm;
pub mod network;
pub mod object;
pub mod protos;
pub mod quantity;
pub mod readme;
pub mod schemas;

use std::path::{Path, PathBuf};

/// The root of the repository that cargo is called in: what was compiled in one checkout may be run in
/// another one that has the same build directory.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "Cargo says by it where it runs")]
pub fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR");
    let package = package.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&package).join("../..")
}
