use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::postgres::{PgConnectOptions, PgPool};

use super::{
    access::Access,
    connect::{ACQUIRE_TIMEOUT, try_connect},
};
use crate::{Tasks, one_line};

const RETRY: Duration = Duration::from_secs(1);

/// How the pool connects, and since when if it once did so in another way. A login that was replaced
/// will be revoked, and a connection made with it must not be the one that a request has then.
#[derive(Debug)]
pub(super) struct Swaps(Mutex<(PgConnectOptions, Option<Instant>)>);

impl Swaps {
    pub(super) const fn new(options: PgConnectOptions) -> Self {
        Self(Mutex::new((options, None)))
    }

    /// For a new connection.
    pub(super) fn options(&self) -> PgConnectOptions {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    fn swapped(&self, options: PgConnectOptions) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (options, Some(Instant::now()));
    }

    /// Whether a connection of that age is one of the present kind.
    pub(super) fn is_current(&self, age: Duration) -> bool {
        let swapped = self.0.lock().unwrap_or_else(PoisonError::into_inner).1;
        swapped.is_none_or(|swapped| is_newer(age, swapped.elapsed()))
    }
}

/// A connection that came about within [`ACQUIRE_TIMEOUT`] after the swap may have begun before it.
/// As long as that time lasts it is used, because nothing surer could be made; then it is given up.
fn is_newer(age: Duration, since_swap: Duration) -> bool {
    let Some(made_after) = since_swap.checked_sub(age) else { return false };
    made_after > ACQUIRE_TIMEOUT || since_swap <= ACQUIRE_TIMEOUT
}

/// Starts the task that gives the pool a new login or certificate, once the server accepts it.
pub(super) fn rotate(tasks: &Tasks, mut access: Access, pool: PgPool, swaps: Arc<Swaps>) {
    metrics::describe_counter!(
        "portolan_database_login_changes_total",
        "Attempts to give the pool a new login or certificate."
    );
    let soft = tasks.soft();
    let forever = async move {
        loop {
            access.changed().await;
            while let Err(error) = swap(&access, &pool, &swaps).await {
                changes("failed");
                let error = one_line(&error);
                tracing::warn!(error, "the database does not take the new login, the old stays");
                access.changed_within(RETRY).await;
            }
        }
    };
    tasks.spawn("database-login", async move {
        let _: Option<()> = soft.run_until_cancelled(forever).await;
        Ok(())
    });
}

async fn swap(access: &Access, pool: &PgPool, swaps: &Swaps) -> Result<(), sqlx::Error> {
    let options = access.options();
    try_connect(&options).await?;
    let user = options.get_username().to_owned();
    pool.set_connect_options(options.clone());
    swaps.swapped(options);
    changes("ok");
    tracing::info!(user, "new connections to the database use another login or certificate");
    Ok(())
}

fn changes(result: &'static str) {
    metrics::counter!("portolan_database_login_changes_total", "result" => result).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_from_before_the_swap_are_given_up_and_those_around_it_a_little_later() {
        let second = Duration::from_secs;
        assert!(!is_newer(second(10), second(9)), "older than the swap");
        assert!(is_newer(second(1), second(2)), "made since, and the swap is fresh");
        assert!(!is_newer(second(9), second(10)), "made so soon that it may have begun before");
        assert!(is_newer(second(5), second(10)), "surely begun after the swap");
    }

    #[test]
    fn without_a_swap_every_connection_is_current() {
        assert!(Swaps::new(PgConnectOptions::new()).is_current(Duration::from_hours(9)));
    }
}
