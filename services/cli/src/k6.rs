//! `portolan k6`: everything that k6 needs to put load on the shop, written into one directory: the
//! scripts of `load-tests`, the orders they place, and a token for each customer. k6 has its own
//! program, or its own container beside the one that ran this.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use portolan_auth::Role;

use crate::{
    cli::StateArg,
    cluster::config::Config,
    local::{StateDir, write_private},
    out, replay,
    token::Signer,
};

/// Where the scripts expect each other, and the orders.
const SCRIPTS: [(&str, &str); 8] = [
    ("load-tests/lib/data.js", include_str!("../../../load-tests/lib/data.js")),
    ("load-tests/lib/shop.js", include_str!("../../../load-tests/lib/shop.js")),
    ("load-tests/lib/visit.js", include_str!("../../../load-tests/lib/visit.js")),
    ("load-tests/profiles/smoke.js", include_str!("../../../load-tests/profiles/smoke.js")),
    ("load-tests/profiles/average.js", include_str!("../../../load-tests/profiles/average.js")),
    ("load-tests/profiles/spike.js", include_str!("../../../load-tests/profiles/spike.js")),
    (
        "load-tests/profiles/rate-limit.js",
        include_str!("../../../load-tests/profiles/rate-limit.js"),
    ),
    ("load-tests/profiles/overload.js", include_str!("../../../load-tests/profiles/overload.js")),
];
const ORDERS: &str = "data/orders-week.csv";
const TOKENS: &str = "tokens";
/// What the customers are called; a number follows.
const CUSTOMER: &str = "load";

/// What to write, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    state: StateArg,
    /// The directory; made if it is missing.
    dir: PathBuf,
    /// How tokens are signed (`[issuer]`), instead of with the local installation's key.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// So many customers, each with a token of its own.
    #[arg(long, default_value_t = 1000)]
    customers: u32,
    /// How long the tokens are valid, in seconds.
    #[arg(long, default_value_t = 3600)]
    ttl_secs: u64,
}

/// # Errors
/// There is no key to sign with, or the directory cannot be written.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let signer = signer(args)?;
    let ttl = Duration::from_secs(args.ttl_secs);
    for (name, text) in SCRIPTS {
        write(&args.dir, name, text)?;
    }
    write(&args.dir, ORDERS, replay::BUILT_IN)?;
    let tokens = signer.for_many(CUSTOMER, Role::Customer, args.customers, ttl)?;
    write_private(&args.dir.join(TOKENS), tokens.join("\n").as_bytes())?;
    out::line(&format!(
        "{} customers and the profiles are in {}",
        tokens.len(),
        args.dir.display()
    ));
    Ok(ExitCode::SUCCESS)
}

fn signer(args: &Args) -> anyhow::Result<Signer> {
    let Some(file) = &args.config else {
        return Signer::open(&StateDir::at(&args.state.state)?);
    };
    let issuer = Config::read(file)?.issuer;
    Signer::of(&issuer.with_context(|| format!("{} has no [issuer]", file.display()))?)
}

fn write(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let path = dir.join(name);
    let written = path.parent().map_or(Ok(()), fs::create_dir_all);
    written.and_then(|()| fs::write(&path, content)).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::local::random_bytes;

    #[test]
    fn every_script_is_written_where_the_others_look_for_it() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let mut found = BTreeSet::new();
        for dir in ["load-tests/lib", "load-tests/profiles"] {
            for entry in fs::read_dir(root.join(dir)).unwrap() {
                found.insert(format!("{dir}/{}", entry.unwrap().file_name().display()));
            }
        }
        assert_eq!(
            SCRIPTS.map(|(name, _)| name.to_owned()).into_iter().collect::<BTreeSet<_>>(),
            found
        );
        assert!(fs::exists(root.join(ORDERS)).unwrap());
    }

    #[test]
    fn a_directory_has_the_orders_and_a_token_for_every_customer() {
        let name = format!("portolan-k6-{}", hex::encode(random_bytes::<8>().unwrap()));
        let scratch = std::env::temp_dir().join(name);
        let args = Args {
            state: StateArg { state: scratch.join("state") },
            dir: scratch.join("load"),
            config: None,
            customers: 3,
            ttl_secs: 60,
        };
        run(&args).unwrap();
        let read = |name: &str| fs::read_to_string(args.dir.join(name)).unwrap();
        assert!(read(ORDERS).starts_with("invoice,"));
        let users: Vec<String> = read(TOKENS)
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|line| line["user"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(users, ["load-1", "load-2", "load-3"]);
        fs::remove_dir_all(scratch).unwrap();
    }
}
