//! Three independent Redis masters.

use std::{fs, time::Duration};

use nix::sys::signal::Signal;
use portolan_runtime::Tls;

use super::{
    certificates::{Places, REDIS, text},
    component::{Component, Program},
    ports::Ports,
    probe::Probe,
    programs::Programs,
    state::StateDir,
};

/// # Errors
/// A data directory cannot be made.
pub(crate) fn components(
    state: &StateDir,
    programs: &Programs,
    ports: &Ports,
    tls: Option<(&Places, &Tls)>,
) -> anyhow::Result<Vec<Component>> {
    let make = |(index, port): (usize, u16)| {
        let port = ports.behind(port)?;
        let dir = state.redis(index + 1);
        fs::create_dir_all(&dir)?;
        let program = Program::new(&programs.redis, &dir)
            .args(["--bind", "127.0.0.1", "--daemonize", "no", "--appendonly", "yes"])
            .args(["--save", "", "--loglevel", "warning"])
            .args(listen(port, tls.map(|(places, _)| places)));
        Ok(Component {
            name: format!("redis-{}", index + 1),
            port,
            program,
            stop_signal: Signal::SIGTERM,
            grace: Duration::from_secs(10),
            probe: Probe::Redis(port, tls.map(|(_, tls)| tls.client_config(REDIS))),
        })
    };
    ports.redis.into_iter().enumerate().map(make).collect()
}

fn listen(port: u16, tls: Option<&Places>) -> Vec<String> {
    let port = port.to_string();
    let Some(places) = tls else { return vec!["--port".to_owned(), port] };
    let (identity, roots) = (text(&places.identity(REDIS)), text(&places.roots()));
    let settings = [
        ("--port", "0"),
        ("--tls-port", &port),
        ("--tls-cert-file", &identity),
        ("--tls-key-file", &identity),
        ("--tls-ca-cert-file", &roots),
        ("--tls-auth-clients", "yes"),
        ("--tls-protocols", "TLSv1.3"),
    ];
    settings.into_iter().flat_map(|(key, value)| [key.to_owned(), value.to_owned()]).collect()
}
