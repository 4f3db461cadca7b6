use anyhow::{Context as _, bail};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};

use super::Service;
use crate::{Check, Context, Drained, ServerConfig, admin, listen, metrics};

/// Binds, serves and drains one service.
pub(super) async fn serve<S: Service>(config: S::Config) -> anyhow::Result<()> {
    let server = S::server(&config).clone();
    let signals = Signals::new()?;
    let listener = listen::bind("server.listen", server.listen).await?;
    let admin_listener = listen::bind("server.admin_listen", server.admin_listen).await?;
    metrics::install(S::NAME)?;
    let ctx = Context::new(S::NAME, Some(listener));
    let admin = answer_admin(admin_listener, ctx.clone());
    let life = live::<S>(config, ctx, &server, signals);
    tokio::select! {
        biased;
        ended = life => ended,
        failed = admin => failed.context("the admin port failed"),
        () = metrics::upkeep() => Ok(()),
    }
}

async fn answer_admin(listener: TcpListener, ctx: Context) -> anyhow::Result<()> {
    axum::serve(listener, admin::router(ctx.readiness)).await?;
    Ok(())
}

async fn live<S: Service>(
    config: S::Config,
    ctx: Context,
    server: &ServerConfig,
    mut signals: Signals,
) -> anyhow::Result<()> {
    let process = ctx.readiness.register(admin::PROCESS, true);
    let reason = tokio::select! {
        wired = S::serve(config, ctx.clone()) => wired.err().map(Reason::Failed),
        name = signals.next() => Some(Reason::Signal(name)),
    };
    let reason = match reason {
        Some(reason) => reason,
        None => {
            process.ok();
            tracing::info!(listen = ?ctx.local_addr(), admin = %server.admin_listen, "started");
            wait(&ctx, &mut signals).await
        }
    };
    stop(&ctx, server, &process, reason, signals).await
}

/// Why the process stops.
#[derive(Debug)]
enum Reason {
    Signal(&'static str),
    Failed(anyhow::Error),
}

async fn wait(ctx: &Context, signals: &mut Signals) -> Reason {
    tokio::select! {
        error = ctx.tasks.died() => Reason::Failed(error),
        name = signals.next() => Reason::Signal(name),
    }
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
    match &reason {
        Reason::Signal(signal) => tracing::info!(signal, "stopping"),
        Reason::Failed(error) => {
            tracing::error!(error = crate::one_line(error.as_ref()), "stopping");
        }
    }
    let hard = ctx.tasks.hard();
    let drain = async {
        tokio::time::sleep(server.drain_delay()).await;
        ctx.tasks.clone().shutdown(server.grace()).await
    };
    let drained = tokio::select! {
        drained = drain => drained,
        _ = signals.next() => {
            hard.cancel();
            ctx.tasks.clone().shutdown(server.grace()).await
        }
    };
    match (reason, drained) {
        (Reason::Failed(error), _) => Err(error),
        (Reason::Signal(_), Drained::InTime) => Ok(()),
        (Reason::Signal(_), Drained::Cut) => bail!("stopped before its work was done"),
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let terminate = listen(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
