use std::{sync::Arc, time::Duration};

use axum::body::Bytes;
use portolan_auth::{CachePolicy, Issuer, RemoteKeys, Users, Verifier};
use portolan_kernel::{Clock, IdGen};
use portolan_proto::{
    inventory::v1::inventory_service_client::InventoryServiceClient,
    order::v1::order_service_client::OrderServiceClient,
};
use portolan_runtime::{Context, grpc, http_client};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, LimitsConfig},
    openapi,
};

/// A page of 100 orders with 1 000 lines each exceeds the 4 MiB that tonic takes by default.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
const KEYS_TIMEOUT: Duration = Duration::from_secs(3);

/// What the handlers share. Clones share everything.
#[derive(Clone, Debug)]
pub struct App {
    pub(crate) orders: OrderServiceClient<grpc::Client>,
    pub(crate) inventory: InventoryServiceClient<grpc::Client>,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) login: Option<Arc<Login>>,
    pub(crate) limits: LimitsConfig,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdGen>,
    /// Cancelled when the process stops: streams end.
    pub(crate) soft: CancellationToken,
    pub(crate) requests: Arc<Semaphore>,
    pub(crate) streams: Arc<Semaphore>,
    /// The description of the interface, as JSON.
    pub(crate) description: Bytes,
}

/// The built-in issuer and who can log in.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) issuer: Issuer,
    pub(crate) users: Users,
    pub(crate) ttl: Duration,
}

impl App {
    /// Opens the signing key and prepares the channels; nothing is connected yet.
    ///
    /// # Errors
    /// The key file or a URL cannot be used.
    pub fn new(config: &Config, ctx: &Context) -> anyhow::Result<Self> {
        let orders = OrderServiceClient::new(grpc::channel(&config.order_url)?);
        let inventory = InventoryServiceClient::new(grpc::channel(&config.inventory_url)?);
        let login = config.dev_issuer.enabled.then(|| login(config)).transpose()?;
        Ok(Self {
            orders: orders.max_decoding_message_size(MAX_MESSAGE_BYTES),
            inventory: inventory.max_decoding_message_size(MAX_MESSAGE_BYTES),
            verifier: Arc::new(verifier(config, login.as_ref(), ctx)?),
            login: login.map(Arc::new),
            limits: config.limits,
            clock: Arc::clone(&ctx.clock),
            ids: Arc::clone(&ctx.ids),
            soft: ctx.tasks.soft(),
            requests: Arc::new(Semaphore::new(config.limits.concurrent_requests)),
            streams: Arc::new(Semaphore::new(config.limits.concurrent_streams)),
            description: openapi::json()?.into(),
        })
    }
}

fn login(config: &Config) -> anyhow::Result<Login> {
    let (auth, dev) = (&config.auth, &config.dev_issuer);
    Ok(Login {
        issuer: Issuer::open(&dev.key_file, &auth.issuer, &auth.audience)?,
        users: Users::new(dev.user_records())?,
        ttl: dev.token_ttl(),
    })
}

fn verifier(config: &Config, login: Option<&Login>, ctx: &Context) -> anyhow::Result<Verifier> {
    let (issuer, audience) = (config.auth.issuer.clone(), config.auth.audience.clone());
    let clock = Arc::clone(&ctx.clock);
    if let Some(url) = &config.auth.jwks_url {
        let client = http_client(KEYS_TIMEOUT)?;
        let keys = RemoteKeys::new(url, client, CachePolicy::default());
        return Ok(Verifier::from_jwks_url(keys, issuer, audience, clock));
    }
    let keys = login.map(|login| login.issuer.jwks()).unwrap_or_default();
    Ok(Verifier::with_static(keys, issuer, audience, clock))
}
