//! What can be done to a shop besides killing its processes.

use std::path::PathBuf;

use sqlx::{AssertSqlSafe, PgPool};

use crate::{Program, Service, Shop, program};

impl Shop {
    /// Takes a service's database away: connections are cut and none is accepted.
    pub async fn close_database(&self, service: Service) {
        let name = self.database_name(service);
        let admin = self.admin(service);
        run(admin, format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
        let cut =
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1";
        sqlx::query(cut).bind(&name).execute(admin).await.expect("connections can be cut");
    }

    /// Gives it back.
    pub async fn open_database(&self, service: Service) {
        let name = self.database_name(service);
        run(self.admin(service), format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await;
    }

    /// Makes the auditor look for topics that do not exist.
    pub fn break_topics(&mut self) {
        self.topic_prefix.push_str("nothing.");
    }

    fn database_name(&self, service: Service) -> String {
        let url = self.database_url(service);
        let path = url.split('?').next().unwrap_or_default();
        path.rsplit('/').next().expect("a database's name").to_owned()
    }

    /// A connection to the server that does not depend on this service's database.
    fn admin(&self, service: Service) -> &PgPool {
        let other = if service == Service::Psp { Service::Order } else { Service::Psp };
        self.database(other)
    }

    /// The program of a service with a changed configuration file, not started.
    pub fn variant(
        &self,
        service: Service,
        name: &str,
        change: impl Fn(&str) -> String,
    ) -> Program {
        let text = std::fs::read_to_string(self.config_file(service, 0));
        let text = change(&text.expect("a configuration file"));
        let file: PathBuf = self.scratch.write(&format!("{}-{name}.toml", service.name()), &text);
        let binary = program(&format!("portolan-{}", service.name()));
        Program::new(&format!("{}-{name}", service.name()), binary, &[], file)
    }
}

async fn run(pool: &PgPool, sql: String) {
    sqlx::query(AssertSqlSafe(sql)).execute(pool).await.expect("a statement of an administrator");
}
