use std::{ffi::OsString, future::Future, io::Write as _, process::ExitCode};

use clap::{ArgMatches, Command};
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use crate::{
    Context, Invalid, ServerConfig, TelemetryConfig, Tls, TlsConfig, Validate, config, metrics,
    one_line, telemetry,
};

mod lifecycle;

/// The exit code for wrong usage or configuration (`EX_USAGE` of sysexits.h).
const USAGE: u8 = 64;
const FAILURE: u8 = 1;

/// One Portolan process.
pub trait Service {
    /// The short name, for instance `order`; the process is `portolan-order`.
    const NAME: &'static str;
    /// Everything that can be configured.
    type Config: DeserializeOwned + Validate + Send;

    /// Where the configuration keeps its ports.
    fn server(config: &Self::Config) -> &ServerConfig;

    /// Where the configuration keeps its telemetry.
    fn telemetry(config: &Self::Config) -> &TelemetryConfig;

    /// Where the configuration keeps its place in the mesh, if it has one.
    fn tls(_config: &Self::Config) -> Option<&TlsConfig> {
        None
    }

    /// Brings the database to the schema of this binary.
    fn migrate(
        config: Self::Config,
        ctx: Context,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Connects, wires everything and starts its tasks; returns when that is done.
    fn serve(config: Self::Config, ctx: Context)
    -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// The whole `main` of a service: `serve` (the default), `migrate` or `check-config`.
pub fn main<S: Service>() -> ExitCode {
    ExitCode::from(run::<S>(std::env::args_os()))
}

/// [`main`] with other arguments, the program's name first. Returns the exit code.
pub fn run<S: Service>(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let matches = match command(S::NAME).try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { USAGE } else { 0 };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(S::NAME, &one_line(&error), FAILURE),
    };
    // Validation may build clients, which want to know their runtime.
    let entered = runtime.enter();
    let config = match checked::<S>() {
        Ok(config) => config,
        Err(error) => return complain(S::NAME, &one_line(&error), USAGE),
    };
    drop(entered);
    match execute::<S>(&matches, config, runtime) {
        Ok(()) => 0,
        Err(error) => complain(S::NAME, &one_line(error.as_ref()), FAILURE),
    }
}

fn command(name: &str) -> Command {
    let name = format!("portolan-{name}");
    Command::new("portolan")
        .bin_name(&name)
        .display_name(&name)
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(
            "The file named by PORTOLAN_CONFIG and the variables PORTOLAN__SECTION__KEY configure it.",
        )
        .subcommand(Command::new("serve").about("Serve until SIGTERM (the default)"))
        .subcommand(Command::new("migrate").about("Bring the database to this version's schema"))
        .subcommand(Command::new("check-config").about("Check the configuration and exit"))
}

fn checked<S: Service>() -> Result<S::Config, config::ConfigError> {
    let config: S::Config = config::load()?;
    S::server(&config).validate()?;
    S::telemetry(&config).validate()?;
    S::tls(&config).map_or(Ok(()), Validate::validate)?;
    let collector = S::telemetry(&config).otlp_endpoint.as_deref().unwrap_or_default();
    Invalid::unless(
        S::tls(&config).is_some() || !collector.starts_with("https:"),
        "telemetry.otlp_endpoint",
        "an https:// URL needs the section tls",
    )?;
    Ok(config)
}

fn execute<S: Service>(
    matches: &ArgMatches,
    config: S::Config,
    runtime: Runtime,
) -> anyhow::Result<()> {
    let command = matches.subcommand_name();
    if command == Some("check-config") {
        let _ = writeln!(std::io::stdout(), "portolan-{}: the configuration is valid", S::NAME);
        return Ok(());
    }
    install_crypto();
    let result = runtime.block_on(async {
        metrics::install(S::NAME)?;
        let tls = S::tls(&config).map(Tls::load).transpose()?;
        let telemetry = telemetry::init(S::NAME, S::telemetry(&config), tls.as_ref())?;
        telemetry::log_panics();
        let result = if command == Some("migrate") {
            let ctx = Context::new(S::NAME, None).with_tls(tls);
            ctx.keep_identity_current();
            S::migrate(config, ctx).await
        } else {
            lifecycle::serve::<S>(config, tls).await
        };
        telemetry.flush().await;
        result
    });
    // A blocked thread must not keep the process alive.
    runtime.shutdown_background();
    result
}

/// Makes aws-lc the TLS implementation of the process. A second call changes nothing.
pub fn install_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

fn complain(name: &str, line: &str, code: u8) -> u8 {
    let _ = writeln!(std::io::stderr(), "portolan-{name}: {line}");
    code
}
