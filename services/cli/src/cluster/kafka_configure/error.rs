use std::{io, path::PathBuf};

use kafka_protocol::ResponseError;

/// Why Kafka is not configured.
#[derive(Debug, thiserror::Error)]
pub(super) enum KafkaError {
    /// Nobody answers, or the TLS handshake fails.
    #[error("no answer from Kafka at {broker}")]
    Unreachable {
        /// `host:port`.
        broker: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An answer that cannot be read, or an operation that the broker does not know.
    #[error("cannot talk to Kafka: {0}")]
    Protocol(String),
    /// The broker understood and says no.
    #[error("Kafka does not {what}: {code:?}{}", detail.as_deref().map(|d| format!(", {d}")).unwrap_or_default())]
    Refused {
        /// What was asked for.
        what: String,
        /// Kafka's own name of the error.
        code: ResponseError,
        /// Its explanation.
        detail: Option<String>,
    },
    /// A topic has another number of partitions, which would put one order's events in two places.
    #[error("the topic {topic} has {found} partitions, not {wanted}")]
    Partitions {
        /// The topic.
        topic: String,
        /// What it has.
        found: usize,
        /// What is configured.
        wanted: i32,
    },
    /// A certificate or key file cannot be used.
    #[error("cannot use {}: {problem}", path.display())]
    TlsFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl KafkaError {
    /// Whether trying again is useless.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Protocol(_) => false,
            Self::Refused { code, .. } => !code.is_retriable() && !is_start_up(*code),
            Self::Partitions { .. } | Self::TlsFile { .. } => true,
        }
    }

    /// Fails if `code` is an error.
    pub(super) fn check(code: i16, detail: Option<&str>, what: &str) -> Result<(), Self> {
        match ResponseError::try_from_code(code) {
            None => Ok(()),
            Some(code) => Err(Self::Refused {
                what: what.to_owned(),
                code,
                detail: detail.map(str::to_owned),
            }),
        }
    }
}

/// A cluster that is only just starting answers with these, though they are not called retriable.
fn is_start_up(code: ResponseError) -> bool {
    matches!(
        code,
        ResponseError::BrokerNotAvailable
            | ResponseError::StaleControllerEpoch
            | ResponseError::InvalidReplicationFactor
            | ResponseError::UnknownServerError
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: i16) -> bool {
        KafkaError::check(code, None, "create the topic x").unwrap_err().is_final()
    }

    #[test]
    fn what_a_starting_cluster_says_is_tried_again_and_a_refusal_is_not() {
        // Not controller, coordinator loading, invalid replication factor (no broker has joined).
        for code in [41, 14, 38] {
            assert!(!refused(code), "{code}");
        }
        // Cluster authorization failed, security disabled, invalid configuration.
        for code in [31, 54, 40] {
            assert!(refused(code), "{code}");
        }
    }
}
