//! How many orders are placed at once: as many as are answered quickly. What is more is told to come
//! back at once, so that those who are admitted need not wait for it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::extract::FromRequestParts;
use http::request::Parts;
use portolan_runtime::{Answer, Limit, Place};
use tokio::time::Instant;

use crate::{
    app::App,
    config::LimitsConfig,
    problem::{Problem, kind},
};

const PLACES: &str = "portolan_orders_limit";
const REFUSED: &str = "portolan_orders_held_back_total";

/// Until it is known better. A few customers who come together are all served.
const AT_FIRST: usize = 32;
/// So many are let in however long it takes.
const AT_LEAST: usize = 4;

/// Who has waited for so long and goes away, or gets no answer, tells of too much to do.
const PATIENCE: Duration = Duration::from_secs(1);

/// The places for those who place an order.
#[derive(Debug)]
pub(crate) struct Admission(Mutex<Limit>);

impl Admission {
    pub(crate) fn new(config: &LimitsConfig) -> Self {
        let most = config.concurrent_orders;
        let limit = Limit::new(AT_LEAST.min(most)..=most, config.slow_order());
        Self(Mutex::new(limit.beginning_with(AT_FIRST)))
    }

    /// Takes a place.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn enter(&self) -> Result<Placing<'_>, Problem> {
        let place = self.limit().enter().ok_or_else(held_back)?;
        Ok(Placing { admission: self, place, began: Instant::now(), answer: Answer::Failed })
    }

    fn limit(&self) -> MutexGuard<'_, Limit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn held_back() -> Problem {
    metrics::counter!(REFUSED).increment(1);
    Problem::new(kind::OVERLOADED, "Too many orders at once: come back in a moment.")
}

/// There was a place a moment ago. Asked before anything else is done for a request, because telling
/// the others to come back must cost next to nothing; the place is taken when the request is known
/// to be good, so that one which arrives slowly takes nobody's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room;

impl FromRequestParts<App> for Room {
    type Rejection = Problem;

    async fn from_request_parts(_parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        if app.admission.limit().is_free() { Ok(Self) } else { Err(held_back()) }
    }
}

/// Somebody's place, free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Placing<'a> {
    admission: &'a Admission,
    place: Place,
    began: Instant,
    answer: Answer,
}

impl Placing<'_> {
    /// The order was placed: how long that took says how much there is to do.
    pub(crate) fn placed(mut self) {
        self.answer = Answer::Took(self.began.elapsed());
    }

    /// What came says nothing about the load: a refusal, or an answer that was given before.
    pub(crate) fn answered(mut self) {
        self.answer = Answer::Unknown;
    }
}

impl Drop for Placing<'_> {
    fn drop(&mut self) {
        // Who goes away at once has not waited for us.
        let hasty = self.answer == Answer::Failed && self.began.elapsed() < PATIENCE;
        let answer = if hasty { Answer::Unknown } else { self.answer };
        let mut limit = self.admission.limit();
        limit.leave(self.place, answer, Instant::now());
        metrics::gauge!(PLACES).set(u32::try_from(limit.places()).unwrap_or(u32::MAX));
    }
}

/// Explains the metrics to those who read them.
pub(crate) fn describe_metrics() {
    metrics::describe_gauge!(PLACES, "How many orders may be placed at once.");
    metrics::describe_counter!(REFUSED, "Orders told to come back, because too many came at once.");
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn admission() -> Admission {
        let limits =
            LimitsConfig { concurrent_orders: 64, slow_order_ms: 100, ..LimitsConfig::default() };
        Admission::new(&limits)
    }

    fn all(admission: &Admission) -> Vec<Placing<'_>> {
        std::iter::from_fn(|| admission.enter().ok()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_there_are_places_are_told_to_come_back() {
        let admission = admission();
        let places = all(&admission);
        assert_eq!(places.len(), AT_FIRST);
        let refusal = admission.enter().unwrap_err();
        assert_eq!(refusal.code, "overloaded");
        drop(places);
        assert_eq!(all(&admission).len(), AT_FIRST, "who was refused elsewhere says nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_as_many_places_as_are_answered_quickly() {
        let admission = admission();
        for _ in 0..200 {
            let places = all(&admission);
            // One after the other, in 10 ms each.
            advance(Duration::from_millis(10) * u32::try_from(places.len()).unwrap()).await;
            places.into_iter().for_each(Placing::placed);
        }
        let places = all(&admission).len();
        assert!((8..=11).contains(&places), "{places} in 100 ms");
    }

    /// After so many have waited for so long and gone away.
    async fn places_after(wait: Duration) -> usize {
        let admission = admission();
        for _ in 0..100 {
            let places = all(&admission);
            advance(wait).await;
            drop(places);
        }
        all(&admission).len()
    }

    #[tokio::test(start_paused = true)]
    async fn customers_who_go_away_without_an_answer_make_it_fewer() {
        assert_eq!(places_after(Duration::from_millis(1500)).await, AT_LEAST);
        let at_once = places_after(Duration::from_millis(500)).await;
        assert_eq!(at_once, AT_FIRST, "they have not waited for us");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_refused_or_answered_before_says_nothing() {
        let admission = admission();
        for _ in 0..100 {
            let places = all(&admission);
            advance(Duration::from_secs(2)).await;
            places.into_iter().for_each(Placing::answered);
        }
        assert_eq!(all(&admission).len(), AT_FIRST);
    }
}
