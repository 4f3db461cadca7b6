use std::{borrow::Cow, fmt};

/// Why a batch of records was not applied.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// The world was in the way: the same batch is tried again until it succeeds.
    #[error("not now")]
    Transient(#[source] anyhow::Error),
    /// The record itself can never be applied: it is found by bisection and dead-lettered.
    #[error("poison ({reason}): {detail}")]
    Poison {
        /// A stable word for the operator's list.
        reason: &'static str,
        /// What exactly; no personal data and no card tokens.
        detail: String,
    },
}

impl HandlerError {
    /// A record that can never be applied.
    pub fn poison(reason: &'static str, detail: impl Into<String>) -> Self {
        Self::Poison { reason, detail: detail.into() }
    }

    /// A (state, event) pair that cannot happen if everybody keeps the rules.
    pub fn impossible(state: impl fmt::Debug, event: &str) -> Self {
        Self::poison("impossible_transition", format!("{event} in state {state:?}"))
    }

    /// Somebody else changed the rows in between, so that a row count is not what it must be.
    pub fn conflict(what: &'static str) -> Self {
        Self::Transient(anyhow::anyhow!("row count mismatch: {what}"))
    }

    /// Checks a row count.
    ///
    /// # Errors
    /// [`HandlerError::conflict`] when it is not the expected one.
    pub fn expect_rows(expected: usize, actual: u64, what: &'static str) -> Result<(), Self> {
        if u64::try_from(expected).is_ok_and(|expected| expected == actual) {
            Ok(())
        } else {
            Err(Self::conflict(what))
        }
    }
}

impl From<sqlx::Error> for HandlerError {
    /// Data exceptions (class 22), integrity violations (23) and exceeded limits (54) are the
    /// record's fault and come back at every try, except the unique violation: that is a lost race
    /// on a new row. Everything else is the world's.
    fn from(error: sqlx::Error) -> Self {
        let state = error.as_database_error().and_then(|e| e.code().map(Cow::into_owned));
        match state.as_deref() {
            Some("23505") => Self::Transient(error.into()),
            Some(code) if ["22", "23", "54"].contains(&code.get(..2).unwrap_or_default()) => {
                Self::Poison { reason: "refused_by_database", detail: error.to_string() }
            }
            _ => Self::Transient(error.into()),
        }
    }
}
