//! The probe against a service's own port.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use clap::{Args as _, FromArgMatches as _};
use portolan_kernel::{Clock as _, SystemClock};
use portolan_runtime::{Callers, Context, Tls, grpc};
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;
use tonic::service::Routes;

use super::*;
use crate::{local::random_bytes, pki::Development};

const METHOD: &str = "shop.v1.Stock/Take";

/// An inventory that lets nobody but order take anything.
struct Shop {
    dir: PathBuf,
    address: SocketAddr,
    ctx: Context,
}

impl Shop {
    async fn open() -> Self {
        let name = format!("portolan-probe-{}", hex::encode(random_bytes::<8>().unwrap()));
        let dir = std::env::temp_dir().join(name);
        let shop = Development::open(&dir.join("ca"), "shop.test", "shop", now()).unwrap();
        let foreign = Development::open(&dir.join("other"), "shop.test", "shop", now()).unwrap();
        fs::write(dir.join("roots.pem"), shop.roots()).unwrap();
        for component in ["inventory", "order", "payment"] {
            write(&shop, component, &dir.join(format!("{component}.pem")));
        }
        write(&foreign, "order", &dir.join("foreign.pem"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = Tls::load(&config(&dir, "inventory")).unwrap();
        let ctx = Context::new("inventory", Some(listener)).with_tls(Some(tls));
        let callers: Callers = [("order", [METHOD])].into_iter().collect();
        grpc::serve(&ctx, Routes::default(), &callers).await.unwrap();
        Self { dir, address, ctx }
    }

    async fn call(&self, scheme: &str, component: &str, as_whom: Certificate<'_>) -> String {
        let url = format!("{scheme}://{}", self.address);
        let tls = config(&self.dir, "payment");
        let call = Call::new(&url, METHOD, Some(component), Some(&tls), &as_whom).unwrap();
        timeout(Duration::from_secs(20), call.make()).await.unwrap().unwrap().to_string()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.ctx.tasks.soft().cancel();
        let _kept = fs::remove_dir_all(&self.dir);
    }
}

fn now() -> time::OffsetDateTime {
    SystemClock.now()
}

fn write(authority: &Development, component: &str, file: &std::path::Path) {
    let (dns, ips) = (["localhost".to_owned()], [IpAddr::from(Ipv4Addr::LOCALHOST)]);
    let bundle = authority.make(component, &dns, &ips, Duration::from_mins(5), now()).unwrap();
    fs::write(file, bundle.expose_secret()).unwrap();
}

fn config(dir: &std::path::Path, component: &str) -> portolan_runtime::TlsConfig {
    let (identity, roots) = (dir.join(format!("{component}.pem")), dir.join("roots.pem"));
    let text = format!(
        "identity = {identity:?}\nroots = {roots:?}\ntrust_domain = 'shop.test'\nnamespace = 'shop'"
    );
    portolan_runtime::config::from_toml(&text).unwrap()
}

#[tokio::test]
async fn whoever_is_refused_is_told_apart_from_whoever_is_let_in() {
    let shop = Shop::open().await;
    let order = shop.dir.join("order.pem");
    // Let in: the method does not even exist.
    assert_eq!(shop.call("https", "inventory", Certificate::Of(&order)).await, "UNIMPLEMENTED");
    assert_eq!(shop.call("https", "inventory", Certificate::Ours).await, "PERMISSION_DENIED");
    let nobody = shop.call("https", "inventory", Certificate::None).await;
    assert_eq!(nobody, "TLS: received fatal alert: CertificateRequired");
    let foreign = shop.dir.join("foreign.pem");
    let foreign = shop.call("https", "inventory", Certificate::Of(&foreign)).await;
    assert!(foreign.starts_with("TLS: received fatal alert: "), "{foreign}");
}

#[tokio::test]
async fn who_is_not_the_one_that_we_wanted_is_named() {
    let shop = Shop::open().await;
    let found = shop.call("https", "payment", Certificate::Ours).await;
    assert!(found.contains("sa/inventory answers instead of spiffe://shop.test"), "{found}");
    let plain = shop.call("http", "inventory", Certificate::Ours).await;
    assert!(plain.starts_with("UNREACHABLE: "), "{plain}");
}

fn parse(line: &str) -> Result<Args, clap::Error> {
    let command = Args::augment_args(clap::Command::new("probe").no_binary_name(true));
    Args::from_arg_matches(&command.try_get_matches_from(line.split(' '))?)
}

#[test]
fn exactly_one_thing_is_tried() {
    assert!(parse("--tcp db:5432").is_ok() && parse("--http http://x").is_ok());
    assert!(parse("--url http://order:8443 --method a.B/C").is_ok());
    assert!(parse("--url http://order:8443").is_err(), "there is no method");
    assert!(parse("--expect OK").is_err(), "there is nothing to try");
    assert!(parse("--tcp db:5432 --http http://x").is_err(), "there are two things");
    assert!(parse("--tcp x:1 --identity f --no-certificate").is_err());
}

#[test]
fn codes_have_the_names_of_the_specification() {
    assert_eq!(Outcome::Grpc(Code::Ok).to_string(), "OK");
    assert_eq!(Outcome::Grpc(Code::PermissionDenied).to_string(), "PERMISSION_DENIED");
    assert_eq!(Outcome::Grpc(Code::DataLoss).to_string(), "DATA_LOSS");
}

#[test]
fn an_outcome_is_expected_by_its_first_word() {
    let refused = Outcome::Tls("received fatal alert: CertificateRequired".to_owned());
    assert!(refused.is("TLS") && refused.is("tls") && !refused.is("OK"));
    assert!(Outcome::Grpc(Code::PermissionDenied).is("PERMISSION_DENIED"));
    assert!(!Outcome::Grpc(Code::PermissionDenied).is("PERMISSION"));
    assert!(Outcome::Http(404).is("404") && Outcome::Timeout.is("TIMEOUT"));
}

#[tokio::test]
async fn a_closed_port_is_unreachable_and_an_open_one_is_not() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let open = Attempt::Tcp(address.clone()).make().await.unwrap();
    assert_eq!(open.to_string(), "OK");
    drop(listener);
    let closed = Attempt::Tcp(address).make().await.unwrap();
    assert!(closed.is("UNREACHABLE"), "{closed}");
}
