use axum::{
    Router, middleware,
    routing::{get, post},
};

use crate::{
    api::{dead_letters, events, meta, orders, place, products, stats, timeline, tokens},
    app::App,
    edge::edge,
    extract::Visitor,
    problem::{Problem, kind},
    rate::meter,
};

/// Every address of the gateway.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/v1/tokens", post(tokens::create_token))
        .route("/.well-known/jwks.json", get(meta::get_keys))
        .route("/v1/products", get(products::list_products))
        .route("/v1/products/{sku}", get(products::get_product))
        .route("/v1/orders", get(orders::list_orders).post(place::place_order))
        .route("/v1/orders/{id}", get(orders::get_order))
        .route("/v1/orders/{id}/cancel", post(orders::cancel_order))
        .route("/v1/orders/{id}/timeline", get(timeline::get_timeline))
        .route("/v1/orders/{id}/events", get(events::watch_order))
        .route("/v1/me/stats", get(stats::get_stats))
        .route("/v1/admin/dlq", get(dead_letters::list_dead_letters))
        .route("/v1/admin/dlq/{group}/{event_id}", get(dead_letters::get_dead_letter))
        .route("/v1/admin/dlq/{group}/redrive", post(dead_letters::redrive_dead_letters))
        .route("/v1/admin/dlq/{group}/drop", post(dead_letters::drop_dead_letter))
        .route("/openapi.json", get(meta::get_description))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(app.clone(), meter))
        .layer(middleware::from_fn_with_state(app.clone(), edge))
        .with_state(app)
}

async fn no_route(_visitor: Visitor) -> Problem {
    Problem::new(kind::NOT_FOUND, "There is nothing at this address.")
}

/// The router adds `Allow`.
async fn no_method(_visitor: Visitor) -> Problem {
    Problem::new(kind::METHOD_NOT_ALLOWED, "This address exists, but not with this method.")
}
