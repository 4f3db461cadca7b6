use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

/// Every port of the local installation. All are on the loopback interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Ports {
    pub gateway: u16,
    pub order: u16,
    pub inventory: u16,
    pub payment: u16,
    pub notification: u16,
    pub psp: u16,
    pub postgres: u16,
    pub kafka: u16,
    pub kafka_controller: u16,
    pub redis: [u16; 3],
    /// From a service's port to its admin port.
    pub admin_distance: u16,
    /// From a service's port to its second replica's.
    pub replica_distance: u16,
    /// From where PostgreSQL, Kafka, Redis and the provider are looked for to where they listen, and
    /// from where a service listens to where the others look for it: something that is not ours to
    /// start stands in between. 0 where nothing does.
    pub detour: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            gateway: 8080,
            order: 8441,
            inventory: 8442,
            payment: 8443,
            notification: 8444,
            psp: 8445,
            postgres: 5433,
            kafka: 9092,
            kafka_controller: 9093,
            redis: [6381, 6382, 6383],
            admin_distance: 1000,
            replica_distance: 10,
            detour: 0,
        }
    }
}

impl Ports {
    /// Where something listens that is looked for at `port`, or the other way round for a service.
    ///
    /// # Errors
    /// That would be above 65535.
    pub(crate) fn behind(&self, port: u16) -> anyhow::Result<u16> {
        let detour = self.detour;
        port.checked_add(detour)
            .with_context(|| format!("port {port} plus the detour {detour} is above 65535"))
    }

    /// The same ports, all `offset` further up.
    ///
    /// # Errors
    /// One would be above 65535.
    pub(crate) fn shifted(mut self, offset: u16) -> anyhow::Result<Self> {
        let [first, second, third] = &mut self.redis;
        let all = [
            &mut self.gateway,
            &mut self.order,
            &mut self.inventory,
            &mut self.payment,
            &mut self.notification,
            &mut self.psp,
            &mut self.postgres,
            &mut self.kafka,
            &mut self.kafka_controller,
            first,
            second,
            third,
        ];
        for port in all {
            *port = port
                .checked_add(offset)
                .with_context(|| format!("port {port} plus the offset {offset} is above 65535"))?;
        }
        Ok(self)
    }
}

/// A loopback address.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Finds out, before anything is started, whether all ports are free and different.
///
/// # Errors
/// Names every port that is not, and the component that wants it.
pub(crate) fn check_free(wanted: &[(u16, String)]) -> anyhow::Result<()> {
    let mut problems = Vec::new();
    for (index, (port, name)) in wanted.iter().enumerate() {
        if let Some((_, other)) = wanted.iter().take(index).find(|(earlier, _)| earlier == port) {
            problems.push(format!("port {port} is configured for both {other} and {name}"));
        } else if let Err(error) = TcpListener::bind(loopback(*port)) {
            problems.push(if error.kind() == ErrorKind::AddrInUse {
                format!("port {port} ({name}) is taken")
            } else {
                format!("port {port} ({name}) cannot be used: {error}")
            });
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    bail!(
        "{}; free them, or choose others with --port-offset or portolan.toml",
        problems.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_together_with_its_component() {
        let holder = TcpListener::bind(loopback(0)).unwrap();
        let port = holder.local_addr().unwrap().port();
        let error = check_free(&[(port, "kafka".to_owned())]).unwrap_err().to_string();
        assert!(error.contains(&format!("port {port} (kafka) is taken")), "{error}");
        drop(holder);
        check_free(&[(port, "kafka".to_owned())]).unwrap();
    }

    #[test]
    fn two_components_cannot_have_one_port() {
        let free = TcpListener::bind(loopback(0)).unwrap().local_addr().unwrap().port();
        let error =
            check_free(&[(free, "order".to_owned()), (free, "psp".to_owned())]).unwrap_err();
        assert!(error.to_string().contains("both order and psp"), "{error}");
    }

    #[test]
    fn an_offset_moves_every_port_and_must_fit() {
        let ports = Ports::default().shifted(20_000).unwrap();
        assert_eq!(
            (ports.gateway, ports.postgres, ports.redis),
            (28_080, 25_433, [26_381, 26_382, 26_383])
        );
        assert!(Ports::default().shifted(60_000).is_err());
    }
}
