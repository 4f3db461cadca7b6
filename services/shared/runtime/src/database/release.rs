//! What becomes of a connection between its use and its place in the pool.

use std::time::Duration;

use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tokio::time::{sleep, timeout};

use super::{access::statement_timeout, connect::ACQUIRE_TIMEOUT, rotate::Swaps};
use crate::one_line;

/// How much later than the statement must have ended its end may still be on its way.
const SILENCE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(1);

/// Makes a connection good for its next user, however the last one left it, and tells whether it
/// is. sqlx 0.9 would give it up for the error of a statement that was abandoned, and wait without
/// a limit for the server, over TLS even for one that has said everything: the place in the pool
/// would be lost with it (sqlx #4349).
pub(super) async fn settle(connection: &mut PgConnection, swaps: &Swaps) -> bool {
    let options = swaps.options();
    let longest = statement_timeout(&options).map(|statement| statement + SILENCE);
    let settled = timeout(longest.unwrap_or(Duration::MAX), answers(connection)).await;
    let Ok(answered) = settled else {
        *connection = anew(swaps).await;
        return true;
    };
    answered.is_ok()
}

/// Waits for the end of what was left undone. It may be an error, and the answers to the rollback
/// and to this question follow.
async fn answers(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    loop {
        match connection.ping().await {
            Err(sqlx::Error::Database(_)) => {}
            other => return other,
        }
    }
}

/// In place of one that nobody answers on any more, neither with data nor with its end: what is
/// left of it is closed without a word.
async fn anew(swaps: &Swaps) -> PgConnection {
    tracing::warn!("nothing is heard on a connection to the database, another one takes its place");
    loop {
        match timeout(ACQUIRE_TIMEOUT, swaps.options().connect()).await {
            Ok(Ok(connection)) => return connection,
            Ok(Err(error)) => tracing::debug!(error = one_line(&error), "no connection yet"),
            Err(_) => {}
        }
        sleep(RETRY).await;
    }
}
