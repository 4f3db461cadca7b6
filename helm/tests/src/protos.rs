//! The methods that the contracts declare, read from the `.proto` files themselves.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result};

use crate::root;

/// Every method, as `package.Service/Method`.
///
/// # Errors
///
/// When the contracts cannot be read.
pub fn methods() -> Result<BTreeSet<String>> {
    let mut methods = BTreeSet::new();
    collect(&root().join("proto/portolan"), &mut methods)?;
    Ok(methods)
}

fn collect(directory: &Path, methods: &mut BTreeSet<String>) -> Result<()> {
    for entry in directory.read_dir().with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, methods)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            of_file(&fs::read_to_string(&path)?, methods);
        }
    }
    Ok(())
}

/// The methods of one file: `package`, `service` and `rpc` each begin a line in what buf's style accepts.
fn of_file(text: &str, methods: &mut BTreeSet<String>) {
    let (mut package, mut service) = ("", "");
    for line in text.lines().map(str::trim) {
        let mut words = line.split([' ', '(', ';', '{']).filter(|word| !word.is_empty());
        match (words.next(), words.next()) {
            (Some("package"), Some(name)) => package = name,
            (Some("service"), Some(name)) => service = name,
            (Some("rpc"), Some(name)) => {
                methods.insert(format!("{package}.{service}/{name}"));
            }
            _ => {}
        }
    }
}
