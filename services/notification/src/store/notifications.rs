use std::collections::HashMap;

use portolan_kernel::OrderId;
use portolan_runtime::telemetry::TraceContext;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{Ending, Kind, message_id};

/// A notification to store.
#[derive(Debug)]
pub(crate) struct New {
    pub(crate) order: OrderId,
    pub(crate) user_id: String,
    pub(crate) ending: Ending,
    pub(crate) trace: TraceContext,
}

/// A stored notification, as the RPC shows it.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) kind: Kind,
    pub(crate) state: String,
    pub(crate) message_id: String,
    pub(crate) sent_at: Option<OffsetDateTime>,
}

/// What these orders' customers are told already.
pub(crate) async fn existing_kinds(
    conn: &mut PgConnection,
    orders: &[Uuid],
) -> Result<HashMap<OrderId, Kind>, sqlx::Error> {
    let rows =
        sqlx::query!("SELECT order_id, kind FROM notification WHERE order_id = ANY ($1)", orders)
            .fetch_all(conn)
            .await?;
    rows.into_iter().map(|row| Ok((OrderId(row.order_id), kind(&row.kind)?))).collect()
}

/// Stores notifications: to be sent, or as sent when `recorded`.
pub(crate) async fn insert(
    conn: &mut PgConnection,
    new: &[New],
    recorded: bool,
) -> Result<(), sqlx::Error> {
    let orders: Vec<Uuid> = new.iter().map(|one| one.order.0).collect();
    let kinds: Vec<String> = new.iter().map(|one| one.ending.kind().as_str().to_owned()).collect();
    let ids: Vec<String> = new.iter().map(|one| message_id(one.order, one.ending.kind())).collect();
    let users: Vec<String> = new.iter().map(|one| one.user_id.clone()).collect();
    let traces: Vec<String> = new.iter().map(|one| one.trace.as_str().to_owned()).collect();
    let (amounts, currencies, reasons) = endings(new);
    sqlx::query!(
        "INSERT INTO notification
             (order_id, kind, message_id, user_id, amount_minor, currency, reason, trace, state,
              sent_at)
         SELECT n.*, CASE WHEN $9 THEN 'SENT' ELSE 'PENDING' END,
             CASE WHEN $9 THEN clock_timestamp() END
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[],
                     $7::text[], $8::text[]) AS n",
        &orders,
        &kinds,
        &ids,
        &users,
        &amounts as &[Option<i64>],
        &currencies as &[Option<String>],
        &reasons as &[Option<String>],
        &traces,
        recorded,
    )
    .execute(conn)
    .await?;
    Ok(())
}

type Columns = (Vec<Option<i64>>, Vec<Option<String>>, Vec<Option<String>>);

fn endings(new: &[New]) -> Columns {
    let (mut amounts, mut currencies, mut reasons) = (vec![], vec![], vec![]);
    for one in new {
        let (amount, currency, reason) = match &one.ending {
            Ending::Completed(paid) => {
                (Some(paid.minor_units), Some(paid.currency.as_str().to_owned()), None)
            }
            Ending::Cancelled(reason) => (None, None, Some(reason.clone())),
        };
        amounts.push(amount);
        currencies.push(currency);
        reasons.push(reason);
    }
    (amounts, currencies, reasons)
}

/// The notifications of an order.
pub(crate) async fn of_order(
    conn: &mut PgConnection,
    order: OrderId,
) -> Result<Vec<Stored>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT kind, state, message_id, sent_at FROM notification
         WHERE order_id = $1
         ORDER BY kind",
        order.0
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Stored {
                kind: kind(&row.kind)?,
                state: row.state,
                message_id: row.message_id,
                sent_at: row.sent_at,
            })
        })
        .collect()
}

pub(super) fn kind(name: &str) -> Result<Kind, sqlx::Error> {
    name.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
