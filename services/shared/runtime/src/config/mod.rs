//! Configuration: one TOML file, then the environment, into one struct for each service.
//!
//! The file is named by the environment variable `PORTOLAN_CONFIG`. Each key can be overridden by
//! `PORTOLAN__SECTION__KEY`, for instance `PORTOLAN__DATABASE__URL`; values of the environment are
//! read like TOML where possible, so numbers, booleans and lists work too. Unknown keys are errors.

mod load;
mod sections;

pub use load::{ConfigError, from_toml, load};
pub(crate) use sections::DEFAULT_MAX_CONNECTIONS;
pub use sections::{DatabaseConfig, LogFormat, ServerConfig, TelemetryConfig};

/// What the type system cannot say about a configuration: ranges and relations between keys.
pub trait Validate {
    /// # Errors
    /// Names the first key at fault.
    fn validate(&self) -> Result<(), Invalid>;
}

/// A value that parses but cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct Invalid {
    /// The path of the key, for instance `kafka.workers`.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Invalid {
    /// `key` is the path from the top, with dots.
    pub fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), problem: problem.into() }
    }

    /// Fails unless `holds`.
    ///
    /// # Errors
    /// The condition does not hold.
    pub fn unless(holds: bool, key: &str, problem: &str) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self::new(key, problem)) }
    }
}
