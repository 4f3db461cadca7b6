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

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
