use std::{path::PathBuf, time::Duration};

use crate::cli::StateArg;

/// How to run the local installation.
#[derive(Clone, Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of a command line")]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub state: StateArg,
    /// Runs in the background; returns when everything is ready.
    #[arg(long, short = 'd')]
    pub detach: bool,
    /// Removes all data first.
    #[arg(long)]
    pub reset: bool,
    /// Leaves the catalogue as it is.
    #[arg(long)]
    pub no_seed: bool,
    /// The catalogue to load; by default the one that comes with Portolan.
    #[arg(long)]
    pub catalogue: Option<PathBuf>,
    /// Mutual TLS between everything, with an authority of this installation's own.
    #[arg(long)]
    pub tls: bool,
    /// How long the services' certificates are valid, for instance `90s`, `10m` or `1h`. They are
    /// replaced at half of that.
    #[arg(long, default_value = "1h", value_name = "TIME", value_parser = parse_ttl)]
    #[arg(requires = "tls")]
    pub tls_leaf_ttl: Duration,
    /// How many replicas of every service, 1 or 2. Overrides the configuration file.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=2))]
    pub replicas: Option<u16>,
    /// Added to every port, so that several installations fit on one machine.
    #[arg(long, env = "PORTOLAN_PORT_OFFSET", default_value_t = 0)]
    pub port_offset: u16,
    /// Where PostgreSQL, Kafka, Redis and the provider listen, counted from the ports at which they
    /// are looked for, and where services look for each other, counted from the ports at which they
    /// listen: something else, which is not started here, stands in between.
    #[arg(long, conflicts_with = "tls", hide = true)]
    pub detour: Option<u16>,
    /// Ports and replicas, as TOML. Read if it exists; must exist when named.
    #[arg(long, env = "PORTOLAN_HOST_CONFIG")]
    pub config: Option<PathBuf>,
    /// A setting of one service, for instance `order.orders.deadline_secs=60`. May be repeated.
    #[arg(long = "set", value_name = "SERVICE.KEY=VALUE")]
    pub set: Vec<String>,
    /// Where the services' programs are; by default where this program is.
    #[arg(long, env = "PORTOLAN_BIN_DIR")]
    pub bin_dir: Option<PathBuf>,
    /// Where Kafka's jars are; by default where `scripts/kafka-fetch` puts them.
    #[arg(long, env = "PORTOLAN_KAFKA_DIR")]
    pub kafka_dir: Option<PathBuf>,
    /// The base of the user's caches (XDG base directory specification).
    #[arg(long, env = "XDG_CACHE_HOME", hide = true)]
    pub cache_home: Option<PathBuf>,
    /// Where PostgreSQL's programs are; by default the newest that is installed.
    #[arg(long, env = "PORTOLAN_POSTGRES_BIN")]
    pub postgres_bin: Option<PathBuf>,
    /// The search path for programs.
    #[arg(long, env = "PATH", hide = true, hide_env_values = true, default_value = "")]
    pub path: String,
    /// The system user that PostgreSQL runs as when this program runs as root.
    #[arg(long, env = "PORTOLAN_POSTGRES_USER", default_value = "postgres")]
    pub postgres_user: String,
    /// This process is the background half of `--detach`.
    #[arg(long, hide = true)]
    pub daemon: bool,
}

/// Nothing shorter can be renewed in time.
const SHORTEST_TTL: Duration = Duration::from_secs(10);

fn parse_ttl(text: &str) -> Result<Duration, String> {
    let (number, seconds) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) if text.ends_with('s') => (number, 1),
        Some(number) if text.ends_with('m') => (number, 60),
        Some(number) => (number, 3_600),
        None => return Err("a number with s, m or h behind it".to_owned()),
    };
    let number: u32 = number.parse().map_err(|_| "not a number of s, m or h".to_owned())?;
    let ttl = Duration::from_secs(u64::from(number) * seconds);
    let shortest = SHORTEST_TTL.as_secs();
    if ttl >= SHORTEST_TTL { Ok(ttl) } else { Err(format!("at least {shortest} s")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_life_of_certificates_has_a_unit_and_is_not_too_short() {
        assert_eq!(parse_ttl("90s").unwrap(), Duration::from_secs(90));
        assert_eq!(parse_ttl("2h").unwrap(), Duration::from_hours(2));
        for bad in ["", "90", "h", "1d", "-1m", "9s", "0h"] {
            assert!(parse_ttl(bad).is_err(), "{bad}");
        }
    }
}
