//! The payment provider's own ledger.

use std::collections::HashMap;

use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

/// One request that the provider decided.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) idempotency_key: String,
    /// The order it is about, if any.
    pub(super) order: Option<Uuid>,
    pub(super) amount: i64,
    pub(super) currency: Option<String>,
    /// `approved`, `declined`, `captured`, `voided`, `nothing_to_void`, `refused` or `refunded`.
    pub(super) outcome: String,
}

/// An authorisation as it stands.
#[derive(Debug)]
struct Authorization {
    order: Option<Uuid>,
    open: bool,
}

/// Everything the provider knows.
#[derive(Debug, Default)]
pub(super) struct ProviderDb {
    pub(super) operations: Vec<Operation>,
    authorizations: HashMap<String, Authorization>,
}

impl ProviderDb {
    /// Reads everything within the connection's transaction.
    pub(super) async fn load(db: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let authorizations = authorizations(db).await?;
        let operations = operations(db, &authorizations).await?;
        Ok(Self { operations, authorizations })
    }

    /// The order of every authorisation that still holds money; one that belongs to no order
    /// counts for the nil id, which no order has.
    pub(super) fn open_authorizations(&self) -> impl Iterator<Item = Uuid> {
        self.authorizations
            .values()
            .filter(|authorization| authorization.open)
            .map(|authorization| authorization.order.unwrap_or_default())
    }
}

async fn authorizations(
    db: &mut PgConnection,
) -> Result<HashMap<String, Authorization>, sqlx::Error> {
    let rows = sqlx::query("SELECT authorization_key, status, order_id FROM authorization_state")
        .fetch_all(db)
        .await?;
    rows.iter()
        .map(|row| {
            let key: String = row.try_get("authorization_key")?;
            let order: Option<Uuid> = row.try_get("order_id")?;
            let status: &str = row.try_get("status")?;
            let open = status == "open";
            let order = order.or_else(|| order_of(&key));
            Ok((key, Authorization { order, open }))
        })
        .collect()
}

async fn operations(
    db: &mut PgConnection,
    authorizations: &HashMap<String, Authorization>,
) -> Result<Vec<Operation>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT idempotency_key, authorization_key, order_id, amount_minor, currency, outcome
         FROM operation ORDER BY created_at, idempotency_key",
    )
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            let idempotency_key: String = row.try_get("idempotency_key")?;
            let authorization: &str = row.try_get("authorization_key")?;
            let order: Option<Uuid> = row.try_get("order_id")?;
            let of_authorization = || authorizations.get(authorization)?.order;
            Ok(Operation {
                order: order.or_else(of_authorization).or_else(|| order_of(&idempotency_key)),
                idempotency_key,
                amount: row.try_get::<Option<i64>, _>("amount_minor")?.unwrap_or(0),
                currency: row.try_get("currency")?,
                outcome: row.try_get("outcome")?,
            })
        })
        .collect()
}

/// The order that a key like `auth:<order>` speaks of.
fn order_of(key: &str) -> Option<Uuid> {
    key.split_once(':').and_then(|(_, order)| Uuid::try_parse(order).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_its_order() {
        let order = Uuid::from_u128(7);
        assert_eq!(order_of(&format!("cap:{order}")), Some(order));
        assert_eq!(order_of("cap:7"), None);
        assert_eq!(order_of("something"), None);
    }
}
