//! Where the auditor reads, and one reading of everything.

use std::{collections::HashMap, path::Path};

use anyhow::Context as _;
use serde::Deserialize;
use sqlx::{Connection as _, PgConnection};

use super::{
    inventory::InventoryDb,
    messaging,
    notification::{self, NotificationDb},
    order::{self, OrderDb},
    payment::PaymentDb,
    provider::ProviderDb,
    topics::{self, Kafka, Topics},
};

/// The five databases: `databases.json` in the state directory of `portolan up`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Databases {
    pub(super) order: String,
    pub(super) inventory: String,
    pub(super) payment: String,
    pub(super) notification: String,
    pub(super) psp: String,
}

impl std::fmt::Debug for Databases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URLs carry passwords.
        f.debug_struct("Databases").finish_non_exhaustive()
    }
}

impl Databases {
    /// Reads the file that `portolan up` writes.
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(file)
            .with_context(|| format!("cannot read {} (is the shop up?)", file.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} is not a list of databases", file.display()))
    }
}

/// One reading of everything, each database as of one moment.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) topics: Topics,
    pub(super) provider: ProviderDb,
    pub(super) payment: PaymentDb,
    pub(super) order: OrderDb,
    pub(super) inventory: InventoryDb,
    pub(super) notification: NotificationDb,
}

/// Opens a database and a transaction that sees one moment and changes nothing.
macro_rules! reading {
    ($url:expr, $what:literal, $db:ident => $read:expr) => {{
        async {
            let mut connection = PgConnection::connect($url).await?;
            let mut $db = connection.begin().await?;
            sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                .execute(&mut *$db)
                .await?;
            let read = $read.await?;
            $db.commit().await?;
            connection.close().await?;
            Ok::<_, sqlx::Error>(read)
        }
        .await
        .with_context(|| format!("cannot read the {} database", $what))
    }};
}

impl Snapshot {
    /// Reads the topics, then the provider, then payment, then order: whatever came first is
    /// explained by what is read later, even while the shop is working.
    pub(super) async fn read(databases: &Databases, kafka: &Kafka) -> anyhow::Result<Self> {
        let kafka = kafka.clone();
        let topics = tokio::task::spawn_blocking(move || topics::read(&kafka)).await??;
        let Databases { order, inventory, payment, notification, psp } = databases;
        Ok(Self {
            topics,
            provider: reading!(psp, "provider's", db => ProviderDb::load(&mut db))?,
            payment: reading!(payment, "payment", db => PaymentDb::load(&mut db))?,
            order: reading!(order, "order", db => OrderDb::load(&mut db))?,
            inventory: reading!(inventory, "inventory", db => InventoryDb::load(&mut db))?,
            notification: reading!(notification, "notification", db => NotificationDb::load(&mut db))?,
        })
    }
}

/// Every customer's fence, as it is before anything else is read.
pub(super) async fn fences(databases: &Databases) -> anyhow::Result<HashMap<String, i64>> {
    reading!(&databases.order, "order", db => order::fences(&mut db))
}

/// What is still to be done, in words; empty at rest.
pub(super) async fn unfinished(databases: &Databases) -> anyhow::Result<Vec<String>> {
    let Databases { order, inventory, payment, notification, psp: _ } = databases;
    let mut work = Vec::new();
    let mut add = |service: &str, what: &str, count: i64| {
        if count > 0 {
            work.push(format!("{service}: {count} {what}"));
        }
    };
    for (service, url) in [
        ("order", order),
        ("inventory", inventory),
        ("payment", payment),
        ("notification", notification),
    ] {
        let waiting = reading!(url, "service's", db => messaging::unpublished(&mut db))
            .with_context(|| format!("cannot ask {service}"))?;
        add(service, "events not yet published", waiting);
    }
    add("order", "orders not final", reading!(order, "order", db => order::open(&mut db))?);
    add(
        "payment",
        "payments not final",
        reading!(payment, "payment", db => super::payment::open(&mut db))?,
    );
    add(
        "notification",
        "notifications not sent",
        reading!(notification, "notification", db => notification::open(&mut db))?,
    );
    Ok(work)
}
