//! What the documents name is there: tests, files and targets of make.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The files of that kind below a directory, each with its path from the root.
fn files(dir: &Path, extension: &str, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|is| is == extension) {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
}

fn all(dirs: &[&str], extension: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for dir in dirs {
        files(&root().join(dir), extension, &mut found);
    }
    found
}

fn documents() -> Vec<(String, String)> {
    let mut found = all(&["docs", "helm/tests"], "md");
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    found.push(("README.md".to_owned(), readme));
    found
}

/// What stands between backticks within one line.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

#[test]
fn every_test_and_source_that_a_document_names_is_there() {
    let sources = all(&["services", "helm", "proto"], "rs");
    let holds = |path: &str, text: &str| {
        let end = format!("/{path}");
        let same = |name: &str| name == path || name.ends_with(&end);
        sources.iter().any(|(name, source)| same(name) && source.contains(text))
    };
    let (mut tests, mut missing) = (0, Vec::new());
    for (document, text) in documents() {
        for name in quoted(&text) {
            if let Some((path, test)) = name.split_once(".rs::") {
                tests += 1;
                if !holds(&format!("{path}.rs"), &format!("fn {test}(")) {
                    missing.push(format!("{document}: {name}"));
                }
            } else if name.strip_suffix(".rs").is_some()
                && !name.contains(['*', '<', ' '])
                && !holds(name, "")
            {
                missing.push(format!("{document}: {name}"));
            }
        }
    }
    assert!(tests > 50, "{tests} tests are named: are they still written `file.rs::test`?");
    assert_eq!(missing, [""; 0]);
}

#[test]
fn every_target_of_make_that_a_document_names_is_there() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let targets: BTreeSet<&str> =
        makefile.lines().filter_map(|line| line.strip_prefix(".PHONY: ")).collect();
    let (mut named, mut missing) = (BTreeSet::new(), Vec::new());
    for (document, text) in documents() {
        let indented = text.lines().filter_map(|line| line.strip_prefix("    "));
        let prompted = text.lines().filter_map(|line| line.strip_prefix("$ "));
        let lines = quoted(&text).chain(indented).chain(prompted);
        for command in lines.flat_map(|line| line.split(" && ")) {
            let words = command.strip_prefix("make ").into_iter().flat_map(str::split_whitespace);
            // Until an option, a variable or a comment.
            let is_target = |word: &&str| !word.starts_with(['-', '#']) && !word.contains('=');
            for target in words.take_while(is_target) {
                named.insert(target.to_owned());
                if !targets.contains(target) {
                    missing.push(format!("{document}: make {target}"));
                }
            }
        }
    }
    assert!(named.len() > 10, "{named:?}");
    assert_eq!(missing, [""; 0]);
}
