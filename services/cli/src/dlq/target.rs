use std::time::Duration;

use anyhow::{Context as _, anyhow};
use portolan_auth::Role;
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Letter, Place};
use crate::{
    cluster::config::Config,
    gateway::{self, Refusal},
    local::{LOAD, StateDir},
    token::Signer,
};

/// As long as one command could take.
const TOKEN_TTL: Duration = Duration::from_mins(15);

/// A gateway, and who we are there.
pub(super) struct Target {
    http: reqwest::Client,
    base: String,
    token: SecretString,
    jaeger: Option<String>,
}

impl Target {
    /// # Errors
    /// There is no gateway, or no way to be an operator.
    pub(super) fn find(place: &Place) -> anyhow::Result<Self> {
        let state = StateDir::at(&place.state)?;
        let config = match (&place.config, &place.gateway) {
            (Some(file), _) => Config::read(file)?,
            (None, Some(_)) => Config::default(),
            (None, None) => state.tools(LOAD)?,
        };
        let url = place.gateway.as_ref().or(config.services.gateway.first());
        let url = url.context("there is no gateway: name it with --gateway")?;
        let token = match (&place.token_file, &config.issuer) {
            (Some(file), _) => std::fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?
                .trim()
                .to_owned()
                .into(),
            (None, Some(issuer)) => sign(&Signer::of(issuer)?, &place.operator)?,
            (None, None) => sign(&Signer::open(&state)?, &place.operator)?,
        };
        let jaeger = place.jaeger.clone().or(config.services.jaeger);
        Ok(Self { http: gateway::client()?, base: gateway::base(url)?, token, jaeger })
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        parameters: &[(&str, Option<&str>)],
    ) -> anyhow::Result<T> {
        let mut url = reqwest::Url::parse(&format!("{}{path}", self.base))?;
        for (name, value) in parameters {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        self.send(self.http.get(url)).await.map_err(|refusal| self.failed(&refusal))
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<T, Refusal> {
        self.send(self.http.post(format!("{}{path}", self.base)).json(body)).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<T, Refusal> {
        let request = request.bearer_auth(self.token.expose_secret());
        Ok(gateway::answer(request.send().await).await?.body)
    }

    /// A refusal in words.
    pub(super) fn failed(&self, refusal: &Refusal) -> anyhow::Error {
        anyhow!("the gateway at {}: {}", self.base, refusal.why())
    }

    #[cfg(test)]
    pub(super) fn at(base: String) -> Self {
        Self { http: gateway::client().unwrap(), base, token: "t".to_owned().into(), jaeger: None }
    }

    /// Where to look at a trace.
    pub(super) fn trace_url(&self, trace_id: &str) -> Option<String> {
        let jaeger = self.jaeger.as_ref().filter(|_| !trace_id.is_empty())?;
        Some(format!("{}/trace/{trace_id}", jaeger.trim_end_matches('/')))
    }

    pub(super) fn linked(&self, letter: Letter) -> Letter {
        Letter { trace_url: self.trace_url(&letter.trace_id), ..letter }
    }
}

fn sign(signer: &Signer, operator: &str) -> anyhow::Result<SecretString> {
    signer.sign(operator, Role::Operator, TOKEN_TTL)
}
