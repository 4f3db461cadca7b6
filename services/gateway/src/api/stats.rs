use axum::extract::State;
use portolan_proto::order::v1::{GetUserStatsRequest, UserStats};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::money::{Money, optional_time, required};
use crate::{app::App, extract::Customer, openapi::Secured, problem::Problem};

/// What a customer has bought.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stats {
    /// Orders placed.
    orders: i64,
    /// Orders completed.
    completed: i64,
    /// Orders cancelled.
    cancelled: i64,
    /// Orders not yet final.
    open: i64,
    /// What completed orders cost, one amount for each currency.
    spent: Vec<Money>,
    /// The last order; null without one.
    #[schema(required)]
    last_order: Option<LastOrder>,
}

/// The order placed last.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LastOrder {
    /// Its id.
    #[schema(format = Uuid)]
    id: String,
    /// When it was placed.
    #[serde(with = "time::serde::rfc3339")]
    placed_at: OffsetDateTime,
}

impl TryFrom<UserStats> for Stats {
    type Error = Problem;

    fn try_from(stats: UserStats) -> Result<Self, Problem> {
        let id = Some(stats.last_order_id).filter(|id| !id.is_empty());
        let placed_at = optional_time(stats.last_order_at, "stats.last_order_at")?;
        let last_order = id.zip(placed_at).map(|(id, placed_at)| LastOrder { id, placed_at });
        Ok(Self {
            orders: stats.orders,
            completed: stats.completed,
            cancelled: stats.cancelled,
            open: stats.open,
            spent: stats.spent.into_iter().map(Money::from).collect(),
            last_order,
        })
    }
}

/// Get one's statistics
#[utoipa::path(
    get, path = "/v1/me/stats", tag = "customers", operation_id = "getStats",
    responses((status = 200, description = "The statistics", body = Stats), Secured),
    security(("bearer" = [])),
)]
pub(crate) async fn get_stats(
    State(app): State<App>,
    customer: Customer,
) -> Result<axum::Json<Stats>, Problem> {
    let request = GetUserStatsRequest { user_id: customer.user_id() };
    let request = app.on_behalf(customer.identity(), request);
    let found = app.orders.clone().get_user_stats(request).await?.into_inner();
    required(found.stats, "stats")?.try_into().map(axum::Json)
}
