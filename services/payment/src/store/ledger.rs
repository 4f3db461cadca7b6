use portolan_kernel::{Money, OrderId};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::domain::Ledger;

/// Money that moved at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// For which order.
    pub order: OrderId,
    /// How.
    pub kind: Ledger,
    /// How much.
    pub amount: Money,
}

/// Writes entries. A second one of the same kind for the same order is refused by the key.
///
/// # Errors
/// The database's.
pub async fn record(conn: &mut PgConnection, entries: &[Entry]) -> Result<(), sqlx::Error> {
    if entries.is_empty() {
        return Ok(());
    }
    let orders: Vec<Uuid> = entries.iter().map(|entry| entry.order.0).collect();
    let kinds: Vec<String> = entries.iter().map(|entry| entry.kind.as_str().to_owned()).collect();
    let amounts: Vec<i64> = entries.iter().map(|entry| entry.amount.minor_units).collect();
    let currencies: Vec<String> =
        entries.iter().map(|entry| entry.amount.currency.to_string()).collect();
    sqlx::query!(
        "INSERT INTO payment_ledger (order_id, kind, amount, currency)
         SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[])",
        &orders,
        &kinds,
        &amounts,
        &currencies,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What was captured for an order, in minor units of the payment's currency.
///
/// # Errors
/// The database's.
pub async fn captured(
    database: impl PgExecutor<'_>,
    order: OrderId,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT amount FROM payment_ledger WHERE order_id = $1 AND kind = 'capture'",
        order.0,
    )
    .fetch_optional(database)
    .await
}
