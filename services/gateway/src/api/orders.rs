use axum::extract::State;
use http::Uri;
use portolan_proto::order::v1::{
    CancelOrderRequest, GetOrderRequest, ListOrdersRequest, OrderStatus as ProtoStatus,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::order::{Order, OrderStatus, carried};
use crate::{
    app::App,
    extract::{Caller, Customer, OrderPath, Params},
    openapi::{ConflictProblem, NotFoundProblem, QueryProblem, Secured},
    problem::Problem,
};

/// A page of a customer's orders.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OrderPage {
    /// The orders, newest first.
    orders: Vec<Order>,
    /// The `cursor` of the next page; null on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Get an order
///
/// A customer sees only their own orders, an operator every one.
#[utoipa::path(
    get, path = "/v1/orders/{id}", tag = "orders", operation_id = "getOrder",
    params(("id" = String, Path, format = Uuid, description = "The order")),
    responses((status = 200, description = "The order", body = Order), NotFoundProblem, Secured),
    security(("bearer" = [])),
)]
pub(crate) async fn get_order(
    State(app): State<App>,
    caller: Caller,
    OrderPath(id): OrderPath,
) -> Result<axum::Json<Order>, Problem> {
    let request = GetOrderRequest { user_id: caller.reads_as(), order_id: id.to_string() };
    let request = app.on_behalf(&caller.identity(), request);
    let found = app.orders.clone().get_order(request).await?.into_inner();
    carried(found.order).map(axum::Json)
}

/// List one's orders
///
/// Newest first.
#[utoipa::path(
    get, path = "/v1/orders", tag = "orders", operation_id = "listOrders",
    params(
        ("cursor" = Option<String>, Query, max_length = 512, pattern = "^[!-~]*$",
            description = "Where the previous page ended: its `next_cursor`"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "How many orders \
            at most; 20 if not given"),
        ("status" = Option<OrderStatus>, Query, description = "Only orders of this status"),
    ),
    responses((status = 200, description = "A page of orders", body = OrderPage), QueryProblem,
        Secured),
    security(("bearer" = [])),
)]
pub(crate) async fn list_orders(
    State(app): State<App>,
    customer: Customer,
    uri: Uri,
) -> Result<axum::Json<OrderPage>, Problem> {
    let params = Params::of(&uri, &["cursor", "limit", "status"])?;
    let request = ListOrdersRequest {
        user_id: customer.user_id(),
        cursor: params.cursor()?,
        limit: params.limit()?,
        status: status(&params)?.into(),
    };
    let request = app.on_behalf(customer.identity(), request);
    let page = app.orders.clone().list_orders(request).await?.into_inner();
    let orders = page.orders.into_iter().map(Order::try_from).collect::<Result<_, _>>()?;
    let next_cursor = Some(page.next_cursor).filter(|cursor| !cursor.is_empty());
    Ok(axum::Json(OrderPage { orders, next_cursor }))
}

fn status(params: &Params) -> Result<ProtoStatus, Problem> {
    let Some(name) = params.get("status") else { return Ok(ProtoStatus::Unspecified) };
    let message = "must be PENDING, AWAITING_PAYMENT, CONFIRMED, COMPLETED or CANCELLED";
    let status = OrderStatus::from_name(name).ok_or_else(|| Problem::field("status", message))?;
    Ok(status.into())
}

/// Cancel an order
///
/// Possible until the order is confirmed. Cancelling a cancelled order changes nothing and
/// succeeds.
#[utoipa::path(
    post, path = "/v1/orders/{id}/cancel", tag = "orders", operation_id = "cancelOrder",
    params(("id" = String, Path, format = Uuid, description = "The order")),
    responses((status = 200, description = "The cancelled order", body = Order), NotFoundProblem,
        ConflictProblem, Secured),
    security(("bearer" = [])),
)]
pub(crate) async fn cancel_order(
    State(app): State<App>,
    customer: Customer,
    OrderPath(id): OrderPath,
) -> Result<axum::Json<Order>, Problem> {
    let request = CancelOrderRequest { user_id: customer.user_id(), order_id: id.to_string() };
    let request = app.on_behalf(customer.identity(), request);
    let cancelled = app.orders.clone().cancel_order(request).await?.into_inner();
    carried(cancelled.order).map(axum::Json)
}
