//! The gRPC service: converts, calls the use case, converts back.

use portolan_proto::notification::v1 as pb;
use portolan_runtime::grpc::status;
use prost_types::Timestamp;
use sqlx::PgPool;
use time::OffsetDateTime;
use tonic::{Request, Response, Status};

use crate::app::{self, Shown};

/// Every method, by the name that callers are allowed it by.
pub(crate) const METHODS: [&str; 1] =
    ["portolan.notification.v1.NotificationService/ListNotifications"];

/// The service's RPCs.
#[derive(Clone, Debug)]
pub struct Api {
    pool: PgPool,
}

impl Api {
    /// RPCs over a database.
    pub const fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

#[tonic::async_trait]
impl pb::notification_service_server::NotificationService for Api {
    async fn list_notifications(
        &self,
        request: Request<pb::ListNotificationsRequest>,
    ) -> Result<Response<pb::ListNotificationsResponse>, Status> {
        let order_id = request.into_inner().order_id;
        let shown = app::list_notifications(&self.pool, &order_id).await;
        let shown = shown.map_err(|error| status(&error))?;
        let notifications = shown.into_iter().map(|one| convert(&order_id, one)).collect();
        Ok(Response::new(pb::ListNotificationsResponse { notifications }))
    }
}

fn convert(order_id: &str, shown: Shown) -> pb::Notification {
    let status = match shown.status {
        app::Status::Pending => pb::NotificationStatus::Pending,
        app::Status::Sent => pb::NotificationStatus::Sent,
        app::Status::Failed => pb::NotificationStatus::Failed,
    };
    pb::Notification {
        order_id: order_id.to_owned(),
        kind: app::wire_kind(shown.kind).into(),
        status: status.into(),
        message_id: shown.message_id,
        sent_at: shown.sent_at.map(timestamp),
    }
}

fn timestamp(at: OffsetDateTime) -> Timestamp {
    Timestamp {
        seconds: at.unix_timestamp(),
        nanos: i32::try_from(at.nanosecond()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod method_names {
    use portolan_proto::notification::v1::notification_service_server::SERVICE_NAME;

    #[test]
    fn every_method_of_the_contract_is_listed() {
        let contract = include_str!("../../../proto/portolan/notification/v1/notification.proto");
        let named = contract.lines().filter_map(|line| line.trim().strip_prefix("rpc "));
        let named = named.filter_map(|rest| rest.split_once('('));
        let named: Vec<String> = named.map(|(name, _)| format!("{SERVICE_NAME}/{name}")).collect();
        assert_eq!(named, super::METHODS);
    }
}
