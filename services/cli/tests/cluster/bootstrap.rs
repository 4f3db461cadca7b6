use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::PathBuf,
    sync::{Barrier, atomic::AtomicUsize, atomic::Ordering},
    thread,
    time::Duration,
};

use portolan_cli::pki::{Authority, Certificate, LeafRequest, spiffe_id};
use portolan_kernel::{Clock as _, SystemClock};
use secrecy::ExposeSecret as _;

use crate::{
    api::{Api, NAMESPACE},
    program::{Directory, fail, portolan, succeed},
};

const DAY: Duration = Duration::from_hours(24);

/// The part of the file that is about what is to be made.
pub(crate) const WANTED: &str = r#"
namespace = "shop"
trust_domain = "portolan.local"
pod_security = "restricted"
root_secret = "root-ca"
ca_config_map = "ca"

[labels]
"app.kubernetes.io/part-of" = "portolan"

[[certificate]]
secret = "vault-tls"
component = "vault"
name = "vault"
dns = ["vault", "vault.shop.svc", "localhost"]
ips = ["127.0.0.1"]
days = 90

[[certificate]]
secret = "postgres-tls"
component = "postgres"
name = "postgres"
dns = ["postgres", "postgres.shop.svc", "localhost"]
ips = ["127.0.0.1"]

[[secret]]
name = "postgres-bootstrap"
keys = ["superuser", "vault_admin"]

[[empty_secret]]
name = "vault-unseal"

[demo_users]
secret = "demo-users"
users = ["alice", "olga"]
"#;

struct Setting {
    directory: Directory,
    api: Api,
    config: PathBuf,
}

impl Setting {
    fn new(name: &str) -> Self {
        let directory = Directory::new(name);
        let api = Api::start(&directory.0);
        let config = directory.write("bootstrap.toml", &format!("{WANTED}\n{}", api.section()));
        Self { directory, api, config }
    }

    fn run(&self) -> String {
        succeed(portolan("bootstrap", &self.config, &[]))
    }

    fn root(&self) -> Authority {
        let value = |key| self.api.secret("root-ca", key).unwrap();
        Authority::from_pem(&value("tls.crt"), &value("tls.key")).unwrap()
    }

    fn certificate(&self, secret: &str) -> Certificate {
        Certificate::from_pem(&self.api.secret(secret, "tls.crt").unwrap()).unwrap()
    }

    /// Puts a certificate of PostgreSQL in place that ends in so many days.
    fn put_certificate(&self, request: &LeafRequest) {
        let leaf = self.root().issue(request, SystemClock.now()).unwrap();
        self.api.put_secret(
            "postgres-tls",
            &[
                ("tls.crt", &leaf.certificate),
                ("tls.key", leaf.key.expose_secret()),
                ("ca.crt", self.root().pem()),
                ("bundle.pem", "something"),
            ],
        );
    }
}

fn postgres(days: u32) -> LeafRequest {
    LeafRequest {
        name: "postgres".to_owned(),
        dns: ["postgres", "postgres.shop.svc", "localhost"].map(str::to_owned).to_vec(),
        ips: vec!["127.0.0.1".parse().unwrap()],
        uri: spiffe_id("portolan.local", NAMESPACE, "postgres"),
        ttl: DAY * days,
    }
}

#[test]
fn everything_is_made_once_and_a_second_run_changes_nothing() {
    let setting = Setting::new("once");
    let said = setting.run();
    let made = [
        "labelled namespace shop: pod security restricted",
        "made Secret root-ca",
        "made ConfigMap ca",
        "made Secret vault-tls",
        "made Secret postgres-tls",
        "made Secret postgres-bootstrap",
        "made Secret demo-users",
        "made Secret vault-unseal",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), made);
    let objects = setting.api.objects();
    let (root, vault) = (setting.root(), setting.certificate("vault-tls"));
    assert_eq!(setting.api.config_map("ca", "ca.crt").unwrap(), root.pem());
    assert!(vault.is_signed_by(root.certificate()));
    let bundle = setting.api.secret("vault-tls", "bundle.pem").unwrap();
    let key = setting.api.secret("vault-tls", "tls.key").unwrap();
    assert_eq!(bundle, [&*key, &*setting.api.secret("vault-tls", "tls.crt").unwrap()].concat());
    assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"));
    let secrets: Vec<String> = [
        ("postgres-bootstrap", "superuser"),
        ("postgres-bootstrap", "vault_admin"),
        ("demo-users", "alice"),
        ("demo-users", "olga"),
    ]
    .map(|(name, key)| setting.api.secret(name, key).unwrap())
    .to_vec();
    assert!(secrets.iter().all(|value| value.len() == 43 && !said.contains(value)));
    assert!(secrets.iter().enumerate().all(|(i, value)| !secrets[..i].contains(value)));
    let label = "app.kubernetes.io/part-of";
    assert!(objects.values().all(|object| object["metadata"]["labels"][label] == "portolan"));

    assert_eq!(setting.run(), "");
    assert_eq!(setting.api.objects(), objects);
}

#[test]
fn two_runs_at_once_end_with_one_result() {
    let setting = Setting::new("race");
    // Both see that there is no root, and only then may one of them make it.
    let (both, first) = (Barrier::new(2), AtomicUsize::new(0));
    setting.api.instead(move |method, path| {
        if method == "POST" && path == "secrets" && first.fetch_add(1, Ordering::SeqCst) < 2 {
            both.wait();
        }
        None
    });
    let said = thread::scope(|scope| {
        let runs = [scope.spawn(|| setting.run()), scope.spawn(|| setting.run())];
        runs.map(|run| run.join().unwrap()).concat()
    });
    let mut made: BTreeMap<&str, u32> = BTreeMap::new();
    for line in said.lines().filter(|line| line.starts_with("made ")) {
        *made.entry(line).or_default() += 1;
    }
    assert_eq!(made.len(), 7, "{made:?}");
    assert!(made.values().all(|times| *times == 1), "{made:?}");
    for secret in ["vault-tls", "postgres-tls"] {
        assert!(setting.certificate(secret).is_signed_by(setting.root().certificate()));
    }
    assert_eq!(setting.api.config_map("ca", "ca.crt").unwrap(), setting.root().pem());
}

#[test]
fn a_certificate_is_renewed_when_less_than_thirty_days_are_left() {
    let setting = Setting::new("renewal");
    setting.run();
    let root = setting.api.secret("root-ca", "tls.crt");
    setting.put_certificate(&postgres(31));
    let before = setting.certificate("postgres-tls");
    assert_eq!(setting.run(), "");
    assert_eq!(setting.certificate("postgres-tls"), before);

    setting.put_certificate(&postgres(29));
    assert_eq!(setting.run(), "renewed Secret postgres-tls: 28 days were left\n");
    let after = setting.certificate("postgres-tls");
    assert!((after.not_after() - SystemClock.now()).whole_days() >= 89);
    assert!(after.says(&postgres(90)));
    let (bundle, own) = ("bundle.pem", setting.api.secret("postgres-tls", "tls.crt").unwrap());
    assert!(setting.api.secret("postgres-tls", bundle).unwrap().ends_with(&own));
    assert_eq!(setting.api.secret("root-ca", "tls.crt"), root);
}

#[test]
fn a_certificate_is_renewed_when_it_no_longer_says_what_it_should() {
    let setting = Setting::new("names");
    setting.run();
    let mut request = postgres(90);
    request.dns.pop();
    setting.put_certificate(&request);
    assert_eq!(setting.run(), "renewed Secret postgres-tls: its names have changed\n");
    let pair = ("tls.crt", "of another kind");
    setting.api.put_secret("postgres-tls", &[pair]);
    assert_eq!(setting.run(), "renewed Secret postgres-tls: it was incomplete\n");
    assert!(setting.certificate("postgres-tls").says(&postgres(90)));

    // Another root, from elsewhere: what it did not sign is replaced, and both are trusted.
    let (old, new) = (setting.root(), Authority::generate("Other", SystemClock.now()).unwrap());
    let (certificate, key) = (new.pem().to_owned(), new.key_pem());
    setting
        .api
        .put_secret("root-ca", &[("tls.crt", &certificate), ("tls.key", key.expose_secret())]);
    let said = setting.run();
    assert!(said.contains("renewed Secret vault-tls: the root has changed"), "{said}");
    assert!(setting.certificate("postgres-tls").is_signed_by(new.certificate()));
    let trusted = Certificate::all(&setting.api.config_map("ca", "ca.crt").unwrap()).unwrap();
    assert!(trusted.contains(new.certificate()) && trusted.contains(old.certificate()));
    assert_eq!(setting.run(), "", "trust that is there is not added again");
}

#[test]
fn what_exists_stays_whatever_it_is() {
    let setting = Setting::new("stays");
    setting.api.put_secret("vault-unseal", &[("key", "precious")]);
    setting.api.put_secret("postgres-bootstrap", &[("superuser", "chosen by hand")]);
    setting.api.put_secret("demo-users", &[("alice", "wonderland"), ("olga", "opera")]);
    let said = setting.run();
    assert!(said.contains("added vault_admin to Secret postgres-bootstrap"), "{said}");
    let secret = |name, key| setting.api.secret(name, key).unwrap();
    assert_eq!(secret("postgres-bootstrap", "superuser"), "chosen by hand");
    assert_eq!(secret("postgres-bootstrap", "vault_admin").len(), 43);
    assert_eq!(secret("demo-users", "alice"), "wonderland");
    assert_eq!(secret("vault-unseal", "key"), "precious");
    let requests = setting.api.requests();
    let touched = |request: &&String| request.contains("secrets/vault-unseal");
    assert_eq!(requests.iter().find(touched), None, "nobody asks for the key");
}

#[test]
fn a_root_that_cannot_be_used_is_an_error_and_not_replaced() {
    let setting = Setting::new("half");
    setting.api.put_secret("root-ca", &[("tls.crt", "half a root")]);
    let config = std::fs::read_to_string(&setting.config).unwrap();
    let config = setting.directory.write("short.toml", &format!("wait_secs = 1\n{config}"));
    let said = fail(portolan("bootstrap", &config, &[]));
    assert!(said.contains("Secret root-ca exists and has no tls.key"), "{said}");
    assert_eq!(setting.api.secret("root-ca", "tls.crt").unwrap(), "half a root");
    assert!(setting.api.secret("postgres-tls", "tls.crt").is_none());
}

#[test]
fn the_namespace_is_labelled_only_if_it_has_to_be() {
    let setting = Setting::new("labels");
    for mode in ["enforce", "warn", "audit"] {
        setting.api.set_label(&format!("pod-security.kubernetes.io/{mode}"), "restricted");
    }
    setting.api.set_label("theirs", "stays");
    setting.run();
    assert!(!setting.api.requests().contains(&"PATCH ".to_owned()));
    setting.api.set_label("pod-security.kubernetes.io/enforce", "baseline");
    setting.run();
    assert!(setting.api.requests().contains(&"PATCH ".to_owned()));
    let labels = setting.api.labels();
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
    assert_eq!(labels["theirs"], "stays");
}

#[test]
fn a_refusal_and_a_silence_are_told_apart() {
    let setting = Setting::new("refusal");
    setting.api.instead(|method, _| (method == "POST").then_some(403));
    let config = std::fs::read_to_string(&setting.config).unwrap();
    let config = format!("wait_secs = 1\n{config}");
    let short = setting.directory.write("short.toml", &config);
    let said = fail(portolan("bootstrap", &short, &[]));
    assert!(said.contains("create Secret root-ca: not allowed"), "{said}");

    // Accepts connections, and that is all: as if a policy dropped what comes after.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = setting.api.address.to_string();
    let silent = config.replace(&own, &silent.local_addr().unwrap().to_string());
    let config = setting.directory.write("silent.toml", &silent);
    let said = fail(portolan("bootstrap", &config, &[]));
    assert!(said.contains("does not answer in time; may this pod reach it"), "{said}");
}
