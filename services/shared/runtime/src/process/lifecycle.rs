use anyhow::{Context as _, bail};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::Service;
use crate::{Check, Context, Drained, ServerConfig, Tls, admin, listen, metrics};

type Signals = mpsc::Receiver<&'static str>;

/// Binds, serves and drains one service. Both ports are bound before anything else is tried, so a
/// process that cannot serve never touches the database or the broker.
pub(super) async fn serve<S: Service>(config: S::Config, tls: Option<Tls>) -> anyhow::Result<()> {
    let server = S::server(&config).clone();
    let (sender, signals) = mpsc::channel(2);
    let forward = forward_signals(sender)?;
    let listener = listen::bind("server.listen", server.listen).await?;
    let admin_listener = listen::bind("server.admin_listen", server.admin_listen).await?;
    let ctx = Context::new(S::NAME, Some(listener)).with_tls(tls);
    let ctx = ctx.with_max_connection_age(server.max_connection_age());
    let ctx = ctx.with_max_connections(server.max_connections);
    ctx.keep_identity_current();
    let admin = answer_admin(admin_listener, ctx.clone());
    tokio::select! {
        biased;
        ended = live::<S>(config, ctx, &server, signals) => ended,
        failed = admin => failed.context("the admin port failed"),
        () = forward => Ok(()),
        () = metrics::upkeep() => Ok(()),
    }
}

/// The admin port answers from the first moment to the last, drain included.
async fn answer_admin(listener: TcpListener, ctx: Context) -> anyhow::Result<()> {
    axum::serve(listener, admin::router(ctx.readiness)).await?;
    Ok(())
}

/// Passes SIGTERM and SIGINT on, for ever. They are caught from the moment of the call.
fn forward_signals(sender: mpsc::Sender<&'static str>) -> anyhow::Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).context("cannot listen for signals");
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    Ok(async move {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            // Nobody cares for a third one.
            let _ = sender.try_send(name);
        }
    })
}

/// Why the process stops.
#[derive(Debug)]
enum Reason {
    Signal(&'static str),
    Failed(anyhow::Error),
}

async fn live<S: Service>(
    config: S::Config,
    ctx: Context,
    server: &ServerConfig,
    mut signals: Signals,
) -> anyhow::Result<()> {
    let process = ctx.readiness.register(admin::PROCESS, true);
    let wired = tokio::select! {
        wired = S::serve(config, ctx.clone()) => wired.map_err(Reason::Failed),
        error = ctx.tasks.died() => Err(Reason::Failed(error)),
        Some(name) = signals.recv() => Err(Reason::Signal(name)),
    };
    let reason = if let Err(reason) = wired {
        // The caller prints why, once.
        reason
    } else {
        process.ok();
        tracing::info!(listen = ?ctx.local_addr(), admin = %server.admin_listen, "started");
        wait(&ctx, &mut signals).await
    };
    stop(&ctx, server, &process, reason, signals).await
}

async fn wait(ctx: &Context, signals: &mut Signals) -> Reason {
    let reason = tokio::select! {
        error = ctx.tasks.died() => Reason::Failed(error),
        Some(name) = signals.recv() => Reason::Signal(name),
    };
    match &reason {
        Reason::Signal(signal) => tracing::info!(signal, "stopping"),
        Reason::Failed(error) => {
            tracing::error!(error = crate::one_line(error.as_ref()), "stopping");
        }
    }
    reason
}

/// Unready, drain delay, soft token, grace, hard token. A second signal skips to the end.
async fn stop(
    ctx: &Context,
    server: &ServerConfig,
    process: &Check,
    reason: Reason,
    mut signals: Signals,
) -> anyhow::Result<()> {
    process.fail("stopping");
    let drain = async {
        tokio::time::sleep(server.drain_delay()).await;
        ctx.tasks.clone().shutdown(server.grace()).await
    };
    let drained = tokio::select! {
        drained = drain => drained,
        Some(_) = signals.recv() => {
            ctx.tasks.hard().cancel();
            ctx.tasks.clone().shutdown(server.grace()).await
        }
    };
    match (reason, drained) {
        (Reason::Failed(error), _) => Err(error),
        (Reason::Signal(_), Drained::InTime) => Ok(()),
        (Reason::Signal(_), Drained::Cut) => bail!("stopped before all work was done"),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Mutex, PoisonError},
        time::Duration,
    };

    use serde::Deserialize;
    use tokio::time::Instant;

    use super::*;
    use crate::{Invalid, Status, TelemetryConfig, Validate};

    #[derive(Debug, Deserialize)]
    struct Config {
        server: ServerConfig,
        telemetry: TelemetryConfig,
        /// How long the worker goes on after the soft token.
        #[serde(skip)]
        worker: Worker,
        #[serde(skip)]
        log: Log,
    }

    #[derive(Clone, Copy, Debug, Default)]
    enum Worker {
        #[default]
        None,
        StopsAfter(u64),
        DiesAfter(u64),
    }

    impl Validate for Config {
        fn validate(&self) -> Result<(), Invalid> {
            Ok(())
        }
    }

    /// What happened at which second.
    #[derive(Clone, Debug)]
    struct Log(std::sync::Arc<Mutex<Vec<(u64, &'static str)>>>, Instant);

    impl Default for Log {
        fn default() -> Self {
            Self(std::sync::Arc::default(), Instant::now())
        }
    }

    impl Log {
        fn note(&self, what: &'static str) {
            let at = self.1.elapsed().as_secs();
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push((at, what));
        }

        fn entries(&self) -> Vec<(u64, &'static str)> {
            self.0.lock().unwrap().clone()
        }
    }

    struct NotedDrop(Log);

    impl Drop for NotedDrop {
        fn drop(&mut self) {
            self.0.note("dropped");
        }
    }

    struct Sample;

    impl Service for Sample {
        const NAME: &'static str = "sample";
        type Config = Config;

        fn server(config: &Config) -> &ServerConfig {
            &config.server
        }

        fn telemetry(config: &Config) -> &TelemetryConfig {
            &config.telemetry
        }

        async fn migrate(_config: Config, _ctx: Context) -> anyhow::Result<()> {
            Ok(())
        }

        async fn serve(config: Config, ctx: Context) -> anyhow::Result<()> {
            let (log, soft) = (config.log.clone(), ctx.tasks.soft());
            let mut watch = ctx.readiness.watch();
            let readiness = ctx.readiness.clone();
            let noted = log.clone();
            ctx.tasks.spawn_request(async move {
                let _ = watch.wait_for(|ready| *ready).await;
                let _ = watch.wait_for(|ready| !*ready).await;
                assert_eq!(readiness.report().status, Status::Unready);
                noted.note("unready");
            });
            match config.worker {
                Worker::None => {}
                Worker::StopsAfter(seconds) => ctx.tasks.spawn("worker", async move {
                    let dropped = NotedDrop(log.clone());
                    soft.cancelled().await;
                    log.note("soft");
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                    log.note("done");
                    drop(dropped);
                    Ok(())
                }),
                Worker::DiesAfter(seconds) => ctx.tasks.spawn("worker", async move {
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                    anyhow::bail!("no more work")
                }),
            }
            Ok(())
        }
    }

    fn server() -> ServerConfig {
        ServerConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            admin_listen: ([127, 0, 0, 1], 0).into(),
            grace_secs: 20,
            drain_delay_ms: 3000,
            max_connection_age_secs: 0,
            max_connections: 1_024,
        }
    }

    async fn run(worker: Worker, signals: &[u64]) -> (anyhow::Result<()>, Log) {
        let log = Log::default();
        let config = Config {
            server: server(),
            telemetry: TelemetryConfig::default(),
            worker,
            log: log.clone(),
        };
        let (sender, receiver) = mpsc::channel(2);
        let ctx = Context::new("sample", None);
        let server = server();
        let life = live::<Sample>(config, ctx, &server, receiver);
        let send = async {
            for at in signals {
                tokio::time::sleep_until(log.1 + Duration::from_secs(*at)).await;
                sender.send("SIGTERM").await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! { ended = life => ended, () = send => Ok(()) };
        (ended, log)
    }

    #[tokio::test(start_paused = true)]
    async fn it_drains_in_order_unready_then_delay_then_soft_then_done() {
        let (ended, log) = run(Worker::StopsAfter(5), &[10]).await;
        ended.unwrap();
        let expected = [(10, "unready"), (13, "soft"), (18, "done"), (18, "dropped")];
        assert_eq!(log.entries(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_outlives_the_grace_is_dropped_and_the_exit_says_so() {
        let (ended, log) = run(Worker::StopsAfter(500), &[10]).await;
        assert_eq!(ended.unwrap_err().to_string(), "stopped before all work was done");
        assert_eq!(log.entries(), [(10, "unready"), (13, "soft"), (33, "dropped")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_stops_at_once() {
        let (ended, log) = run(Worker::StopsAfter(500), &[10, 15]).await;
        assert!(ended.is_err());
        assert_eq!(log.entries(), [(10, "unready"), (13, "soft"), (15, "dropped")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_dies_stops_the_process_with_its_error() {
        let (ended, log) = run(Worker::DiesAfter(7), &[]).await;
        let line = crate::one_line(ended.unwrap_err().as_ref());
        assert_eq!(line, "task worker failed: no more work");
        assert_eq!(log.entries(), [(7, "unready")]);
    }
}
