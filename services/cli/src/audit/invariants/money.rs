//! The provider's ledger against the orders: I7.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::super::{order::Order, provider::ProviderDb, report::Finding};

/// What the provider did for one order.
#[derive(Debug, Default)]
pub(super) struct Charged {
    pub(super) approvals: u32,
    pub(super) authorized: i64,
    pub(super) captures: u32,
    pub(super) captured: i64,
    pub(super) refunds: u32,
    pub(super) currencies: Vec<String>,
}

/// The provider's ledger by order.
pub(super) fn charges(provider: &ProviderDb) -> BTreeMap<Uuid, Charged> {
    let mut by_order: BTreeMap<Uuid, Charged> = BTreeMap::new();
    for operation in &provider.operations {
        let Some(order) = operation.order else { continue };
        let charged = by_order.entry(order).or_default();
        match operation.outcome.as_str() {
            "approved" => {
                charged.approvals += 1;
                charged.authorized += operation.amount;
                charged.currencies.extend(operation.currency.clone());
            }
            "captured" => {
                charged.captures += 1;
                charged.captured += operation.amount;
            }
            "refunded" => charged.refunds += 1,
            _ => {}
        }
    }
    by_order
}

pub(super) fn i7(provider: Option<&ProviderDb>, orders: &HashMap<Uuid, &Order>) -> Finding {
    let mut finding = Finding::new(
        "I7",
        "the provider authorised at most the order's amount, captured at most that, once, and only when confirmed",
    );
    let Some(provider) = provider else {
        finding.skipped = Some("the provider's books are its own");
        return finding;
    };
    for operation in &provider.operations {
        finding.expect(operation.order.is_some(), || {
            format!("{}: about no order", operation.idempotency_key)
        });
    }
    for (id, charged) in charges(provider) {
        let Some(order) = orders.get(&id) else {
            finding.expect(charged.approvals + charged.captures == 0, || {
                format!("{id}: the provider holds {} for no order", charged.authorized)
            });
            continue;
        };
        finding.expect(fits(&charged, order), || {
            format!(
                "{id}: order of {} {} is {}; authorised {} in {} steps, captured {} in {} steps",
                order.amount,
                order.currency,
                order.state,
                charged.authorized,
                charged.approvals,
                charged.captured,
                charged.captures
            )
        });
    }
    finding
}

fn fits(charged: &Charged, order: &Order) -> bool {
    charged.approvals <= 1
        && charged.captures <= charged.approvals
        && (charged.approvals == 0 || charged.authorized == order.amount)
        && charged.captured <= charged.authorized
        && charged.currencies.iter().all(|currency| *currency == order.currency)
        && (charged.captures == 0 || matches!(order.state.as_str(), "CONFIRMED" | "COMPLETED"))
}
