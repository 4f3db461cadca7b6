//! How orders ended, across all services: I4, Q3 and Q4.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use uuid::Uuid;

use super::super::{order::Order, provider::ProviderDb, report::Finding, sources::Snapshot};
use super::money::{Charged, charges};

pub(super) fn i4(all: &Snapshot) -> Finding {
    let mut finding = Finding::new(
        "I4",
        "an order has at most one reservation, one payment and one notification",
    );
    let mut seen = HashSet::new();
    let reservations = all.inventory.reservations.iter().map(|row| ("reservation", row.order));
    let payments = all.payment.payments.iter().map(|row| ("payment", row.order));
    let notifications =
        all.notification.notifications.iter().map(|row| ("notification", row.order));
    for (what, order) in reservations.chain(payments).chain(notifications) {
        finding.expect(seen.insert((what, order)), || format!("{order}: a second {what}"));
    }
    finding
}

/// Everything that the services hold about one order, at rest.
#[derive(Debug, Default)]
struct Story<'a> {
    order: Option<&'a Order>,
    reservation: Option<&'a str>,
    payment: Option<&'a str>,
    /// What the payment service's own ledger says was captured.
    booked: i64,
    /// What the provider's books say, where they can be read.
    charged: Option<Charged>,
    open_authorizations: u32,
    /// The messages of each kind: what is to be sent and what was sent, told apart by their ids.
    confirmed: BTreeSet<&'a str>,
    cancelled: BTreeSet<&'a str>,
    /// Whether what is marked as sent was really handed over.
    handed_over: bool,
}

impl Story<'_> {
    fn state(&self) -> &str {
        self.order.map_or("NONE", |order| &order.state)
    }

    fn told(&self, this: &BTreeSet<&str>, other: &BTreeSet<&str>) -> bool {
        this.len() == 1 && other.is_empty() && self.handed_over
    }

    /// Everything by which one sees from outside that the order was completed.
    fn signs_of_completion(&self) -> Vec<(&'static str, bool)> {
        let amount = self.order.map(|order| order.amount);
        let mut signs = vec![
            ("reservation COMMITTED", self.reservation == Some("COMMITTED")),
            ("payment CAPTURED", self.payment == Some("CAPTURED")),
        ];
        if let Some(charged) = &self.charged {
            let whole = charged.captures == 1 && Some(charged.captured) == amount;
            signs.push(("the whole amount captured once by the provider", whole));
            signs.push(("nothing refunded", charged.captures > 0 && charged.refunds == 0));
        }
        signs.push(("the whole amount booked", self.booked > 0 && Some(self.booked) == amount));
        let told = self.told(&self.confirmed, &self.cancelled);
        signs.push(("exactly one confirmed message", told));
        signs
    }

    /// What must be true of a cancelled order.
    fn signs_of_cancellation(&self) -> Vec<(&'static str, bool)> {
        let undone = matches!(self.reservation, None | Some("REJECTED" | "RELEASED"));
        let unpaid = matches!(self.payment, None | Some("CANCELLED" | "DECLINED" | "VOIDED"));
        let mut signs = vec![("reservation undone", undone), ("payment undone", unpaid)];
        if let Some(charged) = &self.charged {
            let free = charged.captures == 0 && self.open_authorizations == 0;
            signs.push(("nothing captured or held by the provider", free));
        }
        signs.push(("nothing booked", self.booked == 0));
        let told = self.told(&self.cancelled, &self.confirmed);
        signs.push(("exactly one cancelled message", told));
        signs
    }
}

fn stories(all: &Snapshot) -> BTreeMap<Uuid, Story<'_>> {
    let mut stories: BTreeMap<Uuid, Story<'_>> = BTreeMap::new();
    for order in &all.order.orders {
        stories.entry(order.id).or_default().order = Some(order);
    }
    for row in &all.inventory.reservations {
        stories.entry(row.order).or_default().reservation = Some(&row.state);
    }
    for row in &all.payment.payments {
        stories.entry(row.order).or_default().payment = Some(&row.state);
    }
    for row in &all.payment.ledger {
        if row.kind == "CAPTURE" {
            stories.entry(row.order).or_default().booked += row.amount;
        }
    }
    messages(all, &mut stories);
    if let Some(provider) = &all.provider {
        books(provider, &mut stories);
    }
    stories
}

/// What the provider did, or that it did nothing.
fn books(provider: &ProviderDb, stories: &mut BTreeMap<Uuid, Story<'_>>) {
    for order in provider.open_authorizations() {
        stories.entry(order).or_default().open_authorizations += 1;
    }
    let mut charges = charges(provider);
    for order in charges.keys() {
        stories.entry(*order).or_default();
    }
    for (order, story) in stories {
        story.charged = Some(charges.remove(order).unwrap_or_default());
    }
}

fn messages<'a>(all: &'a Snapshot, stories: &mut BTreeMap<Uuid, Story<'a>>) {
    let planned = all.notification.notifications.iter();
    let planned = planned.map(|row| (row.order, &row.kind, &row.message_id));
    let sent = all.notification.mails.iter().map(|row| (row.order, &row.kind, &row.message_id));
    for (order, kind, id) in planned.chain(sent.clone()) {
        let story = stories.entry(order).or_default();
        if kind == "CONFIRMED" { &mut story.confirmed } else { &mut story.cancelled }.insert(id);
    }
    let sent: HashSet<_> = sent.collect();
    for row in &all.notification.notifications {
        let there = sent.contains(&(row.order, &row.kind, &row.message_id));
        stories.entry(row.order).or_default().handed_over = there == (row.state == "SENT");
    }
}

pub(super) fn q3(all: &Snapshot) -> Finding {
    let mut finding = Finding::new(
        "Q3",
        "completed = goods committed = payment captured = captured once by the provider, in full, not refunded = one confirmed notification",
    );
    for (id, story) in stories(all) {
        let completed = story.state() == "COMPLETED";
        let disagree: Vec<&str> = story
            .signs_of_completion()
            .into_iter()
            .filter(|(_, present)| *present != completed)
            .map(|(sign, _)| sign)
            .collect();
        finding.expect(disagree.is_empty(), || {
            let (is, has) = (story.state(), if completed { "lacks" } else { "has" });
            format!("{id}: is {is} and {has}: {}", disagree.join(", "))
        });
    }
    finding
}

pub(super) fn q4(all: &Snapshot) -> Finding {
    let mut finding = Finding::new(
        "Q4",
        "a cancelled order keeps no goods, no money and no authorisation, and was told once",
    );
    for (id, story) in stories(all) {
        if story.state() != "CANCELLED" {
            continue;
        }
        let lacking: Vec<&str> = story
            .signs_of_cancellation()
            .into_iter()
            .filter(|(_, present)| !present)
            .map(|(sign, _)| sign)
            .collect();
        finding.expect(lacking.is_empty(), || {
            format!(
                "{id}: cancelled but not: {} (reservation {}, payment {})",
                lacking.join(", "),
                story.reservation.unwrap_or("NONE"),
                story.payment.unwrap_or("NONE")
            )
        });
    }
    finding
}

/// The orders by id.
pub(super) fn by_id(orders: &[Order]) -> HashMap<Uuid, &Order> {
    orders.iter().map(|order| (order.id, order)).collect()
}
