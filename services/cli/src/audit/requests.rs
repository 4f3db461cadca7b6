//! What clients say about the orders they tried to place.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use anyhow::Context as _;
use serde::Deserialize;
use uuid::Uuid;

/// One attempt to place an order: a line of JSON in the file of `--requests`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Attempt {
    /// The customer.
    pub(super) user: String,
    /// The idempotency key.
    pub(super) key: String,
    /// The order that the answer named; null when the client never saw an answer.
    pub(super) order: Option<Uuid>,
}

/// Reads all attempts of a file.
pub(super) fn read(file: &Path) -> anyhow::Result<Vec<Attempt>> {
    let lines = BufReader::new(
        File::open(file).with_context(|| format!("cannot open {}", file.display()))?,
    )
    .lines();
    lines
        .zip(1..)
        .map(|(line, number)| {
            serde_json::from_str(&line?)
                .with_context(|| format!("{}:{number} is not an attempt", file.display()))
        })
        .collect()
}
