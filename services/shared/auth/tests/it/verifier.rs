use aws_lc_rs::{
    rsa::KeySize,
    signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use portolan_auth::{AuthError, InvalidToken, Issuer, Jwk, Jwks, MAX_TOKEN_BYTES, Role, Verifier};
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};

use crate::support::{
    AUDIENCE, ISSUER, NOW, Scratch, TestClock, issuer, parts, token, unsigned, verifier,
    with_signature,
};

fn refused(result: Result<portolan_auth::Claims, AuthError>) -> InvalidToken {
    match result {
        Err(AuthError::Invalid(why)) => why,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test]
async fn a_token_of_our_issuer_names_its_subject_and_roles() {
    let scratch = Scratch::new();
    let issuer = issuer(&scratch);
    let claims = verifier(&issuer, TestClock::at(NOW)).verify(&token(&issuer, "alice")).await;
    let claims = claims.unwrap();
    assert_eq!(claims.sub, "alice");
    assert!(claims.has(Role::Customer) && !claims.has(Role::Operator));
}

#[tokio::test]
async fn a_token_ends_and_begins_within_thirty_seconds_of_what_it_says() {
    let scratch = Scratch::new();
    let issuer = issuer(&scratch);
    let token = token(&issuer, "alice");
    let clock = TestClock::at(NOW);
    let verifier = verifier(&issuer, clock.clone());
    clock.set(NOW + 3600 + 29);
    assert!(verifier.verify(&token).await.is_ok());
    clock.set(NOW + 3600 + 30);
    assert_eq!(refused(verifier.verify(&token).await), InvalidToken::Expired);
    clock.set(NOW - 30);
    assert!(verifier.verify(&token).await.is_ok());
    clock.set(NOW - 31);
    assert_eq!(refused(verifier.verify(&token).await), InvalidToken::NotYetValid);
}

#[tokio::test]
async fn tokens_of_another_key_issuer_or_audience_are_refused() {
    let (ours, theirs) = (Scratch::new(), Scratch::new());
    let issuer = issuer(&ours);
    let verifier = verifier(&issuer, TestClock::at(NOW));

    let foreign_key = Issuer::open(&theirs.key_file(), ISSUER, AUDIENCE).unwrap();
    assert_eq!(refused(verifier.verify(&token(&foreign_key, "a")).await), InvalidToken::UnknownKey);
    let foreign_issuer = Issuer::open(&ours.key_file(), "https://evil.example", AUDIENCE).unwrap();
    assert_eq!(refused(verifier.verify(&token(&foreign_issuer, "a")).await), InvalidToken::Issuer);
    let foreign_audience = Issuer::open(&ours.key_file(), ISSUER, "another").unwrap();
    let refusal = refused(verifier.verify(&token(&foreign_audience, "a")).await);
    assert_eq!(refusal, InvalidToken::Audience);
}

#[tokio::test]
async fn a_changed_token_is_refused() {
    let scratch = Scratch::new();
    let issuer = issuer(&scratch);
    let verifier = verifier(&issuer, TestClock::at(NOW));
    let genuine = token(&issuer, "alice");
    let (header, mut claims) = parts(&genuine);
    claims["sub"] = "bob".into();
    let signature = genuine.rsplit('.').next().unwrap();
    let forged = format!("{}.{signature}", unsigned(&header, &claims));
    assert_eq!(refused(verifier.verify(&forged).await), InvalidToken::Signature);
}

#[tokio::test]
async fn the_token_does_not_choose_the_algorithm() {
    let scratch = Scratch::new();
    let issuer = issuer(&scratch);
    let verifier = verifier(&issuer, TestClock::at(NOW));
    let (header, claims) = parts(&token(&issuer, "alice"));

    let none = unsigned(&json!({"alg": "none", "kid": header["kid"]}), &claims) + ".";
    assert_eq!(refused(verifier.verify(&none).await), InvalidToken::Algorithm);

    // The classic confusion: the public key as an HMAC secret.
    let document = serde_json::to_value(issuer.jwks()).unwrap();
    let public = URL_SAFE_NO_PAD.decode(document["keys"][0]["x"].as_str().unwrap()).unwrap();
    let hmac =
        Header { kid: header["kid"].as_str().map(str::to_owned), ..Header::new(Algorithm::HS256) };
    let confused = encode(&hmac, &claims, &EncodingKey::from_secret(&public)).unwrap();
    assert_eq!(refused(verifier.verify(&confused).await), InvalidToken::Algorithm);
}

#[tokio::test]
async fn a_header_must_name_its_key_and_demand_nothing_else() {
    let scratch = Scratch::new();
    let issuer = issuer(&scratch);
    let verifier = verifier(&issuer, TestClock::at(NOW));
    let (header, claims) = parts(&token(&issuer, "alice"));
    let nameless = unsigned(&json!({"alg": "EdDSA", "typ": "JWT"}), &claims) + ".AA";
    assert_eq!(refused(verifier.verify(&nameless).await), InvalidToken::MissingKeyId);
    let critical = json!({"alg": "EdDSA", "kid": header["kid"], "crit": ["exp"]});
    let critical = unsigned(&critical, &claims) + ".AA";
    assert_eq!(refused(verifier.verify(&critical).await), InvalidToken::Malformed);
}

fn rsa_key(pair: &RsaKeyPair) -> Jwk {
    let public = pair.public_key();
    let component = |bytes: &[u8]| Some(URL_SAFE_NO_PAD.encode(bytes));
    Jwk {
        kty: "RSA".to_owned(),
        kid: Some("idp-1".to_owned()),
        n: component(public.modulus().big_endian_without_leading_zero()),
        e: component(public.exponent().big_endian_without_leading_zero()),
        ..Jwk::default()
    }
}

fn rsa_verifier(pair: &RsaKeyPair) -> Verifier {
    let keys = vec![rsa_key(pair)];
    Verifier::with_static(Jwks { keys }, ISSUER, AUDIENCE, TestClock::at(NOW))
}

fn sign_rs256(pair: &RsaKeyPair, claims: &Value) -> String {
    sign_rs256_as(&json!({"alg": "RS256", "kid": "idp-1"}), pair, claims)
}

fn sign_rs256_as(header: &Value, pair: &RsaKeyPair, claims: &Value) -> String {
    let input = unsigned(header, claims);
    let mut signature = vec![0; pair.public_modulus_len()];
    let random = aws_lc_rs::rand::SystemRandom::new();
    pair.sign(&RSA_PKCS1_SHA256, &random, input.as_bytes(), &mut signature).unwrap();
    with_signature(&input, &signature)
}

#[tokio::test]
async fn a_key_is_used_with_its_own_algorithm_whatever_the_header_says() {
    let scratch = Scratch::new();
    let (issuer, pair) = (issuer(&scratch), RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
    let mut jwks = issuer.jwks();
    jwks.keys.push(rsa_key(&pair));
    let verifier = Verifier::with_static(jwks, ISSUER, AUDIENCE, TestClock::at(NOW));
    let genuine = token(&issuer, "alice");
    let (header, claims) = parts(&genuine);
    let signature = genuine.rsplit('.').next().unwrap();
    assert!(verifier.verify(&genuine).await.is_ok());
    assert!(verifier.verify(&sign_rs256(&pair, &claims)).await.is_ok());

    let named = |alg: &str, kid: &Value| json!({"alg": alg, "kid": kid});
    for (alg, kid) in [("RS256", &header["kid"]), ("EdDSA", &json!("idp-1"))] {
        let by_rsa = sign_rs256_as(&named(alg, kid), &pair, &claims);
        assert_eq!(refused(verifier.verify(&by_rsa).await), InvalidToken::Algorithm, "{alg}");
        let by_ed25519 = format!("{}.{signature}", unsigned(&named(alg, kid), &claims));
        assert_eq!(refused(verifier.verify(&by_ed25519).await), InvalidToken::Algorithm, "{alg}");
    }
    // Each with its own algorithm, under the other's name.
    let by_rsa = sign_rs256_as(&named("RS256", &json!("idp-1")), &pair, &claims);
    let swapped = format!("{}.{}", unsigned(&header, &claims), by_rsa.rsplit('.').next().unwrap());
    assert_eq!(refused(verifier.verify(&swapped).await), InvalidToken::Signature);
}

#[tokio::test]
async fn an_outside_identity_provider_may_sign_with_rsa() {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let verifier = rsa_verifier(&pair);
    let claims = json!({
        "iss": ISSUER, "aud": ["account", AUDIENCE], "sub": "a1b2", "exp": NOW + 60,
        "scope": "openid customer",
    });
    let accepted = verifier.verify(&sign_rs256(&pair, &claims)).await.unwrap();
    assert!(accepted.has(Role::Customer));

    for missing in ["iss", "aud", "sub", "exp"] {
        let mut incomplete = claims.clone();
        incomplete.as_object_mut().unwrap().remove(missing);
        let refusal = refused(verifier.verify(&sign_rs256(&pair, &incomplete)).await);
        assert_eq!(refusal, InvalidToken::Claims, "without {missing}");
    }
    let mut control = claims;
    control["sub"] = "a\u{0}b".into();
    let refusal = refused(verifier.verify(&sign_rs256(&pair, &control)).await);
    assert_eq!(refusal, InvalidToken::Subject);
}

#[test]
fn arbitrary_text_is_refused_without_a_fuss() {
    let scratch = Scratch::new();
    let issuer = issuer(&scratch);
    let verifier = verifier(&issuer, TestClock::at(NOW));
    let genuine = token(&issuer, "alice");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let cut = (0..genuine.len()).prop_map(|at| genuine[..at].to_owned());
    let garbage = prop_oneof![any::<String>(), "[A-Za-z0-9_.-]{0,80}", cut];
    let run = TestRunner::default().run(&garbage, |text| {
        prop_assert!(runtime.block_on(verifier.verify(&text)).is_err());
        Ok(())
    });
    run.unwrap();
    let huge = "a".repeat(MAX_TOKEN_BYTES + 1);
    assert_eq!(refused(runtime.block_on(verifier.verify(&huge))), InvalidToken::TooLarge);
}

#[test]
fn no_change_of_a_single_character_leaves_a_token_valid() {
    let scratch = Scratch::new();
    let issuer = issuer(&scratch);
    let verifier = verifier(&issuer, TestClock::at(NOW));
    let genuine = token(&issuer, "alice");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let places = (0..genuine.len(), proptest::char::range(' ', '~'));
    let run = TestRunner::default().run(&places, |(at, other)| {
        let mut changed = genuine.clone();
        changed.replace_range(at..=at, other.encode_utf8(&mut [0; 4]));
        let accepted = runtime.block_on(verifier.verify(&changed)).is_ok();
        prop_assert_eq!(accepted, changed == genuine);
        Ok(())
    });
    run.unwrap();
}

/// Values of any type where a claim should be.
fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!(NOW + 60)),
        Just(json!([AUDIENCE, 7])),
        Just(json!({"deep": [{}]})),
    ]
}

#[test]
fn claims_of_any_shape_are_understood_or_refused() {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let verifier = rsa_verifier(&pair);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let names =
        proptest::sample::select(&["iss", "aud", "sub", "exp", "nbf", "iat", "scope", "roles"]);
    let run = TestRunner::default().run(&(names, values()), |(name, value)| {
        let mut claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": "a1b2", "exp": NOW + 60, "scope": "customer",
        });
        claims[name] = value;
        if let Ok(claims) = runtime.block_on(verifier.verify(&sign_rs256(&pair, &claims))) {
            prop_assert!(!claims.sub.is_empty() && !claims.sub.chars().any(char::is_control));
            prop_assert!(claims.exp > NOW - 31);
        }
        Ok(())
    });
    run.unwrap();
}
