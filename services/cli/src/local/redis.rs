//! Three independent Redis masters.

use std::{fs, time::Duration};

use nix::sys::signal::Signal;

use super::{
    component::{Component, Program},
    probe::Probe,
    programs::Programs,
    state::StateDir,
};

/// # Errors
/// A data directory cannot be made.
pub(crate) fn components(
    state: &StateDir,
    programs: &Programs,
    ports: &[u16],
) -> anyhow::Result<Vec<Component>> {
    let make = |(index, port): (usize, &u16)| {
        let dir = state.redis(index + 1);
        fs::create_dir_all(&dir)?;
        let port_text = port.to_string();
        let program = Program::new(&programs.redis, &dir)
            .args(["--port", &port_text, "--bind", "127.0.0.1", "--daemonize", "no"])
            .args(["--appendonly", "yes", "--save", "", "--loglevel", "warning"]);
        Ok(Component {
            name: format!("redis-{}", index + 1),
            port: *port,
            program,
            stop_signal: Signal::SIGTERM,
            grace: Duration::from_secs(10),
            probe: Probe::Redis(*port),
        })
    };
    ports.iter().enumerate().map(make).collect()
}
