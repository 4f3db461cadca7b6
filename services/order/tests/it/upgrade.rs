//! Two versions and one database. `rehearsal-migrations` are what the next version adds; a build
//! with the feature `rehearsal` is that version.

#[cfg(feature = "rehearsal")]
mod the_next_version {
    use portolan_order::OrderProcess;
    use portolan_runtime::{CheckReport, Service as _, Status};
    use portolan_testkit::{context, eventually};

    use crate::support::{Bench, PATIENCE};

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "awaited before the end")]
    async fn waits_unready_for_its_schema_and_says_so_then_serves() {
        // What this version has released is what the next one finds.
        let released = sqlx::migrate!();
        let bench = Bench::with_schema(&released, serde_json::json!({}), 0).await;
        let ctx = context();
        let serving = tokio::spawn(OrderProcess::serve(bench.config_of(60), ctx.clone()));
        let reason = eventually(PATIENCE, "a reason for not being ready", async || {
            assert!(!serving.is_finished(), "it waits");
            match ctx.readiness.report().checks.get("database")? {
                CheckReport::Failed { reason } if reason.contains("needs") => Some(reason.clone()),
                CheckReport::Failed { .. } | CheckReport::Ok => None,
            }
        })
        .await;
        assert!(reason.contains("29990101000001") && reason.contains("migrate"), "{reason}");
        assert_eq!(ctx.readiness.report().status, Status::Unready);

        OrderProcess::migrate(bench.config_of(60), context()).await.unwrap();
        serving.await.unwrap().unwrap();
        bench.adopt(ctx).place("alice", "k1").await.unwrap();
    }
}

#[cfg(not(feature = "rehearsal"))]
mod this_version {
    use portolan_order::{MIGRATOR, OrderProcess};
    use portolan_runtime::{Service as _, Status};
    use portolan_testkit::{context, eventually};
    use sqlx::migrate::Migrator;

    use crate::support::{Bench, PATIENCE};

    static NEXT: Migrator =
        Migrator { ignore_missing: true, ..sqlx::migrate!("./rehearsal-migrations") };

    #[tokio::test]
    async fn goes_on_while_the_next_ones_schema_comes_and_can_start_and_migrate_on_it() {
        let bench = Bench::with_schema(&MIGRATOR, serde_json::json!({}), 1).await;
        let before = bench.place("alice", "k1").await.unwrap().order.unwrap();
        NEXT.run(bench.pool()).await.unwrap();
        let after = bench.place("alice", "k2").await.unwrap().order.unwrap();

        // A deployment that is rolled back migrates first, to what is there already.
        OrderProcess::migrate(bench.config_of(5), context()).await.unwrap();
        let ctx = context();
        OrderProcess::serve(bench.config_of(5), ctx.clone()).await.unwrap();
        eventually(PATIENCE, "the new process is ready", async || {
            (ctx.readiness.report().status == Status::Ready).then_some(())
        })
        .await;
        let bench = bench.adopt(ctx);
        bench.place("alice", "k3").await.unwrap();
        for order in [before, after] {
            assert_eq!(bench.get(&order.id).await.user_id, "alice");
        }
        let unused = "SELECT count(*) FROM orders WHERE delivery_note IS NULL";
        assert_eq!(bench.count(unused).await, 3);
    }
}
