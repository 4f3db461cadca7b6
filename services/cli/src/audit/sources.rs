//! Where the auditor reads, and one reading of everything.

use std::collections::HashMap;

use anyhow::Context as _;
use sqlx::Connection as _;
use uuid::Uuid;

use super::{
    databases::Databases,
    inventory::InventoryDb,
    messaging,
    notification::{self, NotificationDb},
    order::{self, OrderDb},
    payment::{self, PaymentDb},
    provider::ProviderDb,
    topics::{self, Kafka, Topics},
};

/// One reading of everything, each database as of one moment.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) topics: Topics,
    /// None where its books are not ours to read.
    pub(super) provider: Option<ProviderDb>,
    pub(super) payment: PaymentDb,
    pub(super) order: OrderDb,
    pub(super) inventory: InventoryDb,
    pub(super) notification: NotificationDb,
}

/// Opens a database and a transaction that sees one moment and changes nothing.
macro_rules! reading {
    ($all:expr, $url:expr, $what:literal, $db:ident => $read:expr) => {{
        async {
            let mut connection = $all.connect($url).await?;
            let mut $db = connection.begin().await?;
            sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                .execute(&mut *$db)
                .await?;
            let read = $read.await?;
            $db.commit().await?;
            connection.close().await?;
            anyhow::Ok(read)
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
        let all = databases;
        Ok(Self {
            topics,
            provider: match &all.psp {
                Some(psp) => {
                    Some(reading!(all, psp, "provider's", db => ProviderDb::load(&mut db))?)
                }
                None => None,
            },
            payment: reading!(all, &all.payment, "payment", db => PaymentDb::load(&mut db))?,
            order: reading!(all, &all.order, "order", db => OrderDb::load(&mut db))?,
            inventory: reading!(all, &all.inventory, "inventory", db => InventoryDb::load(&mut db))?,
            notification: reading!(all, &all.notification, "notification", db => NotificationDb::load(&mut db))?,
        })
    }
}

/// Every customer's fence, as it is before anything else is read.
pub(super) async fn fences(databases: &Databases) -> anyhow::Result<HashMap<String, i64>> {
    reading!(databases, &databases.order, "order", db => order::fences(&mut db))
}

/// What is still to be done, in words; empty at rest.
pub(super) async fn unfinished(databases: &Databases) -> anyhow::Result<Vec<String>> {
    let all = databases;
    let mut work = Vec::new();
    for (service, url) in [
        ("order", &all.order),
        ("inventory", &all.inventory),
        ("payment", &all.payment),
        ("notification", &all.notification),
    ] {
        let waiting = reading!(all, url, "service's", db => messaging::unpublished(&mut db))
            .with_context(|| format!("cannot ask {service}"))?;
        if waiting > 0 {
            work.push(format!("{service}: {waiting} events not yet published"));
        }
    }
    let orders = reading!(all, &all.order, "order", db => order::open(&mut db))?;
    let payments = reading!(all, &all.payment, "payment", db => payment::open(&mut db))?;
    let notifications =
        reading!(all, &all.notification, "notification", db => notification::open(&mut db))?;
    work.extend(named("order", "orders not final", &orders));
    work.extend(named("payment", "payments not final", &payments));
    work.extend(named("notification", "notifications not sent", &notifications));
    Ok(work)
}

/// How many orders are concerned, and the first of them.
fn named(service: &str, what: &str, orders: &[Uuid]) -> Option<String> {
    const NAMED: usize = 5;
    let count = orders.len();
    let first: Vec<_> = orders.iter().take(NAMED).map(Uuid::to_string).collect();
    let more = if count > NAMED { ", ..." } else { "" };
    (count > 0).then(|| format!("{service}: {count} {what}: {}{more}", first.join(", ")))
}
