//! TLS with client certificates to a real Postgres.

use std::time::Duration;

use portolan_runtime::{DatabaseConfig, database, one_line};
use portolan_testkit::{TestCa, TestDb, TestMesh, context, eventually};
use rcgen::SanType;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

const PATIENCE: Duration = Duration::from_secs(30);

/// Gives the test server a certificate of this mesh. It is the server of all tests, but those that
/// do not ask for TLS get along without.
async fn certify(db: &TestDb, mesh: &TestMesh, name: &str) {
    let mut admin = PgConnection::connect(db.url()).await.unwrap();
    let mut params = mesh.params("postgres");
    params.subject_alt_names.retain(|name| matches!(name, SanType::IpAddress(_)));
    let server = mesh.ca().issue(&params);
    for (kind, pem) in [("pem", server), ("roots", mesh.ca().roots())] {
        // The server wants its key to be nobody else's, and the file is made by itself.
        let lines = format!("SELECT unnest(string_to_array($pem${pem}$pem$, chr(10)))");
        let copy = format!("COPY ({lines}) TO PROGRAM 'umask 077; cat > {name}.{kind}'");
        sqlx::query(AssertSqlSafe(copy)).execute(&mut admin).await.unwrap();
    }
    for (setting, value) in [
        ("ssl_cert_file", format!("{name}.pem")),
        ("ssl_key_file", format!("{name}.pem")),
        ("ssl_ca_file", format!("{name}.roots")),
        ("ssl", "on".to_owned()),
    ] {
        let alter = format!("ALTER SYSTEM SET {setting} = '{value}'");
        sqlx::query(AssertSqlSafe(alter)).execute(&mut admin).await.unwrap();
    }
    sqlx::query("SELECT pg_reload_conf()").execute(&mut admin).await.unwrap();
}

/// The TLS version and the serial number of our certificate, as the server sees them.
async fn seen(pool: &PgPool) -> (String, Option<String>) {
    let ssl = "SELECT version, client_serial::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    sqlx::query_as(ssl).fetch_one(pool).await.unwrap()
}

// One test, because there is one server.
#[tokio::test]
async fn the_server_is_verified_and_our_certificate_is_shown_and_both_follow_their_files() {
    let (db, mesh) = (TestDb::new(&[]).await, TestMesh::new());
    certify(&db, &mesh, "portolan_test_tls").await;
    let order = mesh.config("order");
    let config = DatabaseConfig {
        tls_roots: Some(order.roots.clone()),
        tls_identity: Some(order.identity),
        connect_timeout_secs: PATIENCE.as_secs(),
        ..db.config()
    };
    let ctx = context();
    let pool = database::open(&ctx, &config, &[]).await.unwrap();
    let (version, first) = seen(&pool).await;
    assert_eq!(version, "TLSv1.3");
    assert!(first.is_some());

    mesh.renew("order");
    let renewed = async || (seen(&pool).await.1 != first).then_some(());
    eventually(PATIENCE, "the new certificate is shown", renewed).await;

    let wrong = mesh.file("wrong.pem", &TestCa::new().roots());
    let config = DatabaseConfig { tls_roots: Some(wrong), connect_timeout_secs: 1, ..config };
    let line = one_line(database::open(&context(), &config, &[]).await.unwrap_err().as_ref());
    assert!(line.contains("invalid peer certificate"), "{line}");

    // By another name the server is another one, whoever signed its certificate.
    let elsewhere = db.url().replace("127.0.0.1", "localhost");
    let roots = Some(order.roots);
    let config = DatabaseConfig { tls_roots: roots, ..DatabaseConfig::new(elsewhere) };
    let config = DatabaseConfig { connect_timeout_secs: 0, ..config };
    let line = one_line(database::open(&context(), &config, &[]).await.unwrap_err().as_ref());
    assert!(line.contains("certificate not valid for name \"localhost\""), "{line}");
}
