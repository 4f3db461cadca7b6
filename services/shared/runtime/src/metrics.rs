//! The Prometheus registry of the process. Services use the macros of the `metrics` crate.

use std::{
    fs,
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use portolan_kernel::{Clock as _, SystemClock};
use time::OffsetDateTime;

static INSTALLING: Mutex<()> = Mutex::new(());
static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

/// Upper bounds of every histogram, in seconds: the default of the Prometheus clients with two
/// smaller and two larger ones.
const BUCKETS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Installs the registry; a second call changes nothing.
///
/// # Errors
/// Another recorder is installed already.
pub fn install(service: &'static str) -> anyhow::Result<()> {
    let _alone = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if HANDLE.get().is_some() {
        return Ok(());
    }
    let handle = PrometheusBuilder::new()
        .set_buckets(&BUCKETS)
        .context("invalid histogram buckets")?
        .install_recorder()
        .context("cannot install the metrics registry")?;
    let _ = HANDLE.set(handle);
    metrics::describe_gauge!("process_start_time_seconds", "Start of the process (Unix time).");
    metrics::describe_gauge!("process_resident_memory_bytes", "Resident memory.");
    metrics::describe_gauge!("portolan_build_info", "Always 1; the labels say what runs.");
    metrics::describe_gauge!("portolan_check_up", "1 while the readiness check holds, else 0.");
    metrics::gauge!("process_start_time_seconds").set(unix_seconds(SystemClock.now()));
    let version = env!("CARGO_PKG_VERSION");
    metrics::gauge!("portolan_build_info", "service" => service, "version" => version).set(1.0);
    Ok(())
}

/// The registry as Prometheus text (exposition format 0.0.4). Empty before [`install`].
pub fn render() -> String {
    if let Some(bytes) = resident_bytes() {
        metrics::gauge!("process_resident_memory_bytes").set(bytes);
    }
    HANDLE.get().map(PrometheusHandle::render).unwrap_or_default()
}

/// Folds recorded histogram samples into their buckets for ever: without it they would pile up
/// between scrapes.
pub(crate) async fn upkeep() {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        if let Some(handle) = HANDLE.get() {
            handle.run_upkeep();
        }
    }
}

/// A time as metrics show it. Those before 1970 are 0.
pub(crate) fn unix_seconds(time: OffsetDateTime) -> f64 {
    let since = SystemTime::from(time).duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// `VmRSS` of this process, on Linux.
fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u32 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(f64::from(kilobytes) * 1024.0)
}
