use std::str::Utf8Error;

use serde_json::error::Category;
use serde_path_to_error::{Path, Segment};

use crate::problem::{Problem, kind};

/// Longer names are not repeated to the client whole.
const MAX_NAME_CHARS: usize = 64;
/// What every card token begins with: such a text is not repeated wherever it stands.
const SECRET_PREFIX: &str = "tok_";

/// A failed reading: 400 if the text is no JSON, 422 if it is but not of the wanted form.
pub(super) fn problem(path: &Path, error: &serde_json::Error) -> Problem {
    match error.classify() {
        Category::Data => {
            let (field, message) = explain(path, &error.to_string());
            Problem::field(field, message)
        }
        Category::Io | Category::Syntax | Category::Eof => malformed(error),
    }
}

/// Where the text ceases to be JSON. The library's sentence is about syntax and quotes no value.
pub(super) fn malformed(error: &serde_json::Error) -> Problem {
    let (line, column) = (error.line(), error.column());
    let what = error.to_string();
    let what = what.split(" at line ").next().unwrap_or_default();
    let what = if what.starts_with("trailing")
        || what.starts_with("EOF")
        || what.starts_with("expected")
    {
        what
    } else {
        "unexpected text"
    };
    Problem::new(
        kind::MALFORMED_JSON,
        format!("The body is not JSON: {what} at line {line} column {column}."),
    )
}

/// The bytes are not even text.
pub(super) fn not_utf8(error: &Utf8Error) -> Problem {
    let detail = format!("The body is not valid UTF-8 from byte {} on.", error.valid_up_to() + 1);
    Problem::new(kind::MALFORMED_JSON, detail)
}

/// Our words for serde's, which may quote the value at fault.
fn explain(path: &Path, message: &str) -> (String, String) {
    let quoted = || message.split('`').nth(1).unwrap_or_default();
    let place = show(path);
    if message.starts_with("missing field") {
        (join(&place, quoted()), "is required".to_owned())
    } else if message.starts_with("unknown field") {
        (join_once(&place, quoted()), "is not a known field".to_owned())
    } else if message.starts_with("duplicate field") {
        (join_once(&place, quoted()), "is there twice".to_owned())
    } else {
        let place = if place.is_empty() { "body".to_owned() } else { place };
        (place, expectation(message))
    }
}

/// What serde says it expected: the last such words, for a quoted value may contain some, too.
fn expectation(message: &str) -> String {
    let message = message.split(" at line ").next().unwrap_or_default();
    match message.rsplit_once(", expected ") {
        Some((_, wanted)) if !wanted.contains(SECRET_PREFIX) => format!("must be {wanted}"),
        _ => "is not acceptable".to_owned(),
    }
}

fn show(path: &Path) -> String {
    let mut shown = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => shown = format!("{shown}[{index}]"),
            Segment::Map { key } => shown = join(&shown, key),
            Segment::Enum { variant } => shown = join(&shown, variant),
            Segment::Unknown => {}
        }
    }
    shown
}

fn join(place: &str, name: &str) -> String {
    let name = presentable(name);
    if place.is_empty() { name } else { format!("{place}.{name}") }
}

/// The path sometimes ends with the name already.
fn join_once(place: &str, name: &str) -> String {
    let last = place.rsplit('.').next().unwrap_or_default();
    if last == presentable(name) { place.to_owned() } else { join(place, name) }
}

fn presentable(name: &str) -> String {
    if name.contains(SECRET_PREFIX) {
        return "[redacted]".to_owned();
    }
    name.chars().take(MAX_NAME_CHARS).collect()
}
