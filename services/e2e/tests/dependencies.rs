//! The rules of the layout: who may depend on whom.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use portolan_e2e::program;
use serde_json::Value;

const SERVICES: [&str; 5] = [
    "portolan-gateway",
    "portolan-order",
    "portolan-inventory",
    "portolan-payment",
    "portolan-notification",
];
const SHARED: [&str; 7] = [
    "portolan-kernel",
    "portolan-runtime",
    "portolan-messaging",
    "portolan-valkey",
    "portolan-lock",
    "portolan-auth",
    "portolan-testkit",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The declared dependencies of every member, with their kind: `normal`, `dev` or `build`.
fn declared() -> BTreeMap<String, Vec<(String, String)>> {
    let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps", "--locked"]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let members = metadata["packages"].as_array().unwrap().iter();
    members
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let pair = |dependency: &Value| {
                let kind = dependency["kind"].as_str().unwrap_or("normal");
                (dependency["name"].as_str().unwrap().to_owned(), kind.to_owned())
            };
            (package["name"].as_str().unwrap().to_owned(), dependencies.map(pair).collect())
        })
        .collect()
}

/// Everything that is linked into a crate, with the features that it asks for.
fn linked(package: &str) -> BTreeSet<String> {
    let tree = cargo(&[
        "tree", "--locked", "-p", package, "-e", "normal", "--prefix", "none", "--format", "{p}",
    ]);
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn services_never_depend_on_one_another() {
    let declared = declared();
    for service in SERVICES {
        for (dependency, kind) in &declared[service] {
            let other = SERVICES.contains(&dependency.as_str());
            assert!(!other, "{service} depends on {dependency} ({kind})");
        }
    }
    let tools: Vec<_> = declared["portolan-cli"]
        .iter()
        .filter(|(name, _)| SERVICES.contains(&name.as_str()))
        .collect();
    assert!(
        tools.is_empty(),
        "the command line speaks to services over their interfaces: {tools:?}"
    );
}

#[test]
fn shared_crates_and_contracts_never_depend_on_a_service() {
    let declared = declared();
    for shared in SHARED.into_iter().chain(["portolan-proto"]) {
        for (dependency, kind) in &declared[shared] {
            let allowed = !dependency.starts_with("portolan-")
                || SHARED.contains(&dependency.as_str())
                || dependency == "portolan-proto";
            assert!(allowed, "{shared} depends on {dependency} ({kind})");
        }
    }
}

#[test]
fn the_test_kit_is_for_tests() {
    for (package, dependencies) in declared() {
        let normal =
            dependencies.iter().any(|(name, kind)| name == "portolan-testkit" && kind != "dev");
        assert!(!normal || package == "portolan-e2e", "{package} ships the test kit");
        let e2e = dependencies.iter().any(|(name, _)| name == "portolan-e2e");
        assert!(!e2e, "{package} depends on the whole-system tests");
    }
}

#[test]
fn the_kernel_does_no_input_or_output() {
    let linked = linked("portolan-kernel");
    assert!(linked.contains("uuid"), "{linked:?}");
    for forbidden in ["tokio", "sqlx", "tonic", "axum", "rdkafka", "reqwest"] {
        assert!(!linked.contains(forbidden), "the kernel links {forbidden}");
    }
}

#[test]
fn the_gateway_has_neither_a_database_nor_kafka() {
    let linked = linked("portolan-gateway");
    assert!(linked.contains("axum"), "{linked:?}");
    for forbidden in ["sqlx", "sqlx-postgres", "rdkafka", "rdkafka-sys", "portolan-messaging"] {
        assert!(!linked.contains(forbidden), "the gateway links {forbidden}");
    }
}

#[test]
fn no_crate_links_the_tls_implementation_that_is_not_ours() {
    for service in SERVICES {
        for forbidden in ["openssl", "native-tls", "ring"] {
            assert!(!linked(service).contains(forbidden), "{service} links {forbidden}");
        }
    }
}

fn sources(directory: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn the_domain_knows_no_technology() {
    for service in ["order", "inventory", "payment", "notification"] {
        let source = root().join("services").join(service).join("src");
        let mut files = Vec::new();
        sources(&source.join("domain"), &mut files);
        files.extend(Some(source.join("domain.rs")).filter(|file| file.is_file()));
        assert!(!files.is_empty(), "{service} has a domain");
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for (number, line) in code.enumerate() {
                for forbidden in ["sqlx", "tonic", "axum", "tokio", "rdkafka", "reqwest"] {
                    let used = line.contains(&format!("{forbidden}::"));
                    assert!(!used, "{}:{number}: {line}", file.display());
                }
            }
        }
    }
}

#[test]
fn no_program_has_failpoints_unless_it_is_built_with_them() {
    for name in ["order", "inventory", "payment", "notification", "psp"] {
        let program = fs::read(program(&format!("portolan-{name}"))).unwrap();
        // The variable without which no failpoint does anything.
        let found = String::from_utf8_lossy(&program).contains("PORTOLAN_FAILPOINTS");
        assert!(!found, "{name}");
    }
}

#[test]
fn every_member_takes_the_lints_of_the_workspace() {
    for (package, _) in declared() {
        let name = package.strip_prefix("portolan-").unwrap();
        let place = match name {
            "proto" => root().join("proto"),
            "chart-tests" => root().join("helm/tests"),
            "cluster-e2e" => root().join("helm/e2e"),
            _ if SHARED.contains(&package.as_str()) => root().join("services/shared").join(name),
            _ => root().join("services").join(name),
        };
        let manifest = fs::read_to_string(place.join("Cargo.toml")).unwrap();
        let lints = manifest.contains("[lints]\nworkspace = true");
        assert!(lints || name == "proto", "{package} has lints of its own");
    }
}
