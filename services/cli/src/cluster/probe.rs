//! `portolan probe`: one attempt to reach something, to see who is let in and who is not.
//!
//! One line says what came of it: `OK`, the name of a gRPC status, a number (HTTP), `TLS: reason`,
//! `TIMEOUT` or `UNREACHABLE: reason`. Being refused is an answer like any other: the exit code is
//! 0 unless `--expect` says otherwise, or it could not even be tried.
//!
//! It verifies with code of its own, not with that of the services it judges.

mod call;
mod tls;

use std::{fmt, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::{net::TcpStream, time::timeout};
use tonic::Code;

use super::config::Config;
use crate::out;
use call::Call;
use tls::Certificate;

/// What to try.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("target").required(true)))]
pub(crate) struct Args {
    /// The configuration with [tls]: needed for an `https` address.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A service's gRPC address.
    #[arg(long, group = "target", requires = "method")]
    url: Option<String>,
    /// Who must answer there.
    #[arg(long, value_name = "NAME")]
    component: Option<String>,
    /// What to call there, with an empty message: `package.Service/Method`.
    #[arg(long)]
    method: Option<String>,
    /// Show the certificate of this file instead of ours.
    #[arg(long, value_name = "FILE", conflicts_with = "no_certificate")]
    identity: Option<PathBuf>,
    /// Show no certificate.
    #[arg(long)]
    no_certificate: bool,
    /// Only open a connection.
    #[arg(long, group = "target", value_name = "HOST:PORT")]
    tcp: Option<String>,
    /// Get a page.
    #[arg(long, group = "target", value_name = "URL")]
    http: Option<String>,
    /// Exit with 1 unless the line begins with this, for instance `PERMISSION_DENIED` or `TLS`.
    #[arg(long, value_name = "WORD")]
    expect: Option<String>,
    /// How long it may take, in seconds.
    #[arg(long, default_value_t = 5)]
    timeout_secs: u64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// Answered with this status; or, for a mere connection, opened.
    Grpc(Code),
    Http(u16),
    /// One of both sides did not accept the other.
    Tls(String),
    /// No connection.
    Unreachable(String),
    Timeout,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grpc(code) => f.write_str(&grpc_name(*code)),
            Self::Http(status) => write!(f, "{status}"),
            Self::Tls(reason) => write!(f, "TLS: {reason}"),
            Self::Unreachable(reason) => write!(f, "UNREACHABLE: {reason}"),
            Self::Timeout => f.write_str("TIMEOUT"),
        }
    }
}

impl Outcome {
    fn is(&self, expected: &str) -> bool {
        let line = self.to_string();
        line.split(':').next().is_some_and(|word| word.eq_ignore_ascii_case(expected))
    }
}

/// The name that the gRPC specification has for a code, for instance `PERMISSION_DENIED`.
fn grpc_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// # Errors
/// It cannot even be tried.
pub(crate) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let attempt = Attempt::of(args)?;
    let patience = Duration::from_secs(args.timeout_secs);
    let outcome = timeout(patience, attempt.make()).await.unwrap_or(Ok(Outcome::Timeout))?;
    out::line(&outcome.to_string());
    match &args.expect {
        Some(expected) if !outcome.is(expected) => {
            out::error(&format!("error: expected {expected}"));
            Ok(ExitCode::FAILURE)
        }
        Some(_) | None => Ok(ExitCode::SUCCESS),
    }
}

#[derive(Debug)]
enum Attempt {
    Grpc(Box<Call>),
    Tcp(String),
    Http(String),
}

impl Attempt {
    fn of(args: &Args) -> anyhow::Result<Self> {
        if let Some(address) = &args.tcp {
            ensure!(address.contains(':'), "{address} is not host:port");
            return Ok(Self::Tcp(address.clone()));
        }
        if let Some(url) = &args.http {
            return Ok(Self::Http(url.clone()));
        }
        let url = args.url.as_deref().context("there is no --url")?;
        let method = args.method.as_deref().context("there is no --method")?;
        let tls = args.config.as_deref().map(Config::read).transpose()?.and_then(|all| all.tls);
        let certificate = match (&args.identity, args.no_certificate) {
            (_, true) => Certificate::None,
            (Some(file), false) => Certificate::Of(file),
            (None, false) => Certificate::Ours,
        };
        let call = Call::new(url, method, args.component.as_deref(), tls.as_ref(), &certificate)?;
        Ok(Self::Grpc(Box::new(call)))
    }

    async fn make(self) -> anyhow::Result<Outcome> {
        match self {
            Self::Grpc(call) => call.make().await,
            Self::Tcp(address) => Ok(match TcpStream::connect(&address).await {
                Ok(_) => Outcome::Grpc(Code::Ok),
                Err(error) => Outcome::Unreachable(error.to_string()),
            }),
            Self::Http(url) => {
                let client = portolan_runtime::http_client(Duration::from_mins(1))?;
                Ok(match client.get(&url).send().await {
                    Ok(response) => Outcome::Http(response.status().as_u16()),
                    Err(error) if error.is_timeout() => Outcome::Timeout,
                    Err(error) => Outcome::Unreachable(portolan_runtime::one_line(&error)),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests;
