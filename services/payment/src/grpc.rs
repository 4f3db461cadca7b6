//! The gRPC edge.

use portolan_kernel::Money;
use portolan_proto::payment::v1::{
    GetPaymentRequest, GetPaymentResponse, Payment, PaymentStatus,
    payment_service_server::PaymentService,
};
use prost_types::Timestamp;
use sqlx::PgPool;
use tonic::{Request, Response};

use crate::{app, domain::Status, events::money, store::Row};

/// Every method, by the name that callers are allowed it by.
pub(crate) const METHODS: [&str; 1] = ["portolan.payment.v1.PaymentService/GetPayment"];

/// Shows payments.
#[derive(Clone, Debug)]
pub struct Payments {
    pool: PgPool,
}

impl Payments {
    /// On the service's database.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

#[tonic::async_trait]
impl PaymentService for Payments {
    async fn get_payment(
        &self,
        request: Request<GetPaymentRequest>,
    ) -> Result<Response<GetPaymentResponse>, tonic::Status> {
        let order = request.into_inner().order_id;
        let (row, captured) = app::show(&self.pool, &order)
            .await
            .map_err(|error| portolan_runtime::grpc::status(&error))?;
        Ok(Response::new(GetPaymentResponse { payment: Some(message(row, captured)) }))
    }
}

fn message(row: Row, captured: Option<i64>) -> Payment {
    let payment = row.payment;
    let captured = captured.zip(payment.amount);
    Payment {
        order_id: payment.order.to_string(),
        status: status(payment.status).into(),
        amount: payment.amount.map(money),
        psp_reference: payment.reference.unwrap_or_default(),
        attempt: payment.attempt,
        updated_at: Some(Timestamp {
            seconds: row.updated_at.unix_timestamp(),
            nanos: i32::try_from(row.updated_at.nanosecond()).unwrap_or(0),
        }),
        captured: captured.map(|(minor_units, amount)| money(Money { minor_units, ..amount })),
    }
}

const fn status(status: Status) -> PaymentStatus {
    match status {
        Status::Authorizing => PaymentStatus::Authorizing,
        Status::Authorized => PaymentStatus::Authorized,
        Status::Declined => PaymentStatus::Declined,
        Status::Capturing => PaymentStatus::Capturing,
        Status::Captured => PaymentStatus::Captured,
        Status::CaptureFailed => PaymentStatus::CaptureFailed,
        Status::Voiding => PaymentStatus::Voiding,
        Status::Voided => PaymentStatus::Voided,
        Status::Cancelled => PaymentStatus::Cancelled,
    }
}

#[cfg(test)]
mod method_names {
    use portolan_proto::payment::v1::payment_service_server::SERVICE_NAME;

    #[test]
    fn every_method_of_the_contract_is_listed() {
        let contract = include_str!("../../../proto/portolan/payment/v1/payment.proto");
        let named = contract.lines().filter_map(|line| line.trim().strip_prefix("rpc "));
        let named = named.filter_map(|rest| rest.split_once('('));
        let named: Vec<String> = named.map(|(name, _)| format!("{SERVICE_NAME}/{name}")).collect();
        assert_eq!(named, super::METHODS);
    }
}
