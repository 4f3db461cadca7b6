//! The logins of a deployment: the one that migrates acts for the role that owns everything, the
//! one that serves may read and write and nothing else. So every test of a shop also shows that
//! its services need no more than that.

use portolan_testkit::TestDb;
use sqlx::{AssertSqlSafe, Executor as _};

const OWNER: &str = "portolan_e2e_owner";
const RUNTIME: &str = "portolan_e2e_runtime";
const MIGRATOR: &str = "portolan_e2e_migrator";
const SERVICE: &str = "portolan_e2e_service";
const PASSWORD: &str = "portolan";

/// The URLs that lead to one database.
#[derive(Debug)]
pub(crate) struct Logins {
    pub(crate) migrator: String,
    pub(crate) service: String,
}

/// Makes the roles where they are missing, and an empty database theirs. The schema `public` is
/// left as it is: its owner is `pg_database_owner`, whose one member is whoever owns the database.
pub(crate) async fn divide(db: &TestDb) -> Logins {
    let name = db.url().split('?').next().and_then(|url| url.rsplit('/').next());
    let name = name.expect("a database's name");
    let sql = format!(
        "DO $$ BEGIN
             CREATE ROLE {OWNER} NOLOGIN;
             CREATE ROLE {RUNTIME} NOLOGIN;
             CREATE ROLE {MIGRATOR} LOGIN PASSWORD '{PASSWORD}' IN ROLE {OWNER};
             ALTER ROLE {MIGRATOR} SET role = '{OWNER}';
             CREATE ROLE {SERVICE} LOGIN PASSWORD '{PASSWORD}' IN ROLE {RUNTIME};
         -- Another test may be faster; it makes all of them or none.
         EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
         ALTER DATABASE {name} OWNER TO {OWNER};
         REVOKE ALL ON DATABASE {name} FROM PUBLIC;
         REVOKE ALL ON SCHEMA public FROM PUBLIC;
         GRANT CONNECT ON DATABASE {name} TO {RUNTIME};
         GRANT USAGE ON SCHEMA public TO {RUNTIME};
         ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public
             GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {RUNTIME};
         ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public
             GRANT USAGE, SELECT ON SEQUENCES TO {RUNTIME};
         ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public
             GRANT EXECUTE ON FUNCTIONS TO {RUNTIME};"
    );
    db.pool().execute(AssertSqlSafe(sql)).await.expect("roles and their rights");
    Logins { migrator: as_login(db.url(), MIGRATOR), service: as_login(db.url(), SERVICE) }
}

/// The URL with another user.
fn as_login(url: &str, user: &str) -> String {
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let place = rest.split_once('@').map_or(rest, |(_, place)| place);
    format!("{scheme}://{user}:{PASSWORD}@{place}")
}
