/// Whether the same statement may succeed later without any change: failures of the connection,
/// an exhausted pool, and the SQLSTATE classes 08 (connection), 40 (rollback: deadlock,
/// serialization), 53 (resources), 55 (object in use: lock timeout) and 57 (operator: shutdown,
/// cancelled statement). Postgres documentation, appendix A.
pub fn is_transient(error: &sqlx::Error) -> bool {
    if let sqlx::Error::Database(error) = error {
        let code = error.code().unwrap_or_default();
        return ["08", "40", "53", "55", "57"].iter().any(|class| code.starts_with(class));
    }
    matches!(
        error,
        sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed
    )
}
