use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::Response,
};
use http::{Method, request::Parts};

use super::{
    bucket::{Policy, Verdict},
    client::client,
    header::{self, Standing},
};
use crate::{app::App, problem::Problem};

/// What a subject's request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Read,
    Write,
}

/// One request as it is counted: who sent it, and what it was told.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    client: IpAddr,
    class: Class,
    noted: Arc<Mutex<Vec<Standing>>>,
}

/// A layer: gives the request its account, and the answer what was noted there. Extractors count,
/// because they know who is allowed to ask.
pub(crate) async fn meter(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let account = Account::open(&request, app.rates.trusted_proxies);
    request.extensions_mut().insert(account.clone());
    let mut response = next.run(request).await;
    header::write(response.headers_mut(), &account.noted());
    response
}

impl Account {
    fn open(request: &Request, trusted_proxies: usize) -> Self {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map(|ConnectInfo(address)| address.ip());
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        Self {
            client: client(peer, request.headers(), trusted_proxies),
            class: if reads { Class::Read } else { Class::Write },
            noted: Arc::default(),
        }
    }

    /// The account of a request that came through [`meter`].
    pub(crate) fn of(parts: &Parts) -> Result<&Self, Problem> {
        parts.extensions.get().ok_or_else(|| {
            tracing::error!("a request that is not metered");
            Problem::internal()
        })
    }

    pub(crate) const fn client(&self) -> IpAddr {
        self.client
    }

    pub(crate) const fn class(&self) -> Class {
        self.class
    }

    /// Notes what a policy says, and returns in how many seconds to come back.
    pub(crate) fn note(&self, policy: Policy, verdict: Verdict, dice: u8) -> u32 {
        let standing = Standing::new(policy, verdict, dice);
        let seconds = standing.seconds;
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).push(standing);
        seconds
    }

    fn noted(&self) -> Vec<Standing> {
        std::mem::take(&mut *self.noted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
