//! Connections to Valkey or Redis servers for those who must not wait for one.
//!
//! A task keeps a connection to each server ([`Instance`]); a request that finds none goes on
//! without. Connections are encrypted by rustls like all others, and made anew when certificates
//! change. What a server forgets or does not answer is for the user of it to bear: the customers'
//! lock asks a majority, the gateway's quota lets pass.

mod dial;
mod instance;
mod outage;

use std::{sync::LazyLock, time::Duration};

use redis::Script;

pub use dial::Dialer;
pub use instance::{Instance, answer};
pub use outage::{Outage, Turn};

/// What a server is used for.
#[derive(Clone, Copy, Debug)]
pub struct Purpose {
    /// What the server is called in the log.
    pub name: &'static str,
    /// How long one answer may take.
    pub timeout: Duration,
    /// What runs inside of the server. Every new connection sends them first.
    pub scripts: &'static [&'static LazyLock<Script>],
    /// Told the server's address and whether it answers, about every second.
    pub report: fn(&str, bool),
}

/// Whether the text is `host:port`.
pub fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let port: Option<u16> = port.parse().ok();
        !host.is_empty() && port.is_some_and(|port| port > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::is_address;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["a:1", "valkey-0.valkey:6379", "127.0.0.1:6381", "[::1]:1"] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["", "a", ":1", "a:0", "a:port", "a:65536"] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
