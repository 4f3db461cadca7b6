//! The gRPC face of the use cases: see who asks, convert, call, convert.

mod asker;

use std::sync::Arc;

use portolan_kernel::{FieldViolation, IdGen, OrderId};
use portolan_messaging::Waker;
use portolan_proto::{
    common::v1 as common,
    order::v1::{self as proto, order_service_server::OrderService},
};
use portolan_runtime::{Tasks, grpc::status};
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use crate::{
    app::{self, Changes, Error, PlaceOrder, Placement},
    domain::State,
    store::{guards::Stats, timeline::Entry, timestamp},
};

/// Every method, by the name that callers are allowed it by.
pub(crate) const METHODS: [&str; 7] = [
    "portolan.order.v1.OrderService/PlaceOrder",
    "portolan.order.v1.OrderService/GetOrder",
    "portolan.order.v1.OrderService/ListOrders",
    "portolan.order.v1.OrderService/CancelOrder",
    "portolan.order.v1.OrderService/GetTimeline",
    "portolan.order.v1.OrderService/WatchOrder",
    "portolan.order.v1.OrderService/GetUserStats",
];

/// The service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) pool: PgPool,
    pub(crate) ids: Arc<dyn IdGen>,
    pub(crate) tasks: Tasks,
    pub(crate) waker: Waker,
    pub(crate) changes: Changes,
    pub(crate) place: PlaceOrder,
}

type Answer<T> = Result<Response<T>, Status>;
type Watch = std::pin::Pin<
    Box<dyn futures::Stream<Item = Result<proto::WatchOrderResponse, Status>> + Send>,
>;

#[tonic::async_trait]
impl OrderService for Service {
    async fn place_order(
        &self,
        request: Request<proto::PlaceOrderRequest>,
    ) -> Answer<proto::PlaceOrderResponse> {
        let proto::PlaceOrderRequest { user_id, idempotency_key, lines, payment_token } =
            asker::own(request, |asked| &asked.user_id)?;
        let lines = lines.into_iter().map(|line| (line.sku, line.quantity)).collect();
        let placement = Placement { user_id, key: idempotency_key, lines, payment_token };
        let placed = self.place.run(placement).await.map_err(|e| status(&e))?;
        Ok(Response::new(proto::PlaceOrderResponse {
            order: Some(placed.order),
            replayed: placed.replayed,
        }))
    }

    async fn get_order(
        &self,
        request: Request<proto::GetOrderRequest>,
    ) -> Answer<proto::GetOrderResponse> {
        let proto::GetOrderRequest { user_id, order_id } =
            asker::own_or_any(request, |asked| &asked.user_id)?;
        let order =
            app::get(&self.pool, user(&user_id), id(&order_id)?).await.map_err(|e| status(&e))?;
        Ok(Response::new(proto::GetOrderResponse { order: Some(order.to_proto()) }))
    }

    async fn list_orders(
        &self,
        request: Request<proto::ListOrdersRequest>,
    ) -> Answer<proto::ListOrdersResponse> {
        let request = asker::own(request, |asked| &asked.user_id)?;
        let state = state(request.status());
        let page = app::list(&self.pool, &request.user_id, &request.cursor, request.limit, state)
            .await
            .map_err(|e| status(&e))?;
        Ok(Response::new(proto::ListOrdersResponse {
            orders: page.orders.iter().map(crate::store::OrderRow::to_proto).collect(),
            next_cursor: page.next_cursor,
        }))
    }

    async fn cancel_order(
        &self,
        request: Request<proto::CancelOrderRequest>,
    ) -> Answer<proto::CancelOrderResponse> {
        let proto::CancelOrderRequest { user_id, order_id } =
            asker::own(request, |asked| &asked.user_id)?;
        let order = app::cancel(
            &self.pool,
            self.ids.as_ref(),
            &self.waker,
            &self.changes,
            &user_id,
            id(&order_id)?,
        )
        .await
        .map_err(|e| status(&e))?;
        Ok(Response::new(proto::CancelOrderResponse { order: Some(order.to_proto()) }))
    }

    async fn get_timeline(
        &self,
        request: Request<proto::GetTimelineRequest>,
    ) -> Answer<proto::GetTimelineResponse> {
        let proto::GetTimelineRequest { user_id, order_id } =
            asker::own_or_any(request, |asked| &asked.user_id)?;
        let entries = app::timeline(&self.pool, user(&user_id), id(&order_id)?)
            .await
            .map_err(|e| status(&e))?;
        Ok(Response::new(proto::GetTimelineResponse {
            entries: entries.into_iter().map(timeline_entry).collect(),
        }))
    }

    type WatchOrderStream = Watch;

    async fn watch_order(
        &self,
        request: Request<proto::WatchOrderRequest>,
    ) -> Answer<Self::WatchOrderStream> {
        let proto::WatchOrderRequest { user_id, order_id } =
            asker::own_or_any(request, |asked| &asked.user_id)?;
        let id = id(&order_id)?;
        app::get(&self.pool, user(&user_id), id).await.map_err(|e| status(&e))?;
        let (sender, receiver) = mpsc::channel(4);
        let (changes, pool, stop) = (self.changes.clone(), self.pool.clone(), self.tasks.soft());
        self.tasks.spawn_request(async move { changes.follow(pool, id, sender, stop).await });
        let stream = ReceiverStream::new(receiver).map(|order| match order {
            Ok(order) => Ok(proto::WatchOrderResponse { order: Some(order) }),
            Err(error) => Err(status(&error)),
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn get_user_stats(
        &self,
        request: Request<proto::GetUserStatsRequest>,
    ) -> Answer<proto::GetUserStatsResponse> {
        let user = asker::own(request, |asked| &asked.user_id)?.user_id;
        let stats = app::stats(&self.pool, &user).await.map_err(|e| status(&e))?;
        Ok(Response::new(proto::GetUserStatsResponse {
            stats: Some(stats.map(user_stats).unwrap_or_default()),
        }))
    }
}

/// No user means an operator, who may see every order.
fn user(user_id: &str) -> Option<&str> {
    (!user_id.is_empty()).then_some(user_id)
}

fn id(order_id: &str) -> Result<OrderId, Status> {
    order_id.parse().map_err(|_| {
        status(&Error::Field(FieldViolation {
            field: "order_id".to_owned(),
            description: "is not a UUID".to_owned(),
        }))
    })
}

const fn state(status: proto::OrderStatus) -> Option<State> {
    match status {
        proto::OrderStatus::Unspecified => None,
        proto::OrderStatus::Pending => Some(State::Pending),
        proto::OrderStatus::AwaitingPayment => Some(State::AwaitingPayment),
        proto::OrderStatus::Confirmed => Some(State::Confirmed),
        proto::OrderStatus::Completed => Some(State::Completed),
        proto::OrderStatus::Cancelled => Some(State::Cancelled),
    }
}

fn timeline_entry(entry: Entry) -> proto::TimelineEntry {
    proto::TimelineEntry {
        event_id: entry.event_id.to_string(),
        r#type: entry.event_type,
        source: entry.source,
        time: Some(timestamp(entry.at)),
        trace_id: entry.trace_id,
        detail: entry.detail,
    }
}

fn user_stats(stats: Stats) -> proto::UserStats {
    proto::UserStats {
        orders: stats.orders,
        completed: stats.completed,
        cancelled: stats.cancelled,
        open: i64::from(stats.open),
        spent: stats
            .spent
            .into_iter()
            .map(|(currency, minor_units)| common::Money { minor_units, currency })
            .collect(),
        last_order_id: stats.last.0.to_string(),
        last_order_at: Some(timestamp(stats.last.1)),
    }
}

#[cfg(test)]
mod method_names {
    use portolan_proto::order::v1::order_service_server::SERVICE_NAME;

    #[test]
    fn every_method_of_the_contract_is_listed() {
        let contract = include_str!("../../../../proto/portolan/order/v1/order.proto");
        let named = contract.lines().filter_map(|line| line.trim().strip_prefix("rpc "));
        let named = named.filter_map(|rest| rest.split_once('('));
        let named: Vec<String> = named.map(|(name, _)| format!("{SERVICE_NAME}/{name}")).collect();
        assert_eq!(named, super::METHODS);
    }
}
