use axum::extract::State;
use portolan_proto::order::v1::{GetTimelineRequest, TimelineEntry as ProtoEntry};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::money::time;
use crate::{
    app::App,
    extract::{Caller, OrderPath},
    openapi::{NotFoundProblem, Secured},
    problem::Problem,
};

/// Every event of all services about one order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Timeline {
    /// The events, by time.
    entries: Vec<TimelineEntry>,
}

/// One event in the life of an order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TimelineEntry {
    /// The event's id, a `UUIDv7`.
    #[schema(format = Uuid)]
    event_id: String,
    /// The `CloudEvents` type.
    #[serde(rename = "type")]
    #[schema(example = "portolan.payment.captured.v1")]
    kind: String,
    /// The `CloudEvents` source: the service that produced it.
    #[schema(example = "/portolan/payment")]
    source: String,
    /// When its service recorded it.
    #[serde(with = "time::serde::rfc3339")]
    time: OffsetDateTime,
    /// The trace it belongs to, if it is known.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false, example = "0af7651916cd43dd8448eb211c80319c")]
    trace_id: String,
    /// The event's own words, for instance the provider's decline code.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false, example = "insufficient_funds")]
    detail: String,
}

impl TryFrom<ProtoEntry> for TimelineEntry {
    type Error = Problem;

    fn try_from(entry: ProtoEntry) -> Result<Self, Problem> {
        Ok(Self {
            event_id: entry.event_id,
            kind: entry.r#type,
            source: entry.source,
            time: time(entry.time, "timeline.time")?,
            trace_id: entry.trace_id,
            detail: entry.detail,
        })
    }
}

/// Get an order's timeline
#[utoipa::path(
    get, path = "/v1/orders/{id}/timeline", tag = "orders", operation_id = "getTimeline",
    params(("id" = String, Path, format = Uuid, description = "The order")),
    responses((status = 200, description = "The events", body = Timeline), NotFoundProblem,
        Secured),
    security(("bearer" = [])),
)]
pub(crate) async fn get_timeline(
    State(app): State<App>,
    caller: Caller,
    OrderPath(id): OrderPath,
) -> Result<axum::Json<Timeline>, Problem> {
    let request = GetTimelineRequest { user_id: caller.reads_as(), order_id: id.to_string() };
    let request = app.on_behalf(&caller.identity(), request);
    let found = app.orders.clone().get_timeline(request).await?.into_inner();
    let entries = found.entries.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
    Ok(axum::Json(Timeline { entries }))
}
