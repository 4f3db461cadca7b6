use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use portolan_proto::payment::v1::{
    GetPaymentRequest, PaymentStatus, payment_service_client::PaymentServiceClient,
};
use portolan_runtime::grpc;

use super::{drive::Outcome, target::Peer};

const CALL: Duration = Duration::from_secs(10);
const AT_ONCE: usize = 16;
/// A service that was just killed is back soon.
const ATTEMPTS: usize = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// What was captured, by order id, from the payment service's ledger, if there is one to ask. An
/// order without a capture is not there. The provider's own ledger is the audit's to compare (Q3).
///
/// # Errors
/// The payment service cannot be asked.
pub(super) async fn captured(
    payment: Option<&Peer>,
    outcomes: &[Outcome],
) -> anyhow::Result<Option<BTreeMap<String, i64>>> {
    let Some(payment) = payment else { return Ok(None) };
    let client = PaymentServiceClient::new(payment.mesh.channel(&payment.url, "payment")?);
    let ids = outcomes.iter().filter_map(|outcome| Some(outcome.order.as_ref()?.id.clone()));
    let captured = stream::iter(ids)
        .map(|id| one(client.clone(), id))
        .buffer_unordered(AT_ONCE)
        .try_filter_map(|payment| async move { Ok(payment) })
        .try_collect()
        .await
        .context("the payments cannot be compared")?;
    Ok(Some(captured))
}

async fn one(
    mut client: PaymentServiceClient<grpc::Client>,
    id: String,
) -> anyhow::Result<Option<(String, i64)>> {
    let mut attempt = 1;
    let response = loop {
        let request = GetPaymentRequest { order_id: id.clone() };
        match client.get_payment(grpc::deadline(request, CALL)).await {
            Ok(response) => break response.into_inner(),
            Err(status) if status.code() == tonic::Code::NotFound => return Ok(None),
            Err(status) if attempt == ATTEMPTS => return Err(status.into()),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
        attempt += 1;
    };
    let captured = response
        .payment
        .filter(|payment| payment.status() == PaymentStatus::Captured)
        .and_then(|payment| payment.captured);
    Ok(captured.map(|amount| (id, amount.minor_units)))
}
