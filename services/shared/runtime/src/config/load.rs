use std::{fs, path::PathBuf};

use figment::{
    Figment,
    error::Kind,
    providers::{Env, Format as _, Toml},
};
use serde::de::DeserializeOwned;

use super::{Invalid, Validate};

const FILE_VARIABLE: &str = "PORTOLAN_CONFIG";
const PREFIX: &str = "PORTOLAN__";

/// Why there is no usable configuration. Every variant is one line and names what to change; no
/// value is printed, because it may be a secret.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file named by the environment is not readable.
    #[error("cannot read the configuration file {}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        problem: String,
    },
    /// Keys are unknown, missing or of the wrong type.
    #[error("invalid configuration: {0}")]
    Keys(String),
    /// A value that parses but cannot be used.
    #[error("invalid configuration: {0}")]
    Invalid(#[from] Invalid),
    /// A URL of a peer that cannot be used.
    #[error("not an http:// or https:// URL")]
    Url,
    /// A URL that asks for an identity that this process does not have.
    #[error("an https:// URL needs the section tls")]
    NoTls,
}

/// Reads the file named by `PORTOLAN_CONFIG`, if any, and the environment over it.
///
/// # Errors
/// The file is unreadable, or keys are unknown, missing, of the wrong type or out of range.
pub fn load<C: DeserializeOwned + Validate>() -> Result<C, ConfigError> {
    let mut figment = Figment::new();
    if let Some(path) = file() {
        fs::metadata(&path).and_then(|_| fs::File::open(&path)).map_err(|error| {
            ConfigError::File { path: path.clone(), problem: error.to_string() }
        })?;
        figment = figment.merge(Toml::file_exact(path));
    }
    from_figment(&figment.merge(Env::prefixed(PREFIX).split("__")))
}

#[expect(clippy::disallowed_methods, reason = "this is the configuration loader")]
fn file() -> Option<PathBuf> {
    std::env::var_os(FILE_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from)
}

fn from_figment<C: DeserializeOwned + Validate>(figment: &Figment) -> Result<C, ConfigError> {
    let config: C = figment.extract().map_err(|error| ConfigError::Keys(describe(error)))?;
    config.validate()?;
    Ok(config)
}

fn describe(errors: figment::Error) -> String {
    let mut lines: Vec<String> = errors.into_iter().map(|error| describe_one(&error)).collect();
    lines.dedup();
    lines.join("; ")
}

fn describe_one(error: &figment::Error) -> String {
    let path = error.path.join(".");
    let text = match &error.kind {
        // The path of an unknown key ends with itself, that of a missing one with its parent.
        Kind::UnknownField(_, expected) => {
            format!("unknown key {path} (known: {})", expected.join(", "))
        }
        Kind::MissingField(field) => format!("missing key {}", child(&path, field)),
        Kind::DuplicateField(field) => format!("key {} given twice", child(&path, field)),
        Kind::InvalidType(_, expected)
        | Kind::InvalidValue(_, expected)
        | Kind::InvalidLength(_, expected) => keyed(&path, &format!("expected {expected}")),
        Kind::UnknownVariant(_, expected) => {
            keyed(&path, &format!("expected one of {}", expected.join(", ")))
        }
        Kind::Message(message) => keyed(&path, &first_line(message)),
        Kind::ISizeOutOfRange(_) | Kind::USizeOutOfRange(_) => keyed(&path, "out of range"),
        Kind::Unsupported(_) | Kind::UnsupportedKey(..) => keyed(&path, "not supported here"),
    };
    match origin(error) {
        Some(origin) => format!("{text} (in {origin})"),
        None => text,
    }
}

/// The first line of a message, without what a TOML error quotes of the file: it may be a secret.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().trim().to_owned()
}

fn child(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

fn keyed(path: &str, problem: &str) -> String {
    if path.is_empty() { problem.to_owned() } else { format!("{path}: {problem}") }
}

fn origin(error: &figment::Error) -> Option<String> {
    let metadata = error.metadata.as_ref()?;
    if let Some(figment::Source::File(path)) = metadata.source.as_ref() {
        return Some(path.as_path().display().to_string());
    }
    let from_environment = metadata.name.contains("environment") && !error.path.is_empty();
    from_environment.then(|| format!("{PREFIX}{}", error.path.join("__").to_uppercase()))
}

/// The configuration that one TOML text says, for tests and tools.
///
/// # Errors
/// As [`load`].
pub fn from_toml<C: DeserializeOwned + Validate>(text: &str) -> Result<C, ConfigError> {
    from_figment(&Figment::from(Toml::string(text)))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Config {
        lines: Lines,
        users: Vec<User>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Lines {
        lines: u32,
        color: Color,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Color {
        Red,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct User {
        name: String,
    }

    impl Validate for Config {
        fn validate(&self) -> Result<(), Invalid> {
            Ok(())
        }
    }

    #[test]
    fn every_mistake_names_its_key() {
        let cases = [
            ("users = []", "missing key lines"),
            ("users = []\nlines.color = 'red'", "missing key lines.lines"),
            ("users = []\nlines = { lines = 1, color = 'red', x = 2 }", "unknown key lines.x"),
            ("users = []\nlines = { lines = -1, color = 'red' }", "lines.lines: expected u32"),
            ("users = []\nlines = { lines = 1, color = 'x' }", "lines.color: expected one of red"),
            (
                "lines = { lines = 1, color = 'red' }\nusers = [{ name = 1 }]",
                "users.0.name: expected",
            ),
            ("lines = { lines = 1, color = 'red' }\nusers = 3", "users: expected a sequence"),
            ("lines = [", "TOML parse error"),
        ];
        for (text, expected) in cases {
            let line = from_toml::<Config>(text).unwrap_err().to_string();
            assert!(line.contains(expected), "{text}: {line}");
            assert!(!line.contains('\n'), "{line}");
        }
    }
}
