use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::{cluster::Cluster, pods};

const WITH_DATABASE: [&str; 5] = ["order", "inventory", "payment", "notification", "psp"];

pub(super) async fn hold_no_service_password(cluster: &Cluster) -> anyhow::Result<String> {
    let secrets = cluster.list("secrets", "").await?;
    let names: BTreeSet<&str> = secrets.iter().map(pods::name).collect();
    ensure!(!names.is_empty(), "there are no Secrets at all");
    let mut checked = 0;
    for service in WITH_DATABASE {
        for pod in cluster.ready_pods(service).await? {
            let file = ["exec", pods::name(&pod), "-c", "agent", "--", "cat", "/secrets/db.json"];
            let login: Value = serde_json::from_str(&cluster.kubectl(&file).await?)?;
            let password = login["password"].as_str().context("db.json has no password")?;
            ensure!(password.len() >= 16, "{service} has a short password");
            let encoded = base64(password.as_bytes());
            for secret in &secrets {
                let text = secret.to_string();
                let held = text.contains(password) || text.contains(encoded.trim_end_matches('='));
                ensure!(!held, "{} holds the database password of {service}", pods::name(secret));
            }
            checked += 1;
        }
    }
    ensure!(checked >= WITH_DATABASE.len(), "only {checked} pods have a database login");
    Ok(format!("{checked} logins looked for in {names:?}"))
}

/// RFC 4648, section 4, without a library for ten lines.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS[(group >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }
}
