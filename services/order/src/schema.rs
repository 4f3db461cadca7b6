//! The schema of the order database.

#[cfg(feature = "rehearsal")]
use std::{borrow::Cow, sync::LazyLock};

use sqlx::migrate::Migrator;

/// The tables of the order database, beside those of the messaging crate. What a later version has
/// added is left alone, so that a deployment can be rolled back.
#[cfg(not(feature = "rehearsal"))]
pub static MIGRATOR: Migrator = Migrator { ignore_missing: true, ..sqlx::migrate!() };

/// The tables of the order database in "the next version", beside those of the messaging crate:
/// those of this version, and `rehearsal-migrations`.
#[cfg(feature = "rehearsal")]
pub static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let (released, next) = (sqlx::migrate!(), sqlx::migrate!("./rehearsal-migrations"));
    let migrations = released.iter().chain(next.iter()).cloned().collect();
    Migrator { migrations: Cow::Owned(migrations), ignore_missing: true, ..released }
});
