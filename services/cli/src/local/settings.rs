use std::{path::Path, time::Duration};

use anyhow::{Context as _, bail};
use figment::{
    Figment,
    providers::{Format as _, Toml},
};
use serde::Deserialize;

use super::{args::UpArgs, ports::Ports, services::Service};
use crate::catalogue::Catalogue;

/// The file that is read when none is named.
const DEFAULT_FILE: &str = "portolan.toml";

/// What the configuration file may say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    replicas: Option<u16>,
    ports: Ports,
}

/// One setting of one service: becomes a variable of its environment, which wins over its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Override {
    pub service: String,
    pub variable: String,
    pub value: String,
}

/// How the installation is to be: command line over file over defaults.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub ports: Ports,
    pub replicas: u16,
    pub overrides: Vec<Override>,
    pub postgres_user: String,
    /// How long the services' certificates are valid, with `--tls`.
    pub leaf_ttl: Option<Duration>,
    /// The catalogue to load, unless it is to be left as it is.
    pub catalogue: Option<Catalogue>,
}

impl Settings {
    /// # Errors
    /// The file is missing though named, cannot be read, or says something unknown; or an argument
    /// is out of range; or a port would be.
    pub(crate) fn load(args: &UpArgs) -> anyhow::Result<Self> {
        let file = read(args.config.as_deref())?;
        let replicas = args.replicas.or(file.replicas).unwrap_or(1);
        if !(1..=2).contains(&replicas) {
            bail!("replicas must be 1 or 2, not {replicas}");
        }
        let mut ports = file.ports.shifted(args.port_offset)?;
        ports.detour = args.detour.unwrap_or(ports.detour);
        let settings = Self {
            ports,
            replicas,
            overrides: args
                .set
                .iter()
                .map(|text| parse_override(text))
                .collect::<Result<_, _>>()?,
            postgres_user: args.postgres_user.clone(),
            leaf_ttl: args.tls.then_some(args.tls_leaf_ttl),
            catalogue: (!args.no_seed)
                .then(|| Catalogue::read(args.catalogue.as_deref()))
                .transpose()?,
        };
        settings.wanted_ports()?;
        Ok(settings)
    }

    /// Every port with its component.
    ///
    /// # Errors
    /// One would be above 65535.
    pub(crate) fn wanted_ports(&self) -> anyhow::Result<Vec<(u16, String)>> {
        let ports = &self.ports;
        let mut wanted = vec![
            (ports.behind(ports.postgres)?, "postgres".to_owned()),
            (ports.behind(ports.kafka)?, "kafka".to_owned()),
            (ports.kafka_controller, "kafka, controller".to_owned()),
        ];
        for (port, n) in ports.redis.into_iter().zip(1..) {
            wanted.push((ports.behind(port)?, format!("redis-{n}")));
        }
        for service in Service::ALL {
            for replica in 0..service.replicas(self.replicas) {
                let (listen, label) = (service.listen(ports, replica)?, service.label(replica));
                wanted.push((listen.port, label.clone()));
                wanted.push((listen.admin, format!("{label}, admin")));
            }
        }
        Ok(wanted)
    }
}

fn read(named: Option<&Path>) -> anyhow::Result<File> {
    let path = named.unwrap_or_else(|| Path::new(DEFAULT_FILE));
    if !path.exists() {
        return match named {
            Some(path) => bail!("the configuration file {} does not exist", path.display()),
            None => Ok(File::default()),
        };
    }
    Figment::new()
        .merge(Toml::file_exact(path))
        .extract()
        .with_context(|| format!("the configuration file {}", path.display()))
}

fn parse_override(text: &str) -> anyhow::Result<Override> {
    let parsed = text.split_once('=').and_then(|(path, value)| {
        let (service, key) = path.split_once('.')?;
        let known = Service::ALL.into_iter().any(|known| known.name() == service);
        (known && !key.is_empty()).then(|| Override {
            service: service.to_owned(),
            variable: format!("PORTOLAN__{}", key.to_uppercase().replace('.', "__")),
            value: value.to_owned(),
        })
    });
    parsed.with_context(|| {
        let names = Service::ALL.map(Service::name).join(", ");
        format!("--set takes SERVICE.KEY=VALUE with one of {names}, not {text:?}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(ports: Ports, replicas: u16) -> Settings {
        let (overrides, postgres_user) = (Vec::new(), "postgres".to_owned());
        Settings { ports, replicas, overrides, postgres_user, leaf_ttl: None, catalogue: None }
    }

    #[test]
    fn a_port_that_would_be_too_high_is_one_clear_line() {
        let said = |ports, replicas| settings(ports, replicas).wanted_ports().unwrap_err();
        let shifted = said(Ports::default().shifted(56_200).unwrap(), 1).to_string();
        assert!(shifted.starts_with("psp at port 64645"), "{shifted}");
        let gateway = Ports { gateway: 65_000, ..Ports::default() };
        let error = said(gateway, 1).to_string();
        assert!(error.starts_with("gateway at port 65000"), "{error}");
        // The last port there is belongs to the first replica: there is none for the second.
        let order = Ports { order: 64_535, ..Ports::default() };
        assert_eq!(settings(order.clone(), 1).wanted_ports().unwrap().len(), 18);
        assert!(said(order, 2).to_string().starts_with("order-2 "));
        let far = Ports { replica_distance: u16::MAX, ..Ports::default() };
        settings(far.clone(), 1).wanted_ports().unwrap();
        assert!(settings(far, 2).wanted_ports().is_err());
    }

    #[test]
    fn what_is_reached_by_a_detour_listens_further_up_and_the_services_do_not() {
        let ports = Ports { detour: 300, ..Ports::default() };
        let wanted = settings(ports, 1).wanted_ports().unwrap();
        let of = |name: &str| wanted.iter().find(|(_, other)| other == name).map(|(port, _)| *port);
        assert_eq!([of("postgres"), of("kafka")], [Some(5_733), Some(9_392)]);
        assert_eq!(
            [of("redis-3"), of("psp"), of("order")],
            [Some(6_683), Some(8_745), Some(8_441)]
        );
    }

    #[test]
    fn an_override_becomes_a_variable_of_one_service() {
        let parsed = parse_override("order.orders.deadline_secs=60").unwrap();
        assert_eq!(parsed.service, "order");
        assert_eq!(parsed.variable, "PORTOLAN__ORDERS__DEADLINE_SECS");
        assert_eq!(parsed.value, "60");
        for bad in ["order", "order=1", ".x=1", "order.=1", "ordre.x=1"] {
            assert!(parse_override(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_unknown_key_in_the_file_is_named() {
        let error = Figment::new()
            .merge(Toml::string("[ports]\ngatewy = 1"))
            .extract::<File>()
            .unwrap_err()
            .to_string();
        assert!(error.contains("gatewy"), "{error}");
    }
}
