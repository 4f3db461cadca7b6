//! The payment provider and the five services: their configuration files and how they are started.

use std::{fmt::Write as _, time::Duration};

use anyhow::Context as _;
use nix::sys::signal::Signal;
use portolan_auth::hash_password;
use portolan_runtime::TlsConfig;

use super::{
    certificates::{Places, pair, text as path_text},
    component::{Component, Program},
    edges::Edges,
    ports::{Ports, loopback},
    postgres::{OWNERS, Postgres},
    probe::Probe,
    programs::Programs,
    settings::Settings,
    state::{StateDir, write_private},
};

pub(crate) use portolan_auth::Role;

/// What tokens of the local issuer say about their origin and their use.
pub(crate) const ISSUER: &str = "portolan-dev";
pub(crate) const AUDIENCE: &str = "portolan";

/// The users that everybody may try the local shop with: names, roles. The password is the name and
/// `-demo`.
pub(crate) const DEMO_USERS: [(&str, Role); 3] =
    [("alice", Role::Customer), ("bob", Role::Customer), ("olga", Role::Operator)];

/// The password of a demo user.
pub(crate) fn demo_password(user: &str) -> String {
    format!("{user}-demo")
}

/// The ports of one replica of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    /// For its callers.
    pub port: u16,
    /// For health and metrics.
    pub admin: u16,
}

/// A service, in the order of starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Psp,
    Inventory,
    Payment,
    Notification,
    Order,
    Gateway,
}

impl Service {
    pub(crate) const ALL: [Self; 6] =
        [Self::Psp, Self::Inventory, Self::Payment, Self::Notification, Self::Order, Self::Gateway];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Psp => "psp",
            Self::Inventory => "inventory",
            Self::Payment => "payment",
            Self::Notification => "notification",
            Self::Order => "order",
            Self::Gateway => "gateway",
        }
    }

    const fn first_port(self, ports: &Ports) -> u16 {
        match self {
            Self::Psp => ports.psp,
            Self::Inventory => ports.inventory,
            Self::Payment => ports.payment,
            Self::Notification => ports.notification,
            Self::Order => ports.order,
            Self::Gateway => ports.gateway,
        }
    }

    /// Where a replica, counted from 0, listens.
    ///
    /// # Errors
    /// A port would be above 65535.
    pub(crate) fn listen(self, ports: &Ports, replica: u16) -> anyhow::Result<Listen> {
        let first = match self {
            Self::Psp => ports.behind(ports.psp)?,
            Self::Inventory | Self::Payment | Self::Notification | Self::Order | Self::Gateway => {
                self.first_port(ports)
            }
        };
        let port = replica.checked_mul(ports.replica_distance).and_then(|up| first.checked_add(up));
        let admin = port.and_then(|port| port.checked_add(ports.admin_distance));
        port.zip(admin).map(|(port, admin)| Listen { port, admin }).with_context(|| {
            format!(
                "{} at port {first} has its admin port ({} further up) above 65535; \
                 choose a lower port in portolan.toml or a lower --port-offset",
                self.label(replica),
                u32::from(replica) * u32::from(ports.replica_distance)
                    + u32::from(ports.admin_distance),
            )
        })
    }

    /// The provider is somebody else's, and there is one of it.
    pub(crate) const fn replicas(self, wanted: u16) -> u16 {
        match self {
            Self::Psp => 1,
            Self::Inventory | Self::Payment | Self::Notification | Self::Order | Self::Gateway => {
                wanted
            }
        }
    }

    const fn uses_kafka(self) -> bool {
        !matches!(self, Self::Psp | Self::Gateway)
    }

    /// What a replica is called.
    pub(crate) fn label(self, replica: u16) -> String {
        match replica {
            0 => self.name().to_owned(),
            other => format!("{}-{}", self.name(), other + 1),
        }
    }
}

/// Everything that the services' configuration is made of.
#[derive(Debug)]
pub(crate) struct Wiring<'a> {
    pub state: &'a StateDir,
    pub programs: &'a Programs,
    pub settings: &'a Settings,
    pub postgres: &'a Postgres<'a>,
    pub brokers: String,
    pub edges: &'a Edges,
    pub tls: Option<&'a Places>,
}

impl Wiring<'_> {
    /// Writes the configuration of one replica and says how to start it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn component(&self, service: Service, replica: u16) -> anyhow::Result<Component> {
        let label = service.label(replica);
        let file = self.state.config().join(format!("{label}.toml"));
        write_private(&file, self.config(service, replica)?.as_bytes())?;
        let mut program = Program::new(self.programs.service(service.name()), self.state.root())
            .env("PORTOLAN_CONFIG", &file.display().to_string());
        for setting in &self.settings.overrides {
            if setting.service == service.name() {
                program = program.env(&setting.variable, &setting.value);
            }
        }
        let listen = service.listen(&self.settings.ports, replica)?;
        Ok(Component {
            name: label,
            port: listen.port,
            program,
            stop_signal: Signal::SIGTERM,
            // The services drain for 20 s at most.
            grace: Duration::from_secs(25),
            probe: Probe::Ready(listen.admin),
        })
    }

    fn config(&self, service: Service, replica: u16) -> anyhow::Result<String> {
        let ports = &self.settings.ports;
        let own = service.listen(ports, replica)?;
        let url = |of: Service| -> anyhow::Result<String> {
            // A replica talks to its like, so that both halves of the installation are in use.
            let replica = replica.min(of.replicas(self.settings.replicas) - 1);
            let port = ports.behind(of.listen(ports, replica)?.port)?;
            Ok(quoted(&address(port, self.tls.is_some())))
        };
        let mut text = String::from("# Written by `portolan up`; changes are lost.\n");
        match service {
            Service::Order => writeln!(text, "inventory_url = {}", url(Service::Inventory)?)?,
            Service::Gateway => {
                writeln!(text, "order_url = {}", url(Service::Order)?)?;
                writeln!(text, "inventory_url = {}", url(Service::Inventory)?)?;
                writeln!(text, "payment_url = {}", url(Service::Payment)?)?;
                writeln!(text, "notification_url = {}", url(Service::Notification)?)?;
            }
            Service::Psp | Service::Inventory | Service::Payment | Service::Notification => {}
        }
        let (listen, admin) = (loopback(own.port), loopback(own.admin));
        writeln!(text, "\n[server]\nlisten = \"{listen}\"\nadmin_listen = \"{admin}\"")?;
        if let Some(places) = self.tls {
            text.push_str(&self.mesh(service, places));
        }
        let files = self.files(service);
        if OWNERS.contains(&service.name()) {
            let url = quoted(&self.postgres.url(service.name())?);
            write!(text, "\n[database]\nurl = {url}\n{files}")?;
        }
        if service.uses_kafka() {
            write!(text, "\n[kafka]\nbrokers = {}\n{files}", quoted(&self.brokers))?;
        }
        match service {
            Service::Payment => {
                let provider = quoted(&address(ports.psp, self.tls.is_some()));
                writeln!(text, "\n[psp]\nurl = {provider}")?;
            }
            Service::Gateway => {
                text.push_str(&self.gateway_auth()?);
                text.push_str(&self.quota(&files));
            }
            Service::Order => text.push_str(&self.lock(&files)),
            Service::Psp | Service::Inventory | Service::Notification => {}
        }
        Ok(text)
    }

    /// Who the service is and who may call it, behind `[server]`.
    fn mesh(&self, service: Service, places: &Places) -> String {
        let TlsConfig { identity, roots, trust_domain, namespace, poll_ms, .. } =
            places.config(service.name());
        let tls = format!(
            "max_connection_age_secs = {}\n\n[tls]\nidentity = {}\nroots = {}\n\
             trust_domain = {}\nnamespace = {}\npoll_ms = {poll_ms}\n",
            places.connection_age().as_secs(),
            quoted(&path_text(&identity)),
            quoted(&path_text(&roots)),
            quoted(&trust_domain),
            quoted(&namespace),
        );
        match service {
            // Whoever has a token may call it.
            Service::Gateway => tls,
            Service::Psp
            | Service::Inventory
            | Service::Payment
            | Service::Notification
            | Service::Order => tls + &self.edges.callers(service.name()),
        }
    }

    /// Where the masters of the customers' lock are.
    fn lock(&self, files: &str) -> String {
        let masters = self.settings.ports.redis.map(|port| quoted(&loopback(port).to_string()));
        format!("\n[lock]\nmasters = [{}]\n{files}", masters.join(", "))
    }

    /// Where what all gateways allow is counted: the last of the lock's masters, which a majority of
    /// the others does without.
    fn quota(&self, files: &str) -> String {
        let [.., port] = self.settings.ports.redis;
        format!("\n[quota]\nserver = {}\n{files}", quoted(&loopback(port).to_string()))
    }

    /// How the service proves itself to database, broker, the lock's masters and the quota's.
    fn files(&self, service: Service) -> String {
        pair(self.tls, service.name()).map_or_else(String::new, |(roots, identity)| {
            let (roots, identity) = (path_text(&roots), path_text(&identity));
            format!("tls_roots = {}\ntls_identity = {}\n", quoted(&roots), quoted(&identity))
        })
    }

    fn gateway_auth(&self) -> anyhow::Result<String> {
        let mut text = format!(
            "\n[auth]\nissuer = {}\naudience = {}\n\n[dev_issuer]\nenabled = true\nkey_file = {}\n",
            quoted(ISSUER),
            quoted(AUDIENCE),
            quoted(&self.state.issuer_key().display().to_string()),
        );
        for (user, role) in DEMO_USERS {
            let hash = hash_password(&demo_password(user)).context("a demo user's password")?;
            write!(
                text,
                "\n[[dev_issuer.users]]\nusername = {}\npassword_hash = {}\nroles = [{}]\n",
                quoted(user),
                quoted(&hash),
                quoted(role.as_str()),
            )?;
        }
        Ok(text)
    }
}

/// The URL of a port of this machine.
pub(crate) fn address(port: u16, secure: bool) -> String {
    let scheme = if secure { "https" } else { "http" };
    format!("{scheme}://{}", loopback(port))
}

/// A TOML basic string. JSON's escapes are a subset of TOML's.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_replica_is_ten_ports_up_and_there_is_one_provider() {
        let ports = Ports::default();
        let second = Listen { port: 8451, admin: 9451 };
        assert_eq!(Service::Order.listen(&ports, 1).unwrap(), second);
        assert_eq!(Service::Order.label(1), "order-2");
        assert_eq!(Service::Psp.replicas(2), 1);
    }

    #[test]
    fn any_path_becomes_a_valid_string_of_the_configuration() {
        assert_eq!(quoted(r#"/a "b"\c"#), r#""/a \"b\"\\c""#);
    }
}
