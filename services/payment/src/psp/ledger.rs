//! One transaction for each request: lock, look for an answer given before, decide, write down.

use portolan_runtime::{Context, database, failpoint};
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;

use super::{
    card::Card,
    problem::Problem,
    request::{Authorize, Capture, Refund, Request, Void},
    rules::{self, Ruling},
    store::{self, Authorization, Operation},
};

/// How often a request is tried again whose key another request took in between.
const TRIES: usize = 5;

/// An answer, and whether it was given for the first time.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) operation: Operation,
    pub(super) first: bool,
}

/// The durable ledger.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    pub(super) pool: PgPool,
    pub(super) ctx: Context,
}

/// What a kind of request does to the authorisation it is about.
trait Decide: Request {
    /// Locks the authorisation.
    async fn lock(&self, conn: &mut PgConnection) -> Result<Locked, Problem>;

    /// Decides and changes the authorisation accordingly, but for its status.
    async fn decide(&self, conn: &mut PgConnection, locked: &mut Locked)
    -> Result<Ruling, Problem>;

    /// The amount that the operation is about.
    fn amount(&self, authorization: &Authorization) -> Option<i64>;
}

/// A locked authorisation, and whether this request was the first to name it.
struct Locked {
    authorization: Authorization,
    created: bool,
}

impl Ledger {
    pub(super) async fn authorize(&self, request: &Authorize) -> Result<Answer, Problem> {
        self.perform(request).await
    }

    pub(super) async fn capture(&self, request: &Capture) -> Result<Answer, Problem> {
        self.perform(request).await
    }

    pub(super) async fn void(&self, request: &Void) -> Result<Answer, Problem> {
        self.perform(request).await
    }

    pub(super) async fn refund(&self, request: &Refund) -> Result<Answer, Problem> {
        self.perform(request).await
    }

    /// The answer that was given to a key.
    pub(super) async fn find(&self, key: &str) -> Result<Option<Operation>, Problem> {
        let mut conn = self.pool.acquire().await?;
        Ok(store::operation(&mut conn, key).await?)
    }

    /// The answer that was given to this very request.
    pub(super) async fn repeat<R: Request>(&self, request: &R) -> Result<Option<Answer>, Problem> {
        let found = self.find(request.idempotency_key()).await?;
        found.map(|operation| repeated(request, operation)).transpose()
    }

    /// How often the key was tried, this time included.
    pub(super) async fn count_attempt(&self, key: &str) -> Result<i32, Problem> {
        let mut conn = self.pool.acquire().await?;
        Ok(store::count_attempt(&mut conn, key).await?)
    }

    async fn perform<R: Decide>(&self, request: &R) -> Result<Answer, Problem> {
        for _ in 0..TRIES {
            if let Some(answer) = self.attempt(request).await? {
                return Ok(answer);
            }
        }
        Err(Problem::Contended)
    }

    /// None if another request, about another authorisation, took the key in between.
    async fn attempt<R: Decide>(&self, request: &R) -> Result<Option<Answer>, Problem> {
        let mut tx = database::begin(&self.pool).await?;
        let mut locked = request.lock(&mut tx).await?;
        // Only now: a twin that was faster has committed while we waited for the lock.
        if let Some(operation) = store::operation(&mut tx, request.idempotency_key()).await? {
            return repeated(request, operation).map(Some);
        }
        let ruling = request.decide(&mut tx, &mut locked).await?;
        locked.authorization.status = ruling.status;
        store::save(&mut tx, &locked.authorization).await?;
        let operation = self.operation(request, &locked.authorization, ruling);
        if !store::insert_operation(&mut tx, &operation).await? {
            return Ok(None);
        }
        failpoint!("decide:before-commit");
        tx.commit().await?;
        failpoint!("decide:after-commit");
        tracing::info!(
            key = operation.idempotency_key,
            outcome = operation.outcome,
            code = operation.code,
            "decided"
        );
        metrics::counter!(
            "portolan_psp_operations_total",
            "kind" => R::KIND,
            "outcome" => ruling.outcome.as_str(),
        )
        .increment(1);
        Ok(Some(Answer { operation, first: true }))
    }

    fn operation<R: Decide>(
        &self,
        request: &R,
        authorization: &Authorization,
        ruling: Ruling,
    ) -> Operation {
        Operation {
            idempotency_key: request.idempotency_key().to_owned(),
            kind: R::KIND.to_owned(),
            authorization_key: authorization.key.clone(),
            order_id: authorization.order_id,
            amount_minor: request.amount(authorization),
            currency: authorization.currency.clone(),
            outcome: ruling.outcome.as_str().to_owned(),
            code: ruling.code.map(ToOwned::to_owned),
            reference: format!("psp_{}", self.ctx.ids.next().simple()),
            request_sha256: request.fingerprint(),
            created_at: to_micros(self.ctx.clock.now()),
        }
    }
}

/// As precise as the database keeps it, so that the first answer is the same as its repetitions.
fn to_micros(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_microsecond(time.microsecond()).unwrap_or(time)
}

fn repeated<R: Request>(request: &R, operation: Operation) -> Result<Answer, Problem> {
    if operation.request_sha256 != request.fingerprint() {
        return Err(Problem::KeyReused);
    }
    Ok(Answer { operation, first: false })
}

impl Decide for Authorize {
    async fn lock(&self, conn: &mut PgConnection) -> Result<Locked, Problem> {
        let (authorization, created) = store::lock_or_create(conn, &self.idempotency_key).await?;
        Ok(Locked { authorization, created })
    }

    async fn decide(&self, _: &mut PgConnection, locked: &mut Locked) -> Result<Ruling, Problem> {
        let card = Card::of(&self.payment_token);
        let before = (!locked.created).then_some(locked.authorization.status);
        if locked.created {
            locked.authorization.order_id = Some(self.order_id);
            locked.authorization.amount_minor = Some(self.amount_minor);
            locked.authorization.currency = Some(self.currency.to_string());
            locked.authorization.capture_refused = card == Card::CaptureFails;
        }
        Ok(rules::authorize(before, card))
    }

    fn amount(&self, _: &Authorization) -> Option<i64> {
        Some(self.amount_minor)
    }
}

impl Decide for Capture {
    async fn lock(&self, conn: &mut PgConnection) -> Result<Locked, Problem> {
        let authorization = store::lock(conn, &self.authorization_key).await?;
        let authorization = authorization.ok_or(Problem::NotFound("authorization"))?;
        Ok(Locked { authorization, created: false })
    }

    async fn decide(&self, _: &mut PgConnection, locked: &mut Locked) -> Result<Ruling, Problem> {
        let authorization = &locked.authorization;
        if authorization.amount_minor.is_some_and(|authorized| self.amount_minor > authorized) {
            return Err(Problem::AmountExceedsAuthorization);
        }
        Ok(rules::capture(authorization.status, authorization.capture_refused))
    }

    fn amount(&self, _: &Authorization) -> Option<i64> {
        Some(self.amount_minor)
    }
}

impl Decide for Void {
    async fn lock(&self, conn: &mut PgConnection) -> Result<Locked, Problem> {
        let (authorization, created) = store::lock_or_create(conn, &self.authorization_key).await?;
        Ok(Locked { authorization, created })
    }

    async fn decide(&self, _: &mut PgConnection, locked: &mut Locked) -> Result<Ruling, Problem> {
        Ok(rules::void((!locked.created).then_some(locked.authorization.status)))
    }

    fn amount(&self, authorization: &Authorization) -> Option<i64> {
        authorization.amount_minor
    }
}

impl Decide for Refund {
    async fn lock(&self, conn: &mut PgConnection) -> Result<Locked, Problem> {
        let capture = store::operation(conn, &self.capture_key).await?;
        let capture = capture.filter(|operation| operation.outcome == "captured");
        let capture = capture.ok_or(Problem::NotFound("capture"))?;
        let authorization = store::lock(conn, &capture.authorization_key).await?;
        let authorization = authorization.ok_or(Problem::NotFound("authorization"))?;
        Ok(Locked { authorization, created: false })
    }

    async fn decide(
        &self,
        conn: &mut PgConnection,
        locked: &mut Locked,
    ) -> Result<Ruling, Problem> {
        let capture = store::operation(conn, &self.capture_key).await?;
        let captured = capture.and_then(|operation| operation.amount_minor).unwrap_or(0);
        let refunded = store::refunded(conn, &locked.authorization.key).await?;
        Ok(rules::refund(captured, refunded, self.amount_minor))
    }

    fn amount(&self, _: &Authorization) -> Option<i64> {
        Some(self.amount_minor)
    }
}
