//! The inventory service's database.

use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use super::messaging::Messaging;

/// One product's stock beside everything that must add up to it.
#[derive(Debug, Default)]
pub(super) struct Stock {
    pub(super) sku: String,
    pub(super) on_hand: i64,
    pub(super) available: i64,
    pub(super) reserved: i64,
    /// The sums of the ledger.
    pub(super) ledger_available: i64,
    pub(super) ledger_reserved: i64,
    /// What came in by imports: the ledger's rows that no order caused.
    pub(super) opening: i64,
    /// The quantities of reservations that are RESERVED, and of those that are COMMITTED.
    pub(super) reserved_lines: i64,
    pub(super) committed_lines: i64,
}

/// One reservation.
#[derive(Debug)]
pub(super) struct Reservation {
    pub(super) order: Uuid,
    pub(super) state: String,
}

/// Everything in the database.
#[derive(Debug, Default)]
pub(super) struct InventoryDb {
    pub(super) stock: Vec<Stock>,
    pub(super) reservations: Vec<Reservation>,
    pub(super) messaging: Messaging,
}

impl InventoryDb {
    /// Reads everything within the connection's transaction.
    pub(super) async fn load(db: &mut PgConnection) -> Result<Self, sqlx::Error> {
        Ok(Self {
            stock: stock(db).await?,
            reservations: reservations(db).await?,
            messaging: Messaging::load(db).await?,
        })
    }
}

/// The full join also shows ledger rows and lines of products that have no stock row.
const STOCK: &str = "
    WITH ledger AS (
        SELECT sku,
            sum(delta_available)::bigint AS available,
            sum(delta_reserved)::bigint AS reserved,
            coalesce(sum(delta_available) FILTER (WHERE order_id IS NULL), 0)::bigint AS opening
        FROM stock_ledger GROUP BY sku
    ), lines AS (
        SELECT line.sku,
            coalesce(sum(line.quantity) FILTER (WHERE upper(r.state) = 'RESERVED'), 0)::bigint AS reserved,
            coalesce(sum(line.quantity) FILTER (WHERE upper(r.state) = 'COMMITTED'), 0)::bigint AS committed
        FROM reservation_line line JOIN reservation r USING (order_id) GROUP BY line.sku
    )
    SELECT sku,
        coalesce(s.on_hand, 0)::bigint AS on_hand,
        coalesce(s.available, 0)::bigint AS available,
        coalesce(s.reserved, 0)::bigint AS reserved,
        coalesce(ledger.available, 0) AS ledger_available,
        coalesce(ledger.reserved, 0) AS ledger_reserved,
        coalesce(ledger.opening, 0) AS opening,
        coalesce(lines.reserved, 0) AS reserved_lines,
        coalesce(lines.committed, 0) AS committed_lines
    FROM stock s FULL JOIN ledger USING (sku) FULL JOIN lines USING (sku)
    ORDER BY sku";

async fn stock(db: &mut PgConnection) -> Result<Vec<Stock>, sqlx::Error> {
    let rows = sqlx::query(STOCK).fetch_all(db).await?;
    rows.iter()
        .map(|row| {
            Ok(Stock {
                sku: row.try_get("sku")?,
                on_hand: row.try_get("on_hand")?,
                available: row.try_get("available")?,
                reserved: row.try_get("reserved")?,
                ledger_available: row.try_get("ledger_available")?,
                ledger_reserved: row.try_get("ledger_reserved")?,
                opening: row.try_get("opening")?,
                reserved_lines: row.try_get("reserved_lines")?,
                committed_lines: row.try_get("committed_lines")?,
            })
        })
        .collect()
}

async fn reservations(db: &mut PgConnection) -> Result<Vec<Reservation>, sqlx::Error> {
    let rows =
        sqlx::query("SELECT order_id, upper(state) AS state FROM reservation ORDER BY order_id")
            .fetch_all(db)
            .await?;
    rows.iter()
        .map(|row| {
            Ok(Reservation { order: row.try_get("order_id")?, state: row.try_get("state")? })
        })
        .collect()
}
