//! The masters of the lock: gone, emptied, or standing still. The target says how many of them.

use futures::future::try_join_all;
use nix::sys::signal::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};

use super::{
    super::{installation::Installation, proxy::Mode, schedule::Fault},
    process::signal_and_await,
};
use crate::local::loopback;

fn masters(fault: &Fault) -> impl Iterator<Item = String> {
    let count: usize = fault.target.parse().unwrap_or(1);
    (1..=count).map(|number| format!("redis-{number}"))
}

/// Kills them, and keeps everybody away from them for a while.
pub(super) async fn down(shop: &Installation, fault: &Fault) -> anyhow::Result<()> {
    for name in masters(fault) {
        shop.network(&name)?.set(Mode::Reset);
    }
    let killed =
        masters(fault).map(async |name| signal_and_await(shop, &name, Signal::SIGKILL).await);
    let killed = try_join_all(killed).await;
    sleep(fault.lasts()).await;
    for name in masters(fault) {
        shop.network(&name)?.set(Mode::Clear);
    }
    killed.map(|_| ())
}

/// Makes them forget everything.
pub(super) async fn flush(shop: &Installation, fault: &Fault) -> anyhow::Result<()> {
    for name in masters(fault) {
        let mut stream = TcpStream::connect(loopback(shop.row(&name)?.port)).await?;
        stream.write_all(b"FLUSHALL\r\n").await?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await?;
        anyhow::ensure!(&answer == b"+OK\r\n", "{name} does not forget");
    }
    Ok(())
}

pub(super) async fn pause(shop: &Installation, fault: &Fault) -> anyhow::Result<()> {
    let mut stopped = Vec::new();
    for name in masters(fault) {
        stopped.push(shop.process(&name).await?);
    }
    for process in &stopped {
        process.signal_group(Signal::SIGSTOP);
    }
    sleep(fault.lasts()).await;
    for process in &stopped {
        process.signal_group(Signal::SIGCONT);
    }
    Ok(())
}
