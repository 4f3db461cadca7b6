//! Who may call the provider, and when: claims and leases in the table.

use std::{collections::HashSet, time::Duration};

use portolan_kernel::{Currency, Money, OrderId};
use portolan_payment::{
    app::{Heard, hear},
    domain::{CardToken, Fact, Intent, Step},
    store::{Due, Job, claim},
};
use portolan_runtime::database;
use portolan_testkit::{TestDb, eventually};
use time::OffsetDateTime;

use crate::support::{AMOUNT, PATIENCE, new_order, now};

const LONG: Duration = Duration::from_mins(10);

async fn database() -> TestDb {
    TestDb::new(&[&portolan_messaging::MIGRATOR, &portolan_payment::MIGRATOR]).await
}

async fn reserve(db: &TestDb, count: usize, deadline: OffsetDateTime) -> Vec<OrderId> {
    let orders: Vec<OrderId> = (0..count).map(|_| new_order()).collect();
    let intent = Intent {
        amount: Money::new(AMOUNT, Currency::GBP),
        token: CardToken::new("tok_ok".to_owned()),
        deadline,
    };
    let fact = Fact::Reserved(intent);
    let heard = |order: &OrderId| Heard { order: *order, fact: fact.clone(), trace: String::new() };
    let facts: Vec<Heard> = orders.iter().map(heard).collect();
    let mut tx = database::begin(db.pool()).await.unwrap();
    let due = hear(&mut tx, &facts).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(due.len(), count);
    orders
}

async fn cancel(db: &TestDb, order: OrderId) -> Vec<OrderId> {
    let mut tx = database::begin(db.pool()).await.unwrap();
    let fact = Heard { order, fact: Fact::Cancelled, trace: String::new() };
    let due = hear(&mut tx, &[fact]).await.unwrap();
    tx.commit().await.unwrap();
    due
}

async fn take(db: &TestDb, due: &Due, limit: usize, lease: Duration) -> Vec<Job> {
    claim(db.pool(), due, limit, lease).await.unwrap()
}

#[tokio::test]
async fn a_job_belongs_to_one_worker_at_a_time() {
    let db = database().await;
    reserve(&db, 40, now() + LONG).await;
    let workers = (0..8).map(|_| take(&db, &Due::Any, 7, LONG));
    let jobs: Vec<Job> = futures::future::join_all(workers).await.into_iter().flatten().collect();
    let orders: HashSet<OrderId> = jobs.iter().map(|job| job.question.order).collect();
    assert_eq!((orders.len(), jobs.len()), (40, 40));
    assert_eq!(take(&db, &Due::Any, 7, LONG).await.len(), 0);
}

#[tokio::test]
async fn a_job_whose_lease_ended_is_taken_over_as_another_attempt() {
    let db = database().await;
    let orders = reserve(&db, 1, now() + LONG).await;
    let first = take(&db, &Due::Of(orders), 1, Duration::from_millis(100)).await;
    assert_eq!((first[0].call.step, first[0].call.attempt), (Step::Authorize, 1));
    let second = eventually(PATIENCE, "the end of the lease", async || {
        take(&db, &Due::Any, 1, LONG).await.pop()
    })
    .await;
    assert_eq!(second.call.attempt, 2);
}

#[tokio::test]
async fn only_what_was_begun_before_the_deadline_is_asked_about_after_it() {
    let db = database().await;
    let late = reserve(&db, 1, now() - Duration::from_secs(1)).await;
    assert_eq!(take(&db, &Due::Of(late), 1, LONG).await.len(), 0);
    let begun = reserve(&db, 1, now() + LONG).await;
    assert_eq!(take(&db, &Due::Any, 9, Duration::ZERO).await.len(), 1);
    sqlx::query("UPDATE payment SET deadline = now() - interval '1 second'")
        .execute(db.pool())
        .await
        .unwrap();
    assert_eq!(take(&db, &Due::Of(begun), 1, LONG).await.len(), 1);
}

#[tokio::test]
async fn a_cancellation_needs_the_provider_only_if_it_was_called() {
    let db = database().await;
    let orders = reserve(&db, 2, now() + LONG).await;
    assert_eq!(take(&db, &Due::Of(vec![orders[0]]), 1, LONG).await.len(), 1);
    assert_eq!(cancel(&db, orders[0]).await, [orders[0]]);
    assert_eq!(cancel(&db, orders[1]).await, []);
    // At once, although the lease on the authorisation has not ended.
    let jobs = take(&db, &Due::Any, 9, LONG).await;
    let steps: Vec<_> = jobs.iter().map(|job| (job.question.order, job.call.step)).collect();
    assert_eq!(steps, [(orders[0], Step::Void)]);
}
