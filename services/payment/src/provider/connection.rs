//! The line to the provider: whose certificate is trusted, and which key is shown.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::http::{HeaderValue, StatusCode, header::AUTHORIZATION};
use portolan_runtime::{Context, files::Watched, http, http_client};
use tokio::sync::watch;

use crate::{
    api_keys::ApiKeys,
    config::{ProviderConfig, ProviderTls},
};

/// The provider's component in the mesh.
const COMPONENT: &str = "psp";

/// How requests get to the provider. Clones share their connections.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    http: reqwest::Client,
    url: String,
    keys: Option<watch::Receiver<Arc<ApiKeys>>>,
}

impl Connection {
    /// A connection that is made when it is first used. The file with the key is read again every
    /// `poll`.
    ///
    /// # Errors
    /// The TLS backend cannot be set up, the file is missing or holds no key.
    pub(super) fn new(
        config: &ProviderConfig,
        ctx: &Context,
        poll: Duration,
    ) -> anyhow::Result<Self> {
        let http = match config.tls(ctx.tls.is_some()) {
            None | Some(ProviderTls::Public) => http_client(config.timeout())?,
            Some(ProviderTls::Mesh) => {
                let tls = ctx.tls.as_ref().context("psp.tls = \"mesh\" needs [tls]")?;
                http::mesh_client(config.timeout(), tls, COMPONENT)?
            }
        };
        let keys = config.api_key_file.as_ref().map(|file| {
            let keys = Watched::load("psp.api_key_file", file, ApiKeys::parse)?;
            keys.keep_current(&ctx.tasks, poll);
            anyhow::Ok(keys.subscribe())
        });
        let url = config.url.trim_end_matches('/').to_owned();
        Ok(Self { http, url, keys: keys.transpose()? })
    }

    /// The beginning of a request to a path of the provider.
    pub(super) fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// Sends a request with the current key, and with the previous one if the provider does not know
    /// the current one yet. It has done nothing then, so nothing is done twice.
    pub(super) async fn send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> reqwest::Result<reqwest::Response> {
        let Some(keys) = self.keys.as_ref().map(|keys| Arc::clone(&keys.borrow())) else {
            return request.send().await;
        };
        let again = request.try_clone();
        let answer = send_with(request, keys.authorization()).await?;
        match (again, keys.previous_authorization()) {
            (Some(again), Some(previous)) if answer.status() == StatusCode::UNAUTHORIZED => {
                tracing::debug!("the provider does not know the new key yet");
                send_with(again, previous).await
            }
            _ => Ok(answer),
        }
    }
}

async fn send_with(
    request: reqwest::RequestBuilder,
    authorization: HeaderValue,
) -> reqwest::Result<reqwest::Response> {
    request.header(AUTHORIZATION, authorization).send().await
}
