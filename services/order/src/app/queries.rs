use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use portolan_kernel::{FieldViolation, OrderId};
use portolan_runtime::database;
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    app::Error,
    domain::State,
    store::{
        OrderRow,
        guards::{self, Stats},
        orders,
        timeline::{self, Entry},
    },
};

const LAST_MICROSECOND: i64 = 253_402_300_799_999_999;

/// A page of orders and where the next one begins.
#[derive(Clone, Debug)]
pub struct Page {
    /// The orders, newest first.
    pub orders: Vec<OrderRow>,
    /// Empty on the last page.
    pub next_cursor: String,
}

/// The order, if it is the customer's; an operator (no user) sees any.
///
/// # Errors
/// Not found or not the customer's.
pub async fn get(pool: &PgPool, user: Option<&str>, id: OrderId) -> Result<OrderRow, Error> {
    let mut conn = database::acquire(pool).await?;
    orders::find(&mut conn, id)
        .await?
        .filter(|row| user.is_none_or(|user| user == row.user_id))
        .ok_or(Error::NotFound)
}

/// A page of the customer's orders.
///
/// # Errors
/// A limit outside 1 to 100, or a cursor that is not ours.
pub async fn list(
    pool: &PgPool,
    user: &str,
    cursor: &str,
    limit: u32,
    state: Option<State>,
) -> Result<Page, Error> {
    if !(1..=100).contains(&limit) {
        return Err(invalid("limit", "must be 1 to 100"));
    }
    let after = if cursor.is_empty() {
        None
    } else {
        Some(
            decode_cursor(cursor)
                .ok_or_else(|| invalid("cursor", "is not a cursor of this API"))?,
        )
    };
    let mut conn = database::acquire(pool).await?;
    let mut orders = orders::list(&mut conn, user, after, state, i64::from(limit) + 1).await?;
    let more = orders.len() > limit as usize;
    orders.truncate(limit as usize);
    let next_cursor = match orders.last() {
        Some(last) if more => encode_cursor(last.created_at, last.id.0),
        Some(_) | None => String::new(),
    };
    Ok(Page { orders, next_cursor })
}

/// The timeline of an order.
///
/// # Errors
/// As [`get`].
pub async fn timeline(pool: &PgPool, user: Option<&str>, id: OrderId) -> Result<Vec<Entry>, Error> {
    get(pool, user, id).await?;
    let mut conn = database::acquire(pool).await?;
    Ok(timeline::list(&mut conn, id).await?)
}

/// The customer's statistics; `None` before the first order.
///
/// # Errors
/// The database's.
pub async fn stats(pool: &PgPool, user: &str) -> Result<Option<Stats>, Error> {
    let mut conn = database::acquire(pool).await?;
    Ok(guards::stats(&mut conn, user).await?)
}

fn invalid(field: &str, description: &str) -> Error {
    Error::Field(FieldViolation { field: field.to_owned(), description: description.to_owned() })
}

fn encode_cursor(at: OffsetDateTime, id: Uuid) -> String {
    let mut bytes = [0; 24];
    let micros = i64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX);
    bytes[..8].copy_from_slice(&micros.to_be_bytes());
    bytes[8..].copy_from_slice(id.as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn decode_cursor(cursor: &str) -> Option<(OffsetDateTime, Uuid)> {
    let bytes: [u8; 24] = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?.try_into().ok()?;
    let (micros, id) = bytes.split_at(8);
    let micros = i64::from_be_bytes(micros.try_into().ok()?);
    // Outside of 1970 to 9999 PostgreSQL and our times do not agree on what exists.
    (0..=LAST_MICROSECOND).contains(&micros).then_some(())?;
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).ok()?;
    Some((at, Uuid::from_slice(id).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_survives_the_round_trip(micros in 0_i64..4_102_444_800_000_000, id in any::<u128>()) {
            let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).unwrap();
            let id = Uuid::from_u128(id);
            prop_assert_eq!(decode_cursor(&encode_cursor(at, id)), Some((at, id)));
        }

        #[test]
        fn a_cursor_never_leads_outside_of_what_the_database_can_hold(bytes in any::<[u8; 24]>()) {
            if let Some((at, _)) = decode_cursor(&BASE64_URL_SAFE_NO_PAD.encode(bytes)) {
                prop_assert!((1970..=9999).contains(&at.year()));
            }
        }

        #[test]
        fn no_text_makes_the_cursor_decoder_panic(text in ".{0,64}") {
            let _ = decode_cursor(&text);
        }
    }
}
