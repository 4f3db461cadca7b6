use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use portolan_kernel::{Clock as _, SystemClock};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519,
};
use rustls::{
    RootCertStore, client::WebPkiServerVerifier, client::danger::ServerCertVerifier as _,
    crypto::aws_lc_rs::default_provider, server::WebPkiClientVerifier,
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime, pem::PemObject as _,
};
use secrecy::ExposeSecret as _;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};

use super::*;

const DAY: Duration = Duration::from_hours(24);

fn now() -> OffsetDateTime {
    SystemClock.now()
}

fn root() -> Authority {
    Authority::generate("Portolan root", now()).unwrap()
}

fn request() -> LeafRequest {
    LeafRequest {
        name: "kafka".to_owned(),
        dns: vec!["kafka".to_owned(), "kafka.shop.svc".to_owned()],
        ips: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        uri: spiffe_id("portolan.local", "shop", "kafka"),
        ttl: 90 * DAY,
    }
}

fn roots(pem: &str) -> Arc<RootCertStore> {
    let mut store = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        store.add(der.unwrap()).unwrap();
    }
    Arc::new(store)
}

/// Whether somebody who trusts `root` believes that the first of `chain` is `name` at `when`,
/// as a server and as a client.
fn believed(root: &str, chain: &str, name: &str, when: OffsetDateTime) -> bool {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
    let provider = Arc::new(default_provider());
    let server = WebPkiServerVerifier::builder_with_provider(roots(root), Arc::clone(&provider));
    let client = WebPkiClientVerifier::builder_with_provider(roots(root), provider);
    let when =
        UnixTime::since_unix_epoch(Duration::from_secs(when.unix_timestamp().try_into().unwrap()));
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let (leaf, issuers) = chain.split_first().unwrap();
    let as_server =
        server.build().unwrap().verify_server_cert(leaf, issuers, &name, &[], when).is_ok();
    let as_client = client.build().unwrap().verify_client_cert(leaf, issuers, when).is_ok();
    as_server && as_client
}

fn parsed<T>(pem: &str, read: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    read(&X509Certificate::from_der(&der).unwrap().1)
}

#[test]
fn a_root_is_an_authority_for_ten_years_and_survives_its_text_form() {
    let root = root();
    assert!(root.certificate().is_authority());
    let days = (root.certificate().not_after() - now()).whole_days();
    assert!((3649..=3650).contains(&days), "{days}");
    let again = Authority::from_pem(root.pem(), root.key_pem().expose_secret()).unwrap();
    let leaf = again.issue(&request(), now()).unwrap();
    assert!(believed(root.pem(), &leaf.certificate, "kafka", now()));
}

#[test]
fn a_leaf_says_what_was_asked_and_nothing_else() {
    let root = root();
    let leaf = root.issue(&request(), now()).unwrap();
    let certificate = Certificate::from_pem(&leaf.certificate).unwrap();
    assert!(certificate.says(&request()));
    assert!(certificate.is_signed_by(root.certificate()) && !certificate.is_authority());
    let changes: [fn(&mut LeafRequest); 5] = [
        |other| other.name = "redis".to_owned(),
        |other| other.dns.push("kafka-1".to_owned()),
        |other| other.dns.truncate(1),
        |other| other.ips.clear(),
        |other| other.uri = spiffe_id("portolan.local", "shop", "kafka2"),
    ];
    for change in changes {
        let mut other = request();
        change(&mut other);
        assert!(!certificate.says(&other), "{other:?}");
    }
    parsed(&leaf.certificate, |parsed| {
        let usage = parsed.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && !usage.key_cert_sign());
        let extended = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.server_auth && extended.client_auth);
        assert!(parsed.basic_constraints().unwrap().is_some_and(|ext| !ext.value.ca));
    });
}

#[test]
fn a_leaf_is_believed_for_its_names_and_its_time_only() {
    let root = root();
    let leaf = root.issue(&request(), now()).unwrap().certificate;
    for name in ["kafka", "kafka.shop.svc", "127.0.0.1"] {
        assert!(believed(root.pem(), &leaf, name, now()), "{name}");
    }
    assert!(believed(root.pem(), &leaf, "kafka", now() + 89 * DAY));
    assert!(!believed(root.pem(), &leaf, "kafka", now() + 91 * DAY));
    assert!(!believed(root.pem(), &leaf, "a.kafka.shop.svc", now()));
    assert!(!believed(self::root().pem(), &leaf, "kafka", now()), "another root");
}

#[test]
fn a_key_is_of_the_only_form_that_kafka_reads() {
    let leaf = root().issue(&request(), now()).unwrap();
    assert!(leaf.key.expose_secret().starts_with("-----BEGIN PRIVATE KEY-----"));
    PrivatePkcs8KeyDer::from_pem_slice(leaf.key.expose_secret().as_bytes()).unwrap();
    assert!(!format!("{leaf:?}").contains("PRIVATE"));
}

#[test]
fn nothing_outlives_its_authority() {
    let root = Authority::generate("Portolan root", now() - 3_649 * DAY).unwrap();
    let leaf = root.issue(&request(), now()).unwrap();
    let end = Certificate::from_pem(&leaf.certificate).unwrap().not_after();
    assert_eq!(end, root.certificate().not_after());
    let late = now() + 2 * DAY;
    assert!(matches!(root.issue(&request(), late), Err(PkiError::Expired)));
}

/// What Vault hands out: a request, and the key that stays with it.
fn signing_request(algorithm: &'static rcgen::SignatureAlgorithm) -> (String, KeyPair) {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Portolan workloads");
    // What is asked for beyond the name does not count.
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (params.serialize_request(&key).unwrap().pem().unwrap(), key)
}

#[test]
fn an_intermediate_signs_leaves_and_nothing_below_them() {
    let root = root();
    let (csr, key) = signing_request(&PKCS_ECDSA_P384_SHA384);
    let pem = root.sign_intermediate(&csr, 365 * DAY, now()).unwrap();
    parsed(&pem, |parsed| {
        let constraints = parsed.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, Some(0));
        let age = now() - parsed.validity().not_before.to_datetime();
        assert!(age >= time::Duration::minutes(59), "an hour back: {age}");
        assert!(
            parsed.extensions().iter().any(|e| matches!(
                e.parsed_extension(),
                ParsedExtension::AuthorityKeyIdentifier(_)
            ))
        );
    });
    let below = Authority::from_pem(&pem, &key.serialize_pem()).unwrap();
    let leaf = below.issue(&request(), now()).unwrap().certificate;
    assert!(believed(root.pem(), &[leaf.clone(), pem.clone()].concat(), "kafka", now()));
    assert!(!believed(root.pem(), &leaf, "kafka", now()), "without the intermediate");

    let (csr, key) = signing_request(&PKCS_ED25519);
    let second = below.sign_intermediate(&csr, 30 * DAY, now()).unwrap();
    let third = Authority::from_pem(&second, &key.serialize_pem()).unwrap();
    let leaf = third.issue(&request(), now()).unwrap().certificate;
    assert!(!believed(root.pem(), &[leaf, second, pem].concat(), "kafka", now()));
}

#[test]
fn what_is_no_pair_of_an_authority_is_refused() {
    let (root, other) = (root(), root());
    let key = root.key_pem();
    let key = key.expose_secret();
    let of = |certificate: &str, key: &str| Authority::from_pem(certificate, key).unwrap_err();
    assert!(matches!(of(other.pem(), key), PkiError::Mismatch));
    assert!(matches!(of("nothing", key), PkiError::Certificate { .. }));
    assert!(matches!(of(root.pem(), "nothing"), PkiError::Key));
    let leaf = root.issue(&request(), now()).unwrap();
    assert!(matches!(of(&leaf.certificate, leaf.key.expose_secret()), PkiError::NoAuthority));
    let garbled = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
    let refused = root.sign_intermediate(garbled, DAY, now());
    assert!(matches!(refused, Err(PkiError::Request)));
    let certificate = Certificate::from_pem(&leaf.certificate).unwrap();
    assert!(!certificate.is_signed_by(other.certificate()), "same name, another key");
}

#[test]
fn the_development_authority_is_made_once_and_signs_bundles() {
    let directory = std::env::temp_dir().join(format!("portolan-pki-{}", std::process::id()));
    let open = || Development::open(&directory, "portolan.local", "local", now()).unwrap();
    let (first, second) = (open(), open());
    assert_eq!(first.roots(), second.roots());
    let names = ["localhost".to_owned()];
    let bundle = second.make("order", &names, &[], DAY, now()).unwrap();
    let bundle = bundle.expose_secret();
    assert!(believed(first.roots(), bundle, "localhost", now()));
    let chain = Certificate::all(bundle).unwrap();
    assert_eq!(chain.len(), 2, "leaf, authority");
    assert!(chain[0].is_signed_by(&chain[1]));
    PrivateKeyDer::from_pem_slice(bundle.as_bytes()).unwrap();
    let said = LeafRequest {
        name: "order".to_owned(),
        dns: names.to_vec(),
        ips: Vec::new(),
        uri: "spiffe://portolan.local/ns/local/sa/order".to_owned(),
        ttl: DAY,
    };
    assert!(chain[0].says(&said));
    std::fs::remove_dir_all(&directory).unwrap();
}
