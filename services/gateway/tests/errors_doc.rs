//! `docs/ERRORS.md` lists exactly the problem kinds that the gateway knows.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;

use http::StatusCode;

const CATALOGUE: &str = include_str!("../src/problem/catalogue.rs");
const DOCUMENT: &str = include_str!("../../../docs/ERRORS.md");

/// The status whose constant in [`StatusCode`] has this name.
fn status(name: &str) -> u16 {
    (400..600)
        .filter_map(|number| StatusCode::from_u16(number).ok())
        .find(|status| {
            let words = status.canonical_reason().unwrap_or_default();
            words.to_uppercase().replace(' ', "_") == name
        })
        .unwrap_or_else(|| panic!("no status has the name {name}"))
        .as_u16()
}

/// Code and status of every kind, from the entries `NAME: "code", STATUS, "title";`.
fn known() -> BTreeMap<String, u16> {
    let (_, rest) = CATALOGUE.split_once("kinds! {\n").unwrap();
    let (entries, _) = rest.split_once("\n}").unwrap();
    entries
        .split(';')
        .filter(|entry| !entry.trim().is_empty())
        .map(|entry| {
            let (_, after) = entry.split_once(": \"").unwrap();
            let (code, after) = after.split_once("\", ").unwrap();
            let (name, _) = after.split_once(',').unwrap();
            (code.to_owned(), status(name))
        })
        .collect()
}

/// Code and status of every row of the table that begins with `| Code | Status | When |`.
fn documented() -> BTreeMap<String, u16> {
    let (_, table) = DOCUMENT.split_once("| Code | Status | When |").unwrap();
    table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            let code = cells.next().unwrap().trim_matches('`').to_owned();
            (code, cells.next().unwrap().parse().unwrap())
        })
        .collect()
}

#[test]
fn every_problem_kind_is_documented_with_its_status_and_no_other() {
    let known = known();
    assert!(known.len() > 20 && known["user_busy"] == 409, "the catalogue was read: {known:?}");
    assert_eq!(documented(), known);
}
