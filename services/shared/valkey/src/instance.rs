use std::{convert::Infallible, future::pending, time::Duration};

use portolan_runtime::{Tasks, one_line, tls::Changes};
use redis::{RedisResult, aio::MultiplexedConnection};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::dial::Dialer;

/// How often a server is asked whether it is there, and how soon a lost one is dialled again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So many questions without an answer are the end of a connection: its other side may be gone
/// without a word.
const PATIENCE: u32 = 3;

/// One server. A task of its own keeps a connection to it, so that no request ever waits for one.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its place among the servers of its purpose.
    pub number: usize,
    link: watch::Receiver<Option<MultiplexedConnection>>,
}

impl Instance {
    /// Starts connecting, and goes on until the soft token and the last clone is gone.
    pub fn start(number: usize, address: String, dialer: Dialer, tasks: &Tasks) -> Self {
        let (publish, link) = watch::channel(None);
        let (name, changes) = (dialer.purpose.name, dialer.changes());
        let mut keeper = Keeper { address, dialer, changes, publish, tasks: tasks.clone() };
        tasks.spawn(name, async move {
            let (soft, publish) = (keeper.tasks.soft(), keeper.publish.clone());
            let unused = async {
                soft.cancelled().await;
                publish.closed().await;
            };
            tokio::select! {
                () = unused => Ok(()),
                never = keeper.keep() => match never {},
            }
        });
        Self { number, link }
    }

    /// The connection, if there is one at this moment.
    pub fn connection(&self) -> Option<MultiplexedConnection> {
        self.link.borrow().clone()
    }

    /// Asks the server something.
    pub async fn ask<T, F>(&self, question: impl FnOnce(MultiplexedConnection) -> F) -> Option<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        answer(question(self.connection()?)).await
    }
}

/// What a server answers. No answer, for whatever reason, is none.
pub async fn answer<T>(asked: impl Future<Output = RedisResult<T>>) -> Option<T> {
    match asked.await {
        Ok(answer) => Some(answer),
        Err(error) => {
            tracing::debug!(%error, "a server did not answer");
            None
        }
    }
}

struct Keeper {
    address: String,
    dialer: Dialer,
    changes: Option<Changes>,
    publish: watch::Sender<Option<MultiplexedConnection>>,
    tasks: Tasks,
}

/// A connection, and when it has come to its end.
struct Link {
    connection: MultiplexedConnection,
    ended: CancellationToken,
}

impl Keeper {
    async fn keep(&mut self) -> Infallible {
        let (mut up, mut next) = (None, None);
        loop {
            let dialled = match next.take() {
                Some(link) => Ok(link),
                None => self.dial().await,
            };
            let link = match dialled {
                Ok(link) => link,
                Err(reason) => {
                    self.tell(&mut up, Err(reason));
                    sleep(LOOK_EVERY).await;
                    continue;
                }
            };
            self.tell(&mut up, Ok(()));
            // The one before it, if any, ends with the requests that still use it.
            self.publish.send_replace(Some(link.connection.clone()));
            match self.watch(link).await {
                Ok(link) => next = Some(link),
                Err(reason) => {
                    self.publish.send_replace(None);
                    self.tell(&mut up, Err(reason.to_owned()));
                }
            }
        }
    }

    async fn dial(&self) -> Result<Link, String> {
        let dialled = self.dialer.connect(&self.address).await;
        let (connection, driver) = dialled.map_err(|error| one_line(&error))?;
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        // It ends when the last user of the connection is gone.
        self.tasks.spawn_request(async move {
            let _end = end;
            driver.await;
        });
        Ok(Link { connection, ended })
    }

    /// Returns when the connection is gone, or with its successor when it should have one.
    async fn watch(&mut self, mut link: Link) -> Result<Link, &'static str> {
        let (mut missed, mut outdated) = (0, false);
        loop {
            tokio::select! {
                () = link.ended.cancelled() => return Err("the connection is closed"),
                () = changed(self.changes.as_mut()) => outdated = true,
                () = sleep(LOOK_EVERY) => {}
            }
            if outdated && let Ok(successor) = self.dial().await {
                return Ok(successor);
            }
            let pong: RedisResult<()> = redis::cmd("PING").query_async(&mut link.connection).await;
            missed = if pong.is_ok() { 0 } else { missed + 1 };
            (self.dialer.purpose.report)(&self.address, missed == 0);
            if missed == PATIENCE {
                return Err("no answer");
            }
        }
    }

    /// Says once that the server is there or not.
    fn tell(&self, before: &mut Option<bool>, now: Result<(), String>) {
        (self.dialer.purpose.report)(&self.address, now.is_ok());
        if before.replace(now.is_ok()) == Some(now.is_ok()) {
            return;
        }
        let (name, address) = (self.dialer.purpose.name, &self.address);
        match now {
            Ok(()) => tracing::info!(%address, "{name} there"),
            Err(error) => tracing::warn!(%address, error, "{name} not there"),
        }
    }
}

async fn changed(changes: Option<&mut Changes>) {
    match changes {
        Some(changes) => changes.next().await,
        None => pending().await,
    }
}
