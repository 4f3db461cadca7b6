use std::{fs, os::unix::fs::PermissionsExt as _, thread};

use portolan_auth::{Issuer, KeyFileError};

use crate::support::{AUDIENCE, ISSUER, Scratch, issuer};

#[test]
fn the_key_file_is_created_for_its_owner_only_and_kept() {
    let scratch = Scratch::new();
    let first = issuer(&scratch).jwks();
    let mode = fs::metadata(scratch.key_file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(issuer(&scratch).jwks(), first, "a second start uses the same key");
    let other = Scratch::new();
    assert_ne!(issuer(&other).jwks(), first, "keys are not derived from anything fixed");
}

#[test]
fn processes_that_start_together_end_up_with_one_key() {
    let scratch = Scratch::new();
    let path = scratch.key_file();
    let start = || {
        let path = path.clone();
        thread::spawn(move || Issuer::open(&path, ISSUER, AUDIENCE).unwrap().jwks())
    };
    let threads: Vec<_> = (0..8).map(|_| start()).collect();
    let documents: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(documents.windows(2).all(|pair| pair[0] == pair[1]));
    let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "no temporary file stays behind");
}

#[test]
fn a_file_that_is_no_key_is_named_and_left_alone() {
    let scratch = Scratch::new();
    let path = scratch.0.join("note.pem");
    fs::write(&path, "remember the milk").unwrap();
    let error = Issuer::open(&path, ISSUER, AUDIENCE).unwrap_err();
    assert!(matches!(error, KeyFileError::Format { .. }));
    let shown = error.to_string();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "it holds no private key");
    assert!(shown.contains("note.pem") && !shown.contains("milk"), "{shown}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "remember the milk");
}

#[test]
fn the_public_document_holds_no_private_half() {
    let scratch = Scratch::new();
    let issuer = issuer(&scratch);
    let document = serde_json::to_value(issuer.jwks()).unwrap();
    let key = &document["keys"][0];
    let mut members: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x"]);
    assert_eq!((key["kty"].as_str(), key["alg"].as_str()), (Some("OKP"), Some("EdDSA")));
    let pem = fs::read_to_string(scratch.key_file()).unwrap();
    let secret = pem.lines().nth(1).unwrap();
    assert!(!format!("{issuer:?}").contains(secret));
}
