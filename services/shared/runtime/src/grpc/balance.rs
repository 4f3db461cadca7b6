use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Request, Response, Uri, uri::PathAndQuery};
use http_body_util::{BodyExt as _, Full};
use hyper::rt::Executor as _;
use hyper_util::rt::TokioExecutor;
use tokio::time::Instant;
use tonic::{Status, body::Body};

use super::instance::{Instance, Lost, Message};
use crate::net::Dialer;

/// How long a list of addresses is good. New instances get calls within this time.
const FRESH: Duration = Duration::from_secs(5);
/// How often a call that no connection has taken is tried, at most.
const ATTEMPTS: usize = 4;

/// The instances of one service, and the choice among them: the one with the fewest calls under
/// way, one after the other among equals, and those that did not answer lately only when there is
/// no other.
#[derive(Debug)]
pub(super) struct Balance {
    origin: Uri,
    dialer: Dialer,
    known: Mutex<Known>,
    turn: AtomicUsize,
}

#[derive(Debug, Default)]
struct Known {
    instances: BTreeMap<SocketAddr, Arc<Instance>>,
    /// When somebody last began or finished to look the name up.
    resolved: Option<Instant>,
}

/// How much is known about the addresses.
enum Knowledge {
    Good,
    Old,
    None,
}

impl Balance {
    pub(super) fn new(origin: Uri, dialer: Dialer) -> Self {
        Self { origin, dialer, known: Mutex::default(), turn: AtomicUsize::new(0) }
    }

    /// Sends the request to an instance, and again, as long as nobody has taken it. For that it is
    /// read to its end first: none of our methods has a stream of requests.
    pub(super) async fn send(
        self: Arc<Self>,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let (head, body) = self.addressed(request).into_parts();
        let body = body.collect().await?.to_bytes();
        self.refresh().await?;
        let (mut tried, mut problem) = (Vec::new(), None);
        for _ in 0..ATTEMPTS {
            let Some((address, instance)) = self.choose_or_look(&tried).await else { break };
            let message = Message::from_parts(head.clone(), Full::new(body.clone()));
            match instance.call(&self.dialer, message).await {
                Ok(response) => return Ok(response),
                Err(Lost::Taken(status)) => return Err(status),
                Err(Lost::Untaken(status)) => problem = Some(status),
            }
            if instance.is_resting() {
                tried.push(address);
                self.outdated();
            }
        }
        Err(problem.unwrap_or_else(|| Status::unavailable("there is no instance")))
    }

    fn addressed(&self, request: Request<Body>) -> Request<Body> {
        let (mut head, body) = request.into_parts();
        let mut uri = self.origin.clone().into_parts();
        let path = head.uri.into_parts().path_and_query;
        uri.path_and_query = path.or_else(|| Some(PathAndQuery::from_static("/")));
        // The parts are those of two URIs that were valid.
        head.uri = Uri::from_parts(uri).unwrap_or_default();
        Request::from_parts(head, body)
    }

    /// Looks the name up if nobody has for a while. Only the very first call waits for that.
    async fn refresh(self: &Arc<Self>) -> Result<(), Status> {
        match self.knowledge() {
            Knowledge::Good => {}
            Knowledge::None => return self.resolve().await,
            Knowledge::Old => {
                let balance = Arc::clone(self);
                TokioExecutor::new().execute(async move {
                    // If it fails, the old addresses are still the best we know.
                    let _ = balance.resolve().await;
                });
            }
        }
        Ok(())
    }

    /// Says `Old` to one caller at a time, who is to look the name up.
    fn knowledge(&self) -> Knowledge {
        let now = Instant::now();
        let mut known = self.known();
        if known.instances.is_empty() {
            return Knowledge::None;
        }
        if known.resolved.is_some_and(|resolved| now < resolved + FRESH) {
            return Knowledge::Good;
        }
        known.resolved = Some(now);
        Knowledge::Old
    }

    async fn resolve(&self) -> Result<(), Status> {
        let resolved = self.dialer.resolve().await;
        let addresses = resolved.map_err(|error| {
            tracing::debug!(host = %self.origin, %error, "the name leads nowhere");
            Status::unavailable("the name of the service leads nowhere")
        })?;
        let mut known = self.known();
        known.instances.retain(|address, _| addresses.contains(address));
        for address in addresses {
            known.instances.entry(address).or_insert_with(|| Arc::new(Instance::new(address)));
        }
        known.resolved = Some(Instant::now());
        Ok(())
    }

    /// Has the name looked up again at the next call.
    fn outdated(&self) {
        self.known().resolved = None;
    }

    /// When all that are known have failed, others may have taken their place.
    async fn choose_or_look(&self, tried: &[SocketAddr]) -> Option<(SocketAddr, Arc<Instance>)> {
        let chosen = self.choose(tried);
        if chosen.is_some() {
            return chosen;
        }
        self.resolve().await.ok()?;
        self.choose(tried)
    }

    fn choose(&self, tried: &[SocketAddr]) -> Option<(SocketAddr, Arc<Instance>)> {
        let known = self.known();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = known.instances.len().max(1);
        let candidates = known.instances.iter().enumerate();
        let candidates = candidates.filter(|(_, (address, _))| !tried.contains(address));
        let best = candidates.min_by_key(|(index, (_, instance))| {
            (instance.is_resting(), instance.calls(), (index + turn) % count)
        });
        best.map(|(_, (address, instance))| (*address, Arc::clone(instance)))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::Ipv4Addr};

    use axum::{Router, routing::any};
    use tokio::net::TcpListener;
    use tonic::service::Routes;

    use super::*;
    use crate::{Callers, Context, Drained};

    /// An instance that answers with its address.
    async fn instance() -> (Context, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let ctx = Context::new("test", Some(listener));
        let address = ctx.local_addr().unwrap();
        let hello = async move || [("address", address.to_string())];
        let routes = Routes::from(Router::new().route("/test.Test/Hello", any(hello)));
        crate::grpc::serve(&ctx, routes, &Callers::default()).await.unwrap();
        (ctx, address)
    }

    fn balance(addresses: &[SocketAddr]) -> Arc<Balance> {
        named(&Arc::new(Mutex::new(addresses.to_vec())))
    }

    /// Those behind a name, which may change.
    fn named(addresses: &Arc<Mutex<Vec<SocketAddr>>>) -> Arc<Balance> {
        let dialer = Dialer::to(Arc::clone(addresses));
        Arc::new(Balance::new(Uri::from_static("http://test:1"), dialer))
    }

    /// Who answers to so many calls, one after the other, and how often.
    async fn answers(balance: &Arc<Balance>, calls: usize) -> BTreeMap<String, usize> {
        let mut answers = BTreeMap::new();
        for _ in 0..calls {
            let request = Request::post("/test.Test/Hello").body(Body::empty()).unwrap();
            let response = Arc::clone(balance).send(request).await.unwrap();
            let address = response.headers()["address"].to_str().unwrap().to_owned();
            *answers.entry(address).or_default() += 1;
        }
        answers
    }

    #[tokio::test]
    async fn calls_go_to_all_instances_in_turn() {
        let ((_a, first), (_b, second)) = (instance().await, instance().await);
        let expected = [(first.to_string(), 10), (second.to_string(), 10)];
        assert_eq!(answers(&balance(&[first, second]), 20).await, BTreeMap::from(expected));
    }

    #[tokio::test]
    async fn an_instance_that_is_gone_costs_no_call() {
        let ((_a, first), (gone, second)) = (instance().await, instance().await);
        assert_eq!(gone.tasks.clone().shutdown(Duration::from_secs(5)).await, Drained::InTime);
        let answers = answers(&balance(&[first, second]), 10).await;
        assert_eq!(answers, BTreeMap::from([(first.to_string(), 10)]));
    }

    #[tokio::test]
    async fn an_instance_that_stops_costs_no_call_either() {
        let ((_a, first), (stopping, second)) = (instance().await, instance().await);
        let balance = balance(&[first, second]);
        assert_eq!(answers(&balance, 10).await.len(), 2);
        let drained = stopping.tasks.clone().shutdown(Duration::from_secs(5)).await;
        assert_eq!(drained, Drained::InTime);
        assert_eq!(answers(&balance, 10).await, BTreeMap::from([(first.to_string(), 10)]));
    }

    #[tokio::test]
    async fn instances_that_have_all_been_replaced_cost_no_call() {
        let ((old, first), (_new, second)) = (instance().await, instance().await);
        let addresses = Arc::new(Mutex::new(vec![first]));
        let balance = named(&addresses);
        assert_eq!(answers(&balance, 1).await, BTreeMap::from([(first.to_string(), 1)]));
        *addresses.lock().unwrap() = vec![second];
        assert_eq!(old.tasks.clone().shutdown(Duration::from_secs(5)).await, Drained::InTime);
        assert_eq!(answers(&balance, 10).await, BTreeMap::from([(second.to_string(), 10)]));
    }

    #[tokio::test]
    async fn with_nobody_there_the_call_is_unavailable() {
        let balance = balance(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 1))]);
        let request = Request::post("/test.Test/Hello").body(Body::empty()).unwrap();
        let status = Arc::clone(&balance).send(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unavailable);
    }
}
