use std::{convert::Infallible, time::Duration};

use axum::{
    Extension,
    extract::State,
    response::{
        IntoResponse as _, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures::stream::{self, Stream};
use portolan_proto::order::v1::{WatchOrderRequest, WatchOrderResponse};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use utoipa::ToSchema;

use super::order::{Order, carried};
use crate::{
    app::{App, asked_by},
    edge::TraceId,
    extract::{Caller, OrderPath},
    openapi::{NotFoundProblem, Secured},
    problem::{Problem, kind},
};

const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A stream ends with its token, and never lives longer than this.
const MAX_AGE: Duration = Duration::from_hours(1);

/// One event of a stream.
#[derive(Debug, ToSchema)]
#[schema(as = OrderEvent)]
#[expect(dead_code, reason = "describes what is written as text")]
pub(crate) struct OneEvent {
    /// `order`, or `problem` as the last one.
    #[schema(pattern = "^(order|problem)$")]
    event: String,
    /// The order's version.
    #[schema(required = false, pattern = "^[1-9][0-9]*$")]
    id: String,
    /// The order or the problem, as JSON.
    data: String,
}

/// Follow an order
///
/// Server-sent events. Each `order` event has the order as its data and its version as its id: first
/// as it is, then after every change, until it is final and the stream ends. When it ends before, or
/// after a `problem` event, connect again.
#[utoipa::path(
    get, path = "/v1/orders/{id}/events", tag = "orders", operation_id = "watchOrder",
    params(("id" = String, Path, format = Uuid, description = "The order")),
    responses((status = 200, description = "Events", content_type = "text/event-stream",
        body = OneEvent), NotFoundProblem, Secured),
    security(("bearer" = [])),
)]
pub(crate) async fn watch_order(
    State(app): State<App>,
    caller: Caller,
    OrderPath(id): OrderPath,
    Extension(trace_id): Extension<TraceId>,
) -> Result<Response, Problem> {
    let permit = app.streams.clone().try_acquire_owned();
    let permit = permit
        .map_err(|_| Problem::new(kind::OVERLOADED, "Too many event streams are open at once."))?;
    let request = WatchOrderRequest { user_id: caller.reads_as(), order_id: id.to_string() };
    let request = asked_by(&caller.identity(), tonic::Request::new(request));
    let mut changes = app.orders.clone().watch_order(request).await?.into_inner();
    // An order that does not exist must be an answer, not a stream.
    let first = next_order(&mut changes).await?.ok_or_else(interrupted)?;
    let watch = Watch {
        pending: Some(first),
        changes,
        ends: ends(&app, &caller),
        soft: app.soft.clone(),
        instance: format!("/v1/orders/{id}/events"),
        trace_id,
        _permit: permit,
    };
    Ok(Sse::new(watch.events()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

/// The order service is stopping, most likely.
fn interrupted() -> Problem {
    Problem::new(kind::UNAVAILABLE, "The events ended before they began: connect again.")
}

fn ends(app: &App, caller: &Caller) -> Instant {
    let left = caller.expires_at().saturating_sub(app.clock.now().unix_timestamp());
    Instant::now() + Duration::from_secs(u64::try_from(left).unwrap_or(0)).min(MAX_AGE)
}

async fn next_order(changes: &mut Streaming<WatchOrderResponse>) -> Result<Option<Order>, Problem> {
    match changes.message().await? {
        Some(change) => carried(change.order).map(Some),
        None => Ok(None),
    }
}

/// One open stream.
struct Watch {
    pending: Option<Order>,
    changes: Streaming<WatchOrderResponse>,
    ends: Instant,
    soft: CancellationToken,
    instance: String,
    trace_id: TraceId,
    _permit: OwnedSemaphorePermit,
}

impl Watch {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(Some(self), |watch| async move {
            let mut watch = watch?;
            match watch.next().await {
                Ok(Some(order)) => {
                    let last = order.status.is_final();
                    let event = order_event(&order);
                    Some((Ok(event), (!last).then_some(watch)))
                }
                Ok(None) => None,
                Err(problem) => Some((Ok(watch.problem_event(&problem)), None)),
            }
        })
    }

    async fn next(&mut self) -> Result<Option<Order>, Problem> {
        if let Some(order) = self.pending.take() {
            return Ok(Some(order));
        }
        tokio::select! {
            change = next_order(&mut self.changes) => change,
            () = self.soft.cancelled() => Ok(None),
            () = sleep_until(self.ends) => Ok(None),
        }
    }

    fn problem_event(&self, problem: &Problem) -> Event {
        let document = problem.document(&self.instance, &self.trace_id.0);
        Event::default().event("problem").data(serde_json::to_string(&document).unwrap_or_default())
    }
}

fn order_event(order: &Order) -> Event {
    let data = serde_json::to_string(order).unwrap_or_default();
    Event::default().event("order").id(order.version.to_string()).data(data)
}
