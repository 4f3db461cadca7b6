//! The rights that a service has in a deployment: everything in its database belongs to one role,
//! and the service is a member of another that may read and write, and nothing else.
#![expect(clippy::unwrap_used, reason = "a test's preparations must succeed")]

use portolan_runtime::DatabaseConfig;
use portolan_testkit::TestDb;
use sqlx::{AssertSqlSafe, Executor as _};

pub(crate) const OWNER: &str = "portolan_test_owner";
pub(crate) const RUNTIME: &str = "portolan_test_runtime";
pub(crate) const READER: &str = "portolan_test_reader";

/// Makes the roles where they are missing, and the database theirs.
pub(crate) async fn divide(db: &TestDb) {
    for role in [OWNER, RUNTIME, READER] {
        // Another test may be faster.
        let create = format!(
            "DO $$ BEGIN CREATE ROLE {role} NOLOGIN;
             EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        );
        db.pool().execute(AssertSqlSafe(create)).await.unwrap();
    }
    let name = db.url().rsplit('/').next().unwrap();
    let name = name.split('?').next().unwrap();
    let grants = format!(
        "ALTER DATABASE {name} OWNER TO {OWNER};
         ALTER SCHEMA public OWNER TO {OWNER};
         REVOKE ALL ON DATABASE {name} FROM PUBLIC;
         REVOKE ALL ON SCHEMA public FROM PUBLIC;
         GRANT CONNECT ON DATABASE {name} TO {RUNTIME}, {READER};
         GRANT USAGE ON SCHEMA public TO {RUNTIME}, {READER};
         ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public
             GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {RUNTIME};
         ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public
             GRANT USAGE, SELECT ON SEQUENCES TO {RUNTIME};
         ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public
             GRANT EXECUTE ON FUNCTIONS TO {RUNTIME};
         ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public
             GRANT SELECT ON TABLES TO {READER};"
    );
    db.pool().execute(AssertSqlSafe(grants)).await.unwrap();
}

/// Leads to the database as a member of `role`, with no other rights.
pub(crate) fn config(db: &TestDb, role: &str) -> DatabaseConfig {
    let separator = if db.url().contains('?') { '&' } else { '?' };
    DatabaseConfig::new(format!("{}{separator}options[role]={role}", db.url()))
}
