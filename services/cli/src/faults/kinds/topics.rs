//! Records that come twice, in another order, or that nobody can apply.

use anyhow::Context as _;
use portolan_kernel::{IdGen as _, RandomIds, SystemClock};
use portolan_proto::{Event as _, TOPICS, Topic, events::v1::OrderConfirmed};
use uuid::Uuid;

use super::{
    super::{installation::Installation, schedule::Fault},
    records::{self, Copied},
};

/// How many records are written once more in another order.
const REORDERED: usize = 400;

fn topic(name: &str) -> anyhow::Result<Topic> {
    let wanted = format!("portolan.{name}.v1");
    TOPICS.into_iter().find(|topic| topic.name() == wanted).context("no such topic")
}

/// A whole topic once more, behind what is there.
pub(super) async fn duplicate(shop: &Installation, fault: &Fault) -> anyhow::Result<()> {
    let brokers = shop.brokers()?;
    let all = records::read(&brokers, topic(&fault.target)?).await?;
    records::write(&brokers, &all).await
}

/// The younger records of all topics once more, the last one first: across topics, and older ones
/// behind younger ones.
pub(super) async fn reorder(shop: &Installation) -> anyhow::Result<()> {
    let brokers = shop.brokers()?;
    let mut all = Vec::new();
    for topic in TOPICS {
        let found = records::read(&brokers, topic).await?;
        all.extend(found.into_iter().rev().take(REORDERED / TOPICS.len()));
    }
    all.sort_by(|left, right| right.header("ce_time").cmp(&left.header("ce_time")));
    records::write(&brokers, &all).await
}

/// A record that must become a dead letter: one that is not what it says it is, or one about an
/// order that does not exist. Nobody else's order is behind it.
pub(super) async fn poison(shop: &Installation, fault: &Fault) -> anyhow::Result<()> {
    let brokers = shop.brokers()?;
    let (name, garbage) = match fault.target.strip_prefix("stranger-") {
        Some(name) => (name, false),
        None => (fault.target.as_str(), true),
    };
    let all = records::read(&brokers, topic(name)?).await?;
    let model = all
        .into_iter()
        .rev()
        .find(|record| garbage || record.header("ce_type") == Some(OrderConfirmed::TYPE));
    let (id, mut forged) = forge(model.context("nothing to forge yet")?);
    if garbage {
        // No field of a message begins so.
        forged.payload = vec![0xff; 16];
    }
    shop.plant(id);
    records::write(&brokers, &[forged]).await
}

/// The record as one about another order, under an id of its own.
fn forge(mut record: Copied) -> (Uuid, Copied) {
    let ids = RandomIds(SystemClock);
    let (id, order) = (ids.next(), ids.next());
    for (name, value) in &mut record.headers {
        match name.as_str() {
            "ce_id" => *value = id.to_string().into_bytes(),
            "ce_subject" | "ce_partitionkey" => *value = order.to_string().into_bytes(),
            _ => {}
        }
    }
    record.key = order.to_string().into_bytes();
    (id, record)
}
