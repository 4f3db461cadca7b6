//! Placing an order: replay if the key is known; else price, lock, write.

use std::{collections::BTreeMap, fmt, ops::RangeInclusive, sync::Arc, time::Duration};

use portolan_kernel::{FieldViolation, Money};
use portolan_lock::{Guard, LockError, Redlock};
use portolan_proto::{
    inventory::v1::{QuoteRequest, inventory_service_client::InventoryServiceClient},
    order::v1 as proto,
};
use portolan_runtime::{
    database,
    grpc::{self, Guarded, Remote, Retrying},
    telemetry::TraceContext,
};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;
use tokio::time::Instant;

use crate::{
    app::{
        Batcher, Error,
        batcher::{Entry, Verdict},
    },
    domain::Basket,
    store::{orders, placement},
};

const QUOTE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a duplicate of the request being placed waits for its answer.
const DUPLICATE_PATIENCE: Duration = Duration::from_secs(5);
/// In milliseconds; random, so that duplicates that stood in each other's way do not do so again.
const DUPLICATE_PAUSE_MS: RangeInclusive<u64> = 10..=60;

/// What a customer asks for.
#[derive(Clone)]
pub struct Placement {
    /// The customer.
    pub user_id: String,
    /// The customer's key for this attempt.
    pub key: String,
    /// SKUs and quantities as written.
    pub lines: Vec<(String, u32)>,
    /// The provider's single-use token for the card.
    pub payment_token: String,
}

impl fmt::Debug for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Placement")
            .field("user_id", &self.user_id)
            .field("key", &self.key)
            .field("lines", &self.lines.len())
            .finish_non_exhaustive()
    }
}

/// The order, and whether this answer was given before.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The order as it was when it was placed.
    pub order: proto::Order,
    /// Whether the key was known.
    pub replayed: bool,
}

/// The use case.
#[derive(Clone, Debug)]
pub struct PlaceOrder {
    /// The order database.
    pub pool: PgPool,
    /// Inventory's gRPC.
    pub inventory: InventoryServiceClient<Retrying<Guarded>>,
    /// One placement at a time for each customer; without it the guard's row lock serialises alone.
    pub lock: Option<Redlock>,
    /// The placement transaction.
    pub batcher: Batcher,
    /// True while unpublished events are too old to promise anything new.
    pub backlog: Arc<std::sync::atomic::AtomicBool>,
}

struct Request {
    placement: Placement,
    basket: Basket,
    fingerprint: Vec<u8>,
}

impl PlaceOrder {
    /// Places the order, or replays the answer given before to its key.
    ///
    /// # Errors
    /// [`Error`]; after every retryable one the same key may be used again.
    pub async fn run(&self, placement: Placement) -> Result<Placed, Error> {
        let basket = check(&placement)?;
        let fingerprint = fingerprint(&basket, &placement);
        let request = Request { placement, basket, fingerprint };
        if let Some(placed) = self.replay(&request).await? {
            return Ok(placed);
        }
        if self.backlog.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Error::Backlog);
        }
        let prices = self.quote(&request.basket).await?;
        match self.attempt(&request, &prices, 0).await? {
            Attempt::Done(placed) => Ok(placed),
            // The lock's memory was behind the database's: take it again from there, once.
            Attempt::Fenced(fence) => match self.attempt(&request, &prices, fence + 1).await? {
                Attempt::Done(placed) => Ok(placed),
                Attempt::Fenced(_) => Err(Error::Overtaken),
            },
        }
    }

    async fn attempt(
        &self,
        request: &Request,
        prices: &BTreeMap<String, Money>,
        floor: i64,
    ) -> Result<Attempt, Error> {
        let guard = match self.lock(request, floor).await? {
            Locked::Held(guard) => guard,
            Locked::Answered(placed) => return Ok(Attempt::Done(placed)),
        };
        let entry = request.entry(prices, guard.clone())?;
        let verdict = match &guard {
            Some(guard) => guard.while_running(self.batcher.place(entry)).await,
            None => self.batcher.place(entry).await,
        };
        match verdict {
            Verdict::Placed(order) => Ok(Attempt::Done(Placed { order, replayed: false })),
            Verdict::KeyTaken => match self.replay(request).await? {
                Some(placed) => Ok(Attempt::Done(placed)),
                None => Err(Error::Overtaken),
            },
            Verdict::Fenced(fence) => {
                // Or the next attempt would meet this one's lock.
                if let Some(guard) = guard {
                    guard.release().await;
                }
                Ok(Attempt::Fenced(fence))
            }
            Verdict::Failed(error) => Err(error),
        }
    }

    /// The answer given before to this key, if any.
    async fn replay(&self, request: &Request) -> Result<Option<Placed>, Error> {
        let Placement { user_id, key, .. } = &request.placement;
        let mut conn = database::acquire(&self.pool).await?;
        if let Some(answer) = placement::find_answer(&mut conn, user_id, key).await? {
            if answer.fingerprint != request.fingerprint {
                return Err(Error::KeyReused);
            }
            let order = proto::Order::decode(answer.response.as_slice())
                .map_err(|error| Error::Database(sqlx::Error::Decode(error.into())))?;
            return Ok(Some(Placed { order, replayed: true }));
        }
        // The stored answer is gone after a day, the key is not: then the order itself answers.
        match orders::find_by_key(&mut conn, user_id, key).await? {
            Some((_, fingerprint)) if fingerprint != request.fingerprint => Err(Error::KeyReused),
            Some((order, _)) => Ok(Some(Placed { order: order.to_proto(), replayed: true })),
            None => Ok(None),
        }
    }

    async fn quote(&self, basket: &Basket) -> Result<BTreeMap<String, Money>, Error> {
        let request = QuoteRequest { skus: basket.skus().map(str::to_owned).collect() };
        let answer = self
            .inventory
            .clone()
            .quote(grpc::deadline(request, QUOTE_TIMEOUT))
            .await
            .map_err(|status| Error::Quote(Remote::from(status)))?
            .into_inner();
        let mut prices = BTreeMap::new();
        for quoted in answer.prices {
            let Some(price) = quoted.price else { continue };
            let Ok(currency) = price.currency.parse() else { continue };
            prices.insert(quoted.sku, Money::new(price.minor_units, currency));
        }
        Ok(prices)
    }

    /// Takes the customer's lock; meanwhile a duplicate of this request may get its answer.
    async fn lock(&self, request: &Request, floor: i64) -> Result<Locked, Error> {
        let Placement { user_id, key, .. } = &request.placement;
        let Some(lock) = &self.lock else { return Ok(Locked::Held(None)) };
        let started = Instant::now();
        loop {
            let same_purpose = match lock.acquire(user_id, key, floor).await {
                Ok(guard) => return Ok(Locked::Held(Some(Arc::new(guard)))),
                Err(LockError::Unavailable) => return Ok(Locked::Held(None)),
                Err(LockError::Busy { same_purpose }) => same_purpose,
            };
            if let Some(placed) = self.replay(request).await? {
                return Ok(Locked::Answered(placed));
            }
            if !same_purpose || started.elapsed() > DUPLICATE_PATIENCE {
                return Err(Error::UserBusy);
            }
            let pause = rand::random_range(DUPLICATE_PAUSE_MS);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }
}

enum Attempt {
    Done(Placed),
    Fenced(i64),
}

enum Locked {
    Held(Option<Arc<Guard>>),
    Answered(Placed),
}

impl Request {
    fn entry(
        &self,
        prices: &BTreeMap<String, Money>,
        guard: Option<Arc<Guard>>,
    ) -> Result<Entry, Error> {
        let (lines, total) = self.basket.price(prices).map_err(Error::Basket)?;
        Ok(Entry {
            user_id: self.placement.user_id.clone(),
            key: self.placement.key.clone(),
            fingerprint: self.fingerprint.clone(),
            lines,
            amount_minor: total.minor_units,
            currency: total.currency.to_string(),
            payment_token: self.placement.payment_token.clone(),
            trace: TraceContext::current(),
            guard,
        })
    }
}

fn check(placement: &Placement) -> Result<Basket, Error> {
    let require = |holds: bool, field: &str, description: &str| {
        holds.then_some(()).ok_or_else(|| {
            Error::Field(FieldViolation {
                field: field.to_owned(),
                description: description.to_owned(),
            })
        })
    };
    let graphic = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    let Placement { user_id, key, payment_token, .. } = placement;
    require((1..=255).contains(&user_id.len()), "user_id", "must be 1 to 255 characters")?;
    require(
        (1..=255).contains(&key.len()) && visible(key),
        "idempotency_key",
        "must be 1 to 255 visible ASCII characters",
    )?;
    require(
        payment_token.starts_with("tok_") && payment_token.len() <= 132 && graphic(payment_token),
        "payment_token",
        "must be a token of the payment provider, tok_ and up to 128 characters",
    )?;
    Basket::new(&placement.lines).map_err(Error::Basket)
}

/// SHA-256 over the canonical request: merged lines and token, never prices.
fn fingerprint(basket: &Basket, placement: &Placement) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(b"portolan.place_order.v1\0");
    for (sku, quantity) in basket.lines() {
        hash.update(sku.as_bytes());
        hash.update([0]);
        hash.update(quantity.to_be_bytes());
    }
    hash.update(b"\0");
    hash.update(placement.payment_token.as_bytes());
    hash.finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(lines: &[(&str, u32)], token: &str) -> Placement {
        Placement {
            user_id: "alice".to_owned(),
            key: "k".to_owned(),
            lines: lines.iter().map(|(sku, q)| ((*sku).to_owned(), *q)).collect(),
            payment_token: token.to_owned(),
        }
    }

    fn print(lines: &[(&str, u32)], token: &str) -> Vec<u8> {
        let placement = placement(lines, token);
        fingerprint(&check(&placement).unwrap(), &placement)
    }

    #[test]
    fn the_fingerprint_sees_goods_and_token_but_not_how_the_lines_were_written() {
        let one = print(&[("a", 1), ("b", 2)], "tok_ok");
        assert_eq!(one, print(&[("b", 1), ("a", 1), ("b", 1)], "tok_ok"));
        assert_ne!(one, print(&[("a", 1), ("b", 3)], "tok_ok"));
        assert_ne!(one, print(&[("a", 1), ("b", 2)], "tok_other"));
    }

    #[test]
    fn a_card_token_does_not_show_in_debug_output() {
        let shown = format!("{:?}", placement(&[("a", 1)], "tok_secret"));
        assert!(!shown.contains("tok_secret"));
    }

    #[test]
    fn what_is_no_token_is_refused_by_name() {
        for bad in ["4111 1111 1111 1111", "tok_ a", "tok_\u{7f}", ""] {
            let error = check(&placement(&[("a", 1)], bad)).unwrap_err();
            assert!(matches!(error, Error::Field(v) if v.field == "payment_token"), "{bad}");
        }
    }
}
