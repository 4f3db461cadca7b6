use std::{sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgPool},
};

use crate::{Check, Context};

const PING_INTERVAL: Duration = Duration::from_secs(1);
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts the task that pings the database each second and reports to the required check
/// `database` and the gauge `portolan_database_up`. The first ping is done before this returns.
pub async fn watch(ctx: &Context, pool: &PgPool) {
    watch_with(ctx, pool, ctx.readiness.register("database", true)).await;
}

pub(super) async fn watch_with(ctx: &Context, pool: &PgPool, check: Check) {
    metrics::describe_gauge!("portolan_database_up", "1 while the database answers, else 0.");
    let mut probe = Probe { pool: pool.clone(), connection: None };
    probe.report(&check).await;
    let soft = ctx.tasks.soft();
    ctx.tasks.spawn("database-watch", async move {
        let forever = async {
            loop {
                tokio::time::sleep(PING_INTERVAL).await;
                probe.report(&check).await;
            }
        };
        let _: Option<()> = soft.run_until_cancelled(forever).await;
        Ok(())
    });
}

/// Pings over a connection of its own: a pool that is merely busy must not look like a database
/// that is gone.
struct Probe {
    pool: PgPool,
    /// With how it was made: when that changes it is given up, like those of the pool.
    connection: Option<(Arc<PgConnectOptions>, PgConnection)>,
}

impl Probe {
    async fn report(&mut self, check: &Check) {
        let failure = match tokio::time::timeout(PING_TIMEOUT, self.ping()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(crate::one_line(&error)),
            Err(_) => Some("no answer to a ping within 2 s".to_owned()),
        };
        let up = if failure.is_none() { 1.0 } else { 0.0 };
        metrics::gauge!("portolan_database_up").set(up);
        match failure {
            None => check.ok(),
            Some(reason) => check.fail(reason),
        }
    }

    async fn ping(&mut self) -> Result<(), sqlx::Error> {
        // Taken out, so that a ping that fails or is given up never meets its connection again.
        let options = self.pool.connect_options();
        let mut connection = match self.connection.take() {
            Some((made, connection)) if Arc::ptr_eq(&made, &options) => connection,
            Some(_) | None => options.connect().await?,
        };
        connection.ping().await?;
        self.connection = Some((options, connection));
        Ok(())
    }
}
