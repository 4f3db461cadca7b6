use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::body::Bytes;
use portolan_auth::{CachePolicy, Identity, RemoteKeys, Verifier};
use portolan_kernel::{Clock, IdGen};
use portolan_proto::{
    inventory::v1::inventory_service_client::InventoryServiceClient,
    ops::v1::dead_letter_service_client::DeadLetterServiceClient,
    order::v1::order_service_client::OrderServiceClient,
};
use portolan_runtime::{
    Context,
    grpc::{self, Guarded, Retrying},
    http_client,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    admission::Admission,
    browsers::Browsers,
    config::{Config, LimitsConfig},
    login::Login,
    openapi,
    rate::Rates,
};

/// A page of 100 orders with 1 000 lines each exceeds the 4 MiB that tonic takes by default.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
const KEYS_TIMEOUT: Duration = Duration::from_secs(3);

/// The transport of every client.
pub(crate) type Channel = Retrying<Guarded>;

/// What changes nothing, however often it is done.
const READS: [&str; 8] = [
    "/portolan.order.v1.OrderService/GetOrder",
    "/portolan.order.v1.OrderService/ListOrders",
    "/portolan.order.v1.OrderService/GetTimeline",
    "/portolan.order.v1.OrderService/GetUserStats",
    "/portolan.inventory.v1.InventoryService/ListProducts",
    "/portolan.inventory.v1.InventoryService/GetProduct",
    "/portolan.ops.v1.DeadLetterService/List",
    "/portolan.ops.v1.DeadLetterService/Show",
];

/// The dead letters of each consumer group are with the service that consumes.
type DeadLetters = Arc<[(&'static str, DeadLetterServiceClient<Channel>)]>;

/// What the handlers share. Clones share everything.
#[derive(Clone, Debug)]
pub struct App {
    pub(crate) orders: OrderServiceClient<Channel>,
    pub(crate) inventory: InventoryServiceClient<Channel>,
    /// By consumer group.
    pub(crate) dead_letters: DeadLetters,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) login: Option<Arc<Login>>,
    pub(crate) limits: LimitsConfig,
    pub(crate) rates: Arc<Rates>,
    pub(crate) browsers: Arc<Browsers>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdGen>,
    /// Cancelled when the process stops: streams end.
    pub(crate) soft: CancellationToken,
    pub(crate) requests: Arc<Semaphore>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) streams: Arc<Semaphore>,
    /// The description of the interface, as JSON.
    pub(crate) description: Bytes,
}

impl App {
    /// Opens the signing keys and the users and prepares the channels; nothing is connected yet.
    ///
    /// # Errors
    /// A file or a URL cannot be used.
    pub fn new(config: &Config, ctx: &Context) -> anyhow::Result<Self> {
        let orders = channel(config, ctx, &config.order_url, "order")?;
        let inventory = channel(config, ctx, &config.inventory_url, "inventory")?;
        let dead_letters = dead_letters(config, ctx, &orders, &inventory)?;
        let login = config.dev_issuer.enabled.then(|| Login::open(config, ctx)).transpose()?;
        Ok(Self {
            orders: OrderServiceClient::new(orders).max_decoding_message_size(MAX_MESSAGE_BYTES),
            inventory: InventoryServiceClient::new(inventory)
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
            dead_letters,
            verifier: Arc::new(verifier(config, login.as_ref(), ctx)?),
            login: login.map(Arc::new),
            limits: config.limits,
            rates: Rates::start(config, ctx)?,
            browsers: Arc::new(Browsers::new(&config.browsers)?),
            clock: Arc::clone(&ctx.clock),
            ids: Arc::clone(&ctx.ids),
            soft: ctx.tasks.soft(),
            requests: Arc::new(Semaphore::new(config.limits.concurrent_requests)),
            admission: Arc::new(Admission::new(&config.limits)),
            streams: Arc::new(Semaphore::new(config.limits.concurrent_streams)),
            description: openapi::json()?.into(),
        })
    }

    /// A call on somebody's behalf, with what is left of the request's time.
    pub(crate) fn on_behalf<T>(&self, asker: &Identity, message: T) -> tonic::Request<T> {
        asked_by(asker, grpc::deadline(message, self.limits.call_timeout()))
    }
}

/// The call says who asks.
pub(crate) fn asked_by<T>(asker: &Identity, mut call: tonic::Request<T>) -> tonic::Request<T> {
    asker.write(call.metadata_mut().as_mut());
    call
}

/// The way to a service, which is left alone when it fails and takes no more than its share. Reads
/// whose connection was lost are repeated.
fn channel(
    config: &Config,
    ctx: &Context,
    url: &str,
    service: &'static str,
) -> anyhow::Result<Channel> {
    let channel = grpc::channel(ctx, url, service)?;
    let calls = config.limits.concurrent_calls;
    let channel = Guarded::new(channel, service, config.breaker, calls);
    Ok(Retrying::new(channel, service, &READS, config.retry, Arc::clone(&ctx.ids)))
}

/// The services that consume, each with the dead letters of its group.
fn dead_letters(
    config: &Config,
    ctx: &Context,
    orders: &Channel,
    inventory: &Channel,
) -> anyhow::Result<DeadLetters> {
    let mut channels = vec![("order", orders.clone()), ("inventory", inventory.clone())];
    for (name, url) in
        [("payment", &config.payment_url), ("notification", &config.notification_url)]
    {
        if let Some(url) = url {
            channels.push((name, channel(config, ctx, url, name)?));
        }
    }
    let client = |(name, channel)| {
        let client = DeadLetterServiceClient::new(channel);
        (name, client.max_decoding_message_size(MAX_MESSAGE_BYTES))
    };
    Ok(channels.into_iter().map(client).collect())
}

fn verifier(config: &Config, login: Option<&Login>, ctx: &Context) -> anyhow::Result<Verifier> {
    if let Some(login) = login {
        return Ok(login.verifier(config, ctx));
    }
    let (issuer, audience) = (config.auth.issuer.clone(), config.auth.audience.clone());
    let url = config.auth.jwks_url.as_deref().context("auth.jwks_url is missing")?;
    let keys = RemoteKeys::new(url, http_client(KEYS_TIMEOUT)?, CachePolicy::default());
    Ok(Verifier::from_jwks_url(keys, issuer, audience, Arc::clone(&ctx.clock)))
}

#[cfg(test)]
mod tests {
    use super::READS;

    #[test]
    fn what_may_be_repeated_are_methods_of_the_contracts() {
        let contracts = [
            ("order", include_str!("../../../proto/portolan/order/v1/order.proto")),
            ("inventory", include_str!("../../../proto/portolan/inventory/v1/inventory.proto")),
            ("ops", include_str!("../../../proto/portolan/ops/v1/ops.proto")),
        ];
        for path in READS {
            let found = contracts.iter().any(|(name, contract)| {
                let prefix = format!("/portolan.{name}.v1.");
                let method = path.strip_prefix(&prefix).and_then(|rest| rest.split_once('/'));
                method.is_some_and(|(_, method)| contract.contains(&format!("rpc {method}(")))
            });
            assert!(found, "{path}");
        }
    }
}
