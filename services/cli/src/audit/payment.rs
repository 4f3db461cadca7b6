//! The payment service's database.

use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::messaging::Messaging;

/// One payment.
#[derive(Debug)]
pub(super) struct Payment {
    pub(super) order: Uuid,
    pub(super) state: String,
}

/// What the service booked.
#[derive(Debug)]
pub(super) struct Booked {
    pub(super) order: Uuid,
    /// `AUTH`, `CAPTURE`, `VOID` or `REFUND`.
    pub(super) kind: String,
    pub(super) amount: i64,
}

/// Everything in the database.
#[derive(Debug, Default)]
pub(super) struct PaymentDb {
    pub(super) payments: Vec<Payment>,
    pub(super) ledger: Vec<Booked>,
    pub(super) messaging: Messaging,
}

impl PaymentDb {
    /// Reads everything within the connection's transaction.
    pub(super) async fn load(db: &mut PgConnection) -> Result<Self, sqlx::Error> {
        Ok(Self {
            payments: payments(db).await?,
            ledger: ledger(db).await?,
            messaging: Messaging::load(db).await?,
        })
    }
}

async fn payments(db: &mut PgConnection) -> Result<Vec<Payment>, sqlx::Error> {
    let rows = sqlx::query("SELECT order_id, upper(state) AS state FROM payment ORDER BY order_id")
        .fetch_all(db)
        .await?;
    rows.iter()
        .map(|row| Ok(Payment { order: row.try_get("order_id")?, state: row.try_get("state")? }))
        .collect()
}

async fn ledger(db: &mut PgConnection) -> Result<Vec<Booked>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT order_id, upper(kind) AS kind, amount FROM payment_ledger ORDER BY order_id, kind",
    )
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Booked {
                order: row.try_get("order_id")?,
                kind: row.try_get("kind")?,
                amount: row.try_get("amount")?,
            })
        })
        .collect()
}

/// Whose payments wait for the provider or for their order's decision.
pub(super) async fn open(db: &mut PgConnection) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT order_id FROM payment
         WHERE upper(state) NOT IN ('DECLINED', 'CAPTURED', 'VOIDED', 'CANCELLED') ORDER BY 1",
    )
    .fetch_all(db)
    .await
}
