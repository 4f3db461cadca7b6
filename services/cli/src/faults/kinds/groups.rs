//! Consumer groups that begin again, and groups that find no rest.

use std::time::Duration;

use anyhow::bail;
use nix::sys::signal::Signal;
use portolan_proto::{TOPICS, Topic};
use rdkafka::{
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
};
use tokio::time::{Instant, sleep};

use super::{
    super::{installation::Installation, schedule::Fault},
    records::client,
};

/// How long the broker may take to give up members that stand still.
const GIVEN_UP: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How long a stranger stays in a group.
const VISIT: Duration = Duration::from_millis(700);

/// What each group reads.
fn topics(service: &str) -> Vec<&'static str> {
    let read: &[Topic] = match service {
        "order" => &TOPICS,
        "payment" => &[Topic::Inventory, Topic::Order],
        _ => &[Topic::Order],
    };
    read.iter().map(|topic| topic.name()).collect()
}

/// Makes the broker forget how far a group has read, so that it begins at the beginning. Its members
/// stand still until the broker gives them up; then they go on and join anew.
pub(super) async fn reset(shop: &Installation, fault: &Fault) -> anyhow::Result<()> {
    let mut members = Vec::new();
    for name in [fault.target.clone(), format!("{}-2", fault.target)] {
        members.push(shop.process(&name).await?);
    }
    for member in &members {
        member.signal_group(Signal::SIGSTOP);
    }
    let forgotten = forget(&shop.brokers()?, &format!("portolan.{}", fault.target)).await;
    for member in &members {
        member.signal_group(Signal::SIGCONT);
    }
    forgotten
}

async fn forget(brokers: &str, group: &str) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(brokers, "portolan-faults").create()?;
    let deadline = Instant::now() + GIVEN_UP;
    loop {
        let deleted = admin.delete_groups(&[group], &AdminOptions::new()).await?;
        if deleted.iter().all(Result::is_ok) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("the broker does not forget {group}: {deleted:?}");
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// A stranger joins the group and leaves it again and again: every time the partitions are dealt
/// anew.
pub(super) async fn rebalance(shop: &Installation, fault: &Fault) -> anyhow::Result<()> {
    let (brokers, service, lasts) = (shop.brokers()?, fault.target.clone(), fault.lasts());
    let visits = move || -> anyhow::Result<()> {
        let deadline = std::time::Instant::now() + lasts;
        while std::time::Instant::now() < deadline {
            let stranger: BaseConsumer = client(&brokers, &format!("portolan.{service}"))
                .set("partition.assignment.strategy", "cooperative-sticky")
                .set("session.timeout.ms", "10000")
                .create()?;
            stranger.subscribe(&topics(&service))?;
            let leaving = std::time::Instant::now() + VISIT;
            while std::time::Instant::now() < leaving {
                // What it may be given it does not read: it commits nothing.
                let _unread = stranger.poll(Duration::from_millis(50));
            }
        }
        Ok(())
    };
    tokio::task::spawn_blocking(visits).await?
}
