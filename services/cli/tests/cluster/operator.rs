use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{program::eventually, vault::World};

const PATCH: &str = "PATCH secrets/vault-unseal";

#[test]
#[ignore = "needs a vault binary"]
fn an_empty_vault_is_opened_and_handed_over_and_the_root_token_is_gone() {
    let world = World::new("operator");
    let operator = world.hand_over();
    let lines: Vec<String> = operator.said().lines().map(str::to_owned).collect();
    let wanted = [
        "initialised Vault",
        "saved Vault's key in Secret vault-unseal",
        "unsealed Vault",
        "handed Vault over: the root token is revoked",
    ];
    assert_eq!(lines, wanted);
    let secret = &world.api.objects()["secrets/vault-unseal"]["data"];
    assert_eq!(secret.as_object().unwrap().keys().collect::<Vec<_>>(), ["key"]);

    // The one who may configure gets in, and nobody else does.
    let token = world.log_in("vault-configure", "configure").unwrap();
    let own = world.vault.read("auth/token/lookup-self", &token);
    assert_eq!(own["policies"], json!(["configure", "default"]));
    assert_eq!(own["explicit_max_ttl"], 0);
    assert!(own["ttl"].as_u64().unwrap() <= 600);
    assert!(world.log_in("order", "configure").unwrap_err().contains("not authorized"));
    let other = world.log_in_for("vault-configure", "configure", "kubernetes").unwrap_err();
    assert!(other.contains("invalid audience"), "{other}");
    for path in ["sys/auth/other", "sys/audit/other", "auth/kubernetes/config", "sys/seal"] {
        assert_eq!(world.vault.status("PUT", path, &token, &json!({})), 403, "{path}");
    }
    let said = world.vault.said();
    assert!(said.contains("\"path\":\"auth/kubernetes/login\""), "requests are written down");
    assert!(!said.contains(&token), "and what is secret in them is not");
    assert!(operator.end(Signal::SIGTERM) < Duration::from_millis(500));
}

#[test]
#[ignore = "needs a vault binary"]
fn every_start_is_followed_by_an_unsealing() {
    let mut world = World::new("restarts");
    let operator = world.hand_over();
    for token in ["the next token", "the one after that"] {
        world.api.replace_token(token);
        world.vault.restart();
        eventually("Vault is open", || world.vault.is_open().then_some(()));
    }
    assert!(world.log_in("vault-configure", "configure").is_ok());
    // Beside a Vault that is open, another run of the operator changes nothing.
    operator.crash();
    world.api.requests();
    let second = world.operator();
    eventually("the Secret is read", || {
        world.api.requests().contains(&"GET secrets/vault-unseal".to_owned()).then_some(())
    });
    world.vault.restart();
    eventually("Vault is open", || world.vault.is_open().then_some(()));
    assert!(!world.api.requests().iter().any(|request| request == PATCH));
    assert!(second.end(Signal::SIGINT) < Duration::from_millis(500));
}

#[test]
#[ignore = "needs a vault binary"]
fn nothing_is_initialised_that_could_not_be_saved() {
    let world = World::new("rehearsal");
    world.api.instead(|method, _| (method == "PATCH").then_some(403));
    let mut operator = world.operator();
    operator.wait_for("Vault is empty, but its key could not be saved");
    let initialised =
        || world.vault.call("GET", "sys/init", "", &Value::Null).1["initialized"] == true;
    assert!(!initialised());
    world.api.instead(|_, _| None);
    operator.wait_for("handed Vault over");
    assert!(initialised());
}

#[test]
#[ignore = "needs a vault binary"]
fn a_key_that_cannot_be_saved_at_once_is_saved_later_and_holds_up_the_end() {
    let world = World::new("saving");
    let (patches, broken) = (AtomicU32::new(0), Arc::new(AtomicBool::new(true)));
    let fault = Arc::clone(&broken);
    // The first is the rehearsal.
    world.api.instead(move |method, _| {
        let fails = method == "PATCH"
            && patches.fetch_add(1, Ordering::SeqCst) > 0
            && fault.load(Ordering::SeqCst);
        fails.then_some(500)
    });
    let mut operator = world.operator();
    operator.wait_for("Vault's key is not saved yet");
    let ended = std::thread::scope(|scope| {
        let ended = scope.spawn(|| operator.end(Signal::SIGTERM));
        // It is told to end while the key is nowhere else: it goes on until it is saved.
        world.api.requests();
        eventually("another try", || {
            world.api.requests().contains(&PATCH.to_owned()).then_some(())
        });
        broken.store(false, Ordering::SeqCst);
        ended.join().unwrap()
    });
    assert!(ended < Duration::from_secs(10), "{ended:?}");
    assert!(world.api.secret("vault-unseal", "key").is_some());
    world.hand_over();
}

#[test]
#[ignore = "needs a vault binary"]
fn a_lost_key_is_said_to_be_lost_and_an_emptied_vault_starts_again() {
    let mut world = World::new("lost");
    world.api.instead({
        let patches = AtomicU32::new(0);
        move |method, _| {
            (method == "PATCH" && patches.fetch_add(1, Ordering::SeqCst) > 0).then_some(500)
        }
    });
    let mut operator = world.operator();
    operator.wait_for("Vault's key is not saved yet");
    operator.crash();
    world.api.instead(|_, _| None);

    let mut operator = world.operator();
    operator.wait_for("Secret vault-unseal has no key for it");
    let mut looks = 0;
    eventually("it looks again and again", || {
        looks += world.api.requests().len();
        (looks >= 5).then_some(())
    });
    assert_eq!(operator.said().matches("delete Vault's claim and its pod").count(), 1);
    world.vault.lose_everything();
    operator.wait_for("handed Vault over");
}

#[test]
#[ignore = "needs a vault binary"]
fn the_key_of_a_vault_that_is_only_absent_is_kept() {
    let mut world = World::new("absent");
    world.hand_over();
    let first = world.api.secret("vault-unseal", "key").unwrap();
    world.vault.lose_everything();
    world.hand_over();
    assert_ne!(world.api.secret("vault-unseal", "key").unwrap(), first);
    let objects = world.api.objects();
    let data = objects["secrets/vault-unseal"]["data"].as_object().unwrap();
    let before = data.keys().find(|key| key.starts_with("key-before-")).unwrap();
    assert_eq!(world.api.secret("vault-unseal", before).unwrap(), first);
}

#[test]
#[ignore = "needs a vault binary"]
fn a_hand_over_that_was_interrupted_is_finished() {
    let world = World::new("interrupted");
    // Before: saved, and not yet handed over. Kubernetes does not answer any more.
    world.api.instead({
        let patches = AtomicU32::new(0);
        move |method, path| {
            let saved = match (method.as_str(), path) {
                ("PATCH", _) => patches.fetch_add(1, Ordering::SeqCst) >= 2,
                _ => false,
            };
            saved.then_some(500)
        }
    });
    let mut operator = world.operator();
    // After revoking the token, it cannot be removed from the Secret.
    operator.wait_for("patch Secret vault-unseal: refused with status 500");
    operator.crash();
    assert!(world.api.secret("vault-unseal", "root").is_some());
    let root = world.api.secret("vault-unseal", "root").unwrap();
    let alive = world.vault.status("GET", "auth/token/lookup-self", &root, &Value::Null);
    assert_eq!(alive, 403, "revoked before it is forgotten");
    world.api.instead(|_, _| None);
    world.hand_over();
    assert!(world.api.secret("vault-unseal", "root").is_none());
    assert!(world.log_in("vault-configure", "configure").is_ok());
}
