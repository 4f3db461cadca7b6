use portolan_kernel::OrderId;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// One event in the life of an order.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The event.
    pub event_id: Uuid,
    /// The order.
    pub order_id: Uuid,
    /// The CloudEvents type.
    pub event_type: String,
    /// The CloudEvents source.
    pub source: String,
    /// The version of its aggregate.
    pub version: i64,
    /// When its producer recorded it.
    pub at: OffsetDateTime,
    /// The trace, 32 hexadecimal digits or empty.
    pub trace_id: String,
    /// The event's own words; never a card token.
    pub detail: String,
}

/// Adds entries; one that is there already stays as it is.
pub async fn insert(conn: &mut PgConnection, entries: &[Entry]) -> Result<(), sqlx::Error> {
    let ids: Vec<Uuid> = entries.iter().map(|e| e.event_id).collect();
    let orders: Vec<Uuid> = entries.iter().map(|e| e.order_id).collect();
    let types: Vec<String> = entries.iter().map(|e| e.event_type.clone()).collect();
    let sources: Vec<String> = entries.iter().map(|e| e.source.clone()).collect();
    let versions: Vec<i64> = entries.iter().map(|e| e.version).collect();
    let times: Vec<OffsetDateTime> = entries.iter().map(|e| e.at).collect();
    let traces: Vec<String> = entries.iter().map(|e| e.trace_id.clone()).collect();
    let details: Vec<String> = entries.iter().map(|e| e.detail.clone()).collect();
    sqlx::query!(
        "INSERT INTO order_timeline (event_id, order_id, type, source, version, at, trace_id, detail)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bigint[],
                              $6::timestamptz[], $7::text[], $8::text[]) AS e (event_id)
         ORDER BY event_id
         ON CONFLICT DO NOTHING",
        &ids,
        &orders,
        &types,
        &sources,
        &versions,
        &times,
        &traces,
        &details,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The timeline of one order.
pub async fn list(conn: &mut PgConnection, order: OrderId) -> Result<Vec<Entry>, sqlx::Error> {
    sqlx::query_as!(
        Entry,
        "SELECT event_id, order_id, type AS event_type, source, version, at, trace_id, detail
         FROM order_timeline WHERE order_id = $1
         ORDER BY at, event_id",
        order.0,
    )
    .fetch_all(conn)
    .await
}
