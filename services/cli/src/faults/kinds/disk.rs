//! A database whose disk is full.
//!
//! The disk is a tmpfs of its own, made when it is first needed, to which one service's database is
//! moved as a tablespace. Its write-ahead log stays where it was: a full log disk stops the whole
//! server, which a restart shows already.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::chown,
    path::Path,
};

use anyhow::{Context as _, ensure};
use nix::unistd::{User, geteuid};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection};
use tokio::{process::Command, time::sleep};

use super::{
    super::{installation::Installation, schedule::Fault},
    postgres::admin,
};

const SIZE: &str = "size=256m";
const BALLAST: usize = 8 * 1024;

/// Fills the disk, waits, and frees it.
pub(super) async fn fill(shop: &Installation, fault: &Fault) -> anyhow::Result<()> {
    ensure!(geteuid().is_root(), "only root can mount a file system");
    let place = Installation::disk();
    let mut admin = admin(shop)?.connect().await?;
    if !place.exists() {
        mount(&place).await?;
        let space = format!("CREATE TABLESPACE small LOCATION '{}'", place.display());
        admin.execute(AssertSqlSafe(space)).await?;
    }
    move_to(&mut admin, &format!("portolan_{}", fault.target), "small").await?;
    admin.close().await?;
    let ballast = place.join("ballast");
    let full = File::create(&ballast).map(write_all_there_is);
    sleep(fault.lasts()).await;
    fs::remove_file(&ballast)?;
    full?;
    Ok(())
}

/// The only way to end a file system's space is to be told that there is none.
fn write_all_there_is(mut ballast: File) {
    while ballast.write_all(&[0; BALLAST]).is_ok() {}
}

async fn mount(place: &Path) -> anyhow::Result<()> {
    fs::create_dir(place)?;
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", SIZE, "portolan-faults"]).arg(place);
    ensure!(mount.status().await?.success(), "no file system can be mounted here");
    let user = User::from_name("postgres")?.context("there is no user postgres")?;
    chown(place, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    Ok(())
}

/// A database can be moved only while nobody is in it.
async fn move_to(admin: &mut PgConnection, database: &str, space: &str) -> sqlx::Result<()> {
    let there: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_database JOIN pg_tablespace ON pg_tablespace.oid = dattablespace
                        WHERE datname = $1 AND spcname = $2)",
    )
    .bind(database)
    .bind(space)
    .fetch_one(&mut *admin)
    .await?;
    if there {
        return Ok(());
    }
    let closed = format!("ALTER DATABASE {database} ALLOW_CONNECTIONS false");
    admin.execute(AssertSqlSafe(closed)).await?;
    sqlx::query("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1")
        .bind(database)
        .execute(&mut *admin)
        .await?;
    let moved = format!("ALTER DATABASE {database} SET TABLESPACE {space}");
    let moved = admin.execute(AssertSqlSafe(moved)).await;
    let open = format!("ALTER DATABASE {database} ALLOW_CONNECTIONS true");
    admin.execute(AssertSqlSafe(open)).await?;
    moved.map(|_| ())
}

/// Takes the disk away, if there is one; nobody may use it any more.
pub(in super::super) async fn unmount(place: &Path) -> anyhow::Result<()> {
    if !place.exists() {
        return Ok(());
    }
    let status = Command::new("umount").arg(place).status().await?;
    ensure!(status.success(), "{} is still in use", place.display());
    Ok(fs::remove_dir(place)?)
}
