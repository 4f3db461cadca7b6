use std::{
    pin::Pin,
    sync::{Arc, Mutex},
};

use futures::{Stream, StreamExt as _, stream};
use portolan_auth::Identity;
use portolan_kernel::{Coded, ErrorCode, FieldViolation};
use portolan_proto::{
    common::v1::{Money, PricedLine},
    inventory::v1::{self as inventory, inventory_service_server::InventoryService},
    ops::v1::{self as ops, dead_letter_service_server::DeadLetterService},
    order::v1::{self as order, OrderStatus, order_service_server::OrderService},
};
use portolan_runtime::grpc::status;
use prost_types::Timestamp;
use tonic::{Request, Response, Status};

pub(crate) const ORDER_ID: &str = "0192f0c1-2c5e-7a3b-8f00-0123456789ab";

/// Both services: what they were asked, and what they are to answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Double(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    calls: Vec<String>,
    placed: Vec<order::PlaceOrderRequest>,
    readers: Vec<String>,
    refusal: Option<Refusal>,
    story: Vec<OrderStatus>,
    silent: bool,
    trace: Option<String>,
    asker: Option<Identity>,
    remedies: Vec<(ops::Selection, ops::Warrant)>,
}

/// An error that a service answers.
#[derive(Clone, Debug, thiserror::Error)]
#[error("refused")]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) reason: &'static str,
    pub(crate) violations: Vec<FieldViolation>,
    pub(crate) retry_after_secs: Option<u32>,
}

impl Coded for Refusal {
    fn code(&self) -> ErrorCode {
        self.code
    }

    fn reason(&self) -> &'static str {
        self.reason
    }

    fn public_message(&self) -> std::borrow::Cow<'static, str> {
        "The double refuses.".into()
    }

    fn violations(&self) -> Vec<FieldViolation> {
        self.violations.clone()
    }

    fn retry_after_secs(&self) -> Option<u32> {
        self.retry_after_secs
    }
}

impl Double {
    pub(crate) fn refuse(&self, refusal: Refusal) {
        self.0.lock().unwrap().refusal = Some(refusal);
    }

    /// Never answers any more.
    pub(crate) fn fall_silent(&self) {
        self.0.lock().unwrap().silent = true;
    }

    /// What a watcher is told.
    pub(crate) fn tell(&self, story: &[OrderStatus]) {
        self.0.lock().unwrap().story = story.to_vec();
    }

    pub(crate) fn calls(&self) -> usize {
        self.0.lock().unwrap().calls.len()
    }

    pub(crate) fn placed(&self) -> Vec<order::PlaceOrderRequest> {
        self.0.lock().unwrap().placed.clone()
    }

    /// What operators asked for.
    pub(crate) fn remedies(&self) -> Vec<(ops::Selection, ops::Warrant)> {
        self.0.lock().unwrap().remedies.clone()
    }

    fn remedy(
        &self,
        selection: Option<ops::Selection>,
        warrant: Option<ops::Warrant>,
    ) -> Vec<ops::KeyResult> {
        self.0.lock().unwrap().remedies.push((selection.unwrap(), warrant.unwrap()));
        vec![ops::KeyResult {
            key: ORDER_ID.to_owned(),
            outcome: ops::Outcome::Stopped.into(),
            applied: 1,
            waiting: 2,
            event_id: ORDER_ID.to_owned(),
            reason: "invalid_event".to_owned(),
            detail: "why".to_owned(),
        }]
    }

    pub(crate) fn last_reader(&self) -> Option<String> {
        self.0.lock().unwrap().readers.last().cloned()
    }

    /// The `traceparent` of the last call.
    pub(crate) fn trace(&self) -> Option<String> {
        self.0.lock().unwrap().trace.clone()
    }

    /// On whose behalf the last call was made.
    pub(crate) fn asker(&self) -> Option<Identity> {
        self.0.lock().unwrap().asker.clone()
    }

    async fn called<T>(&self, name: &str, request: &Request<T>) -> Result<(), Status> {
        let (refusal, silent) = {
            let mut inner = self.0.lock().unwrap();
            inner.calls.push(name.to_owned());
            let trace = request.metadata().get("traceparent");
            inner.trace = trace.map(|value| value.to_str().unwrap().to_owned());
            inner.asker = Identity::read(request.metadata().as_ref());
            (inner.refusal.clone(), inner.silent)
        };
        if silent {
            std::future::pending::<()>().await;
        }
        refusal.map_or(Ok(()), |refusal| Err(status(&refusal)))
    }

    fn read_by(&self, user_id: &str) -> Result<(), Status> {
        self.0.lock().unwrap().readers.push(user_id.to_owned());
        let mine = user_id.is_empty() || user_id == "alice";
        let missing = Refusal {
            code: ErrorCode::NotFound,
            reason: "not_found",
            violations: Vec::new(),
            retry_after_secs: None,
        };
        if mine { Ok(()) } else { Err(status(&missing)) }
    }
}

pub(crate) fn an_order(status: OrderStatus, version: i64) -> order::Order {
    let at = |seconds| Some(Timestamp { seconds: 1_790_000_000 + seconds, nanos: 123_456_000 });
    let pounds = |minor_units| Money { minor_units, currency: "GBP".to_owned() };
    order::Order {
        id: ORDER_ID.to_owned(),
        user_id: "alice".to_owned(),
        status: status.into(),
        cancel_reason: 0,
        amount: Some(pounds(510)),
        lines: vec![PricedLine { sku: "85123A".to_owned(), quantity: 2, unit_price_minor: 255 }],
        version,
        created_at: at(0),
        updated_at: at(version),
        deadline: at(900),
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl OrderService for Double {
    async fn place_order(
        &self,
        request: Request<order::PlaceOrderRequest>,
    ) -> Answer<order::PlaceOrderResponse> {
        self.called("place", &request).await?;
        let request = request.into_inner();
        let mut inner = self.0.lock().unwrap();
        let replayed = inner.placed.contains(&request);
        inner.placed.push(request);
        let order = Some(an_order(OrderStatus::Pending, 1));
        Ok(Response::new(order::PlaceOrderResponse { order, replayed }))
    }

    async fn get_order(
        &self,
        request: Request<order::GetOrderRequest>,
    ) -> Answer<order::GetOrderResponse> {
        self.called("get", &request).await?;
        self.read_by(&request.get_ref().user_id)?;
        let order = Some(an_order(OrderStatus::Completed, 4));
        Ok(Response::new(order::GetOrderResponse { order }))
    }

    async fn list_orders(
        &self,
        request: Request<order::ListOrdersRequest>,
    ) -> Answer<order::ListOrdersResponse> {
        self.called("list", &request).await?;
        let request = request.into_inner();
        let orders = vec![an_order(request.status(), 1)];
        let next_cursor = if request.cursor.is_empty() { "more" } else { "" }.to_owned();
        Ok(Response::new(order::ListOrdersResponse { orders, next_cursor }))
    }

    async fn cancel_order(
        &self,
        request: Request<order::CancelOrderRequest>,
    ) -> Answer<order::CancelOrderResponse> {
        self.called("cancel", &request).await?;
        self.read_by(&request.get_ref().user_id)?;
        let mut order = an_order(OrderStatus::Cancelled, 2);
        order.cancel_reason = order::CancelReason::Customer.into();
        Ok(Response::new(order::CancelOrderResponse { order: Some(order) }))
    }

    async fn get_timeline(
        &self,
        request: Request<order::GetTimelineRequest>,
    ) -> Answer<order::GetTimelineResponse> {
        self.called("timeline", &request).await?;
        self.read_by(&request.get_ref().user_id)?;
        let entry = order::TimelineEntry {
            event_id: ORDER_ID.to_owned(),
            r#type: "portolan.order.placed.v1".to_owned(),
            source: "/portolan/order".to_owned(),
            time: Some(Timestamp { seconds: 1_790_000_000, nanos: 0 }),
            ..order::TimelineEntry::default()
        };
        Ok(Response::new(order::GetTimelineResponse { entries: vec![entry] }))
    }

    type WatchOrderStream =
        Pin<Box<dyn Stream<Item = Result<order::WatchOrderResponse, Status>> + Send>>;

    async fn watch_order(
        &self,
        request: Request<order::WatchOrderRequest>,
    ) -> Answer<Self::WatchOrderStream> {
        self.called("watch", &request).await?;
        self.read_by(&request.get_ref().user_id)?;
        let story = self.0.lock().unwrap().story.clone();
        let told = (1..).zip(story).map(|(version, status)| {
            Ok(order::WatchOrderResponse { order: Some(an_order(status, version)) })
        });
        // The stream stays open: ending it after the final state is the gateway's decision.
        let told = stream::iter(told.collect::<Vec<_>>()).chain(stream::pending());
        Ok(Response::new(Box::pin(told)))
    }

    async fn get_user_stats(
        &self,
        request: Request<order::GetUserStatsRequest>,
    ) -> Answer<order::GetUserStatsResponse> {
        self.called("stats", &request).await?;
        let stats = order::UserStats { orders: 3, open: 3, ..order::UserStats::default() };
        Ok(Response::new(order::GetUserStatsResponse { stats: Some(stats) }))
    }
}

fn a_product(sku: &str) -> inventory::Product {
    let price = Some(Money { minor_units: 255, currency: "GBP".to_owned() });
    inventory::Product { sku: sku.to_owned(), name: "Heart".to_owned(), price, available: 7 }
}

#[tonic::async_trait]
impl InventoryService for Double {
    async fn quote(
        &self,
        _request: Request<inventory::QuoteRequest>,
    ) -> Answer<inventory::QuoteResponse> {
        Err(Status::unimplemented("the gateway never asks for prices"))
    }

    async fn list_products(
        &self,
        request: Request<inventory::ListProductsRequest>,
    ) -> Answer<inventory::ListProductsResponse> {
        self.called("products", &request).await?;
        let products = vec![a_product("85123A")];
        let next_cursor = String::new();
        Ok(Response::new(inventory::ListProductsResponse { products, next_cursor }))
    }

    async fn get_product(
        &self,
        request: Request<inventory::GetProductRequest>,
    ) -> Answer<inventory::GetProductResponse> {
        self.called("product", &request).await?;
        let product = Some(a_product(&request.get_ref().sku));
        Ok(Response::new(inventory::GetProductResponse { product }))
    }

    async fn import_products(
        &self,
        _request: Request<inventory::ImportProductsRequest>,
    ) -> Answer<inventory::ImportProductsResponse> {
        Err(Status::unimplemented("the gateway imports nothing"))
    }
}

/// One dead letter in every group, and a second on the next page.
#[tonic::async_trait]
impl DeadLetterService for Double {
    async fn list(&self, request: Request<ops::ListRequest>) -> Answer<ops::ListResponse> {
        self.called("list dead letters", &request).await?;
        let next_cursor = if request.get_ref().cursor.is_empty() { "7" } else { "" }.to_owned();
        let dead_letters = vec![a_dead_letter()];
        Ok(Response::new(ops::ListResponse { dead_letters, next_cursor }))
    }

    async fn show(&self, request: Request<ops::ShowRequest>) -> Answer<ops::ShowResponse> {
        self.called("show a dead letter", &request).await?;
        Ok(Response::new(ops::ShowResponse {
            dead_letter: Some(a_dead_letter()),
            payload_json: r#"{"order_id":"o"}"#.to_owned(),
            ..ops::ShowResponse::default()
        }))
    }

    async fn redrive(&self, request: Request<ops::RedriveRequest>) -> Answer<ops::RedriveResponse> {
        self.called("redrive", &request).await?;
        let ops::RedriveRequest { selection, warrant } = request.into_inner();
        let results = self.remedy(selection, warrant);
        Ok(Response::new(ops::RedriveResponse { results, next_cursor: "9".to_owned() }))
    }

    async fn drop(&self, request: Request<ops::DropRequest>) -> Answer<ops::DropResponse> {
        self.called("drop", &request).await?;
        let ops::DropRequest { selection, warrant } = request.into_inner();
        let results = self.remedy(selection, warrant);
        Ok(Response::new(ops::DropResponse { results, next_cursor: String::new() }))
    }
}

fn a_dead_letter() -> ops::DeadLetter {
    ops::DeadLetter {
        event_id: ORDER_ID.to_owned(),
        key: ORDER_ID.to_owned(),
        reason: "invalid_event".to_owned(),
        since: Some(Timestamp { seconds: 1_790_000_000, nanos: 0 }),
        trace_id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
        waiting: 2,
        ..ops::DeadLetter::default()
    }
}
