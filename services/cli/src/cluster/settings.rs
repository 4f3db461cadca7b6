//! The configuration files of the commands that set up a cluster, and what a name in them may be:
//! they end up in paths, certificates, policies and SQL.

use std::path::Path;

use anyhow::Context as _;
use portolan_runtime::{Invalid, Validate, config};
use reqwest::Url;
use serde::de::DeserializeOwned;

/// # Errors
/// The file cannot be read, or says something unknown or unusable.
pub(crate) fn read<C: DeserializeOwned + Validate>(file: &Path) -> anyhow::Result<C> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    config::from_toml(&text).with_context(|| file.display().to_string())
}

/// Fails unless `text` is an address to which a token may be sent: by TLS, or on this machine.
pub(crate) fn address(key: &str, text: &str) -> Result<(), Invalid> {
    let url = Url::parse(text).map_err(|_| Invalid::new(key, "not a URL"))?;
    let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    Invalid::unless(url.scheme() == "https" || (url.scheme() == "http" && local), key, "not https")
}

/// Fails unless `text` is a label of a DNS name (RFC 1123 section 2.1, in lower case): what
/// Kubernetes takes for the names of Services, service accounts and namespaces.
pub(crate) fn label(key: &str, text: &str) -> Result<(), Invalid> {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let edges = !text.starts_with('-') && !text.ends_with('-');
    let holds = !text.is_empty() && text.len() <= 63 && edges && text.bytes().all(allowed);
    Invalid::unless(holds, key, "not a name of lower-case letters, digits and dashes")
}

/// Fails unless `text` is a DNS name: labels joined by dots. No `*`: a certificate is for the names
/// it lists, and Vault takes a pattern for more than it says.
pub(crate) fn dns_name(key: &str, text: &str) -> Result<(), Invalid> {
    let labels = text.split('.').try_for_each(|part| label(key, part));
    Invalid::unless(labels.is_ok() && text.len() <= 253, key, "not a DNS name in lower case")
}

/// Fails unless `text` is the path of a Vault mount, or a part of one.
pub(crate) fn mount(key: &str, text: &str) -> Result<(), Invalid> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.' | b'/');
    let edges = !text.starts_with('/') && !text.ends_with('/');
    let holds = !text.is_empty() && edges && text.bytes().all(allowed) && !text.contains("..");
    Invalid::unless(holds, key, "not a path of letters, digits, dashes, dots and slashes")
}

/// Fails unless `text` is a length of time as Vault takes it: a number and `s`, `m` or `h`.
pub(crate) fn duration(key: &str, text: &str) -> Result<(), Invalid> {
    let number = text.strip_suffix(['s', 'm', 'h']).unwrap_or_default();
    let holds = number.parse::<u32>().is_ok_and(|number| number > 0);
    Invalid::unless(holds, key, "not a number of s, m or h")
}

/// The configuration file in the documentation of a module, from its source.
#[cfg(test)]
pub(crate) fn documented(source: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    let text: Vec<&str> = lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    let text = text.join("\n");
    let (_, rest) = text.split_once("```toml\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_not_a_pattern_and_ends_no_string() {
        for name in ["order", "order-migrate", "a", "vault-0"] {
            assert!(label("name", name).is_ok(), "{name}");
        }
        for name in ["", "*", "order*", "Order", "-a", "a-", "a.b", "a\"b", "a'b", "a,b", "a b"] {
            assert!(label("name", name).is_err(), "{name}");
        }
        assert!(dns_name("dns", "order.shop.svc.cluster.local").is_ok());
        for name in ["*.shop.svc", "order..svc", "order.", "order.shop.svc,evil"] {
            assert!(dns_name("dns", name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_token_is_sent_by_tls_or_stays_here() {
        for text in
            ["https://vault:8200", "http://127.0.0.1:8200", "http://localhost", "http://[::1]"]
        {
            assert!(address("address", text).is_ok(), "{text}");
        }
        for text in ["http://vault:8200", "vault:8200", "http://127.0.0.1.example", "ftp://vault"] {
            assert!(address("address", text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_length_of_time_has_a_unit_and_a_mount_no_way_out() {
        assert!(duration("ttl", "24h").is_ok() && duration("ttl", "90s").is_ok());
        for text in ["", "h", "0h", "24", "-1h", "1d", "1h30m"] {
            assert!(duration("ttl", text).is_err(), "{text}");
        }
        assert!(mount("mount", "shop/kubernetes").is_ok());
        for text in ["", "/a", "a/", "../sys", "a?b", "a b", "*"] {
            assert!(mount("mount", text).is_err(), "{text}");
        }
    }
}
