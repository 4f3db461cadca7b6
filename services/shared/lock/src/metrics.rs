use std::time::Duration;

use crate::LockError;

const ACQUISITIONS: &str = "portolan_lock_acquisitions_total";
const SECONDS: &str = "portolan_lock_acquire_seconds";
const UP: &str = "portolan_lock_master_up";

pub(crate) fn describe() {
    metrics::describe_counter!(
        ACQUISITIONS,
        "Attempts to take a customer's lock by outcome; unavailable ones go on without it."
    );
    metrics::describe_histogram!(SECONDS, "How long taking a customer's lock took, or not.");
    metrics::describe_gauge!(UP, "1 while the lock's master answers, else 0.");
}

pub(crate) fn acquisition<T>(outcome: &Result<T, LockError>, took: Duration) {
    let outcome = match outcome {
        Ok(_) => "acquired",
        Err(LockError::Busy { .. }) => "busy",
        Err(LockError::Unavailable) => "unavailable",
    };
    metrics::counter!(ACQUISITIONS, "outcome" => outcome).increment(1);
    metrics::histogram!(SECONDS, "outcome" => outcome).record(took.as_secs_f64());
}

pub(crate) fn instance(address: &str, up: bool) {
    metrics::gauge!(UP, "master" => address.to_owned()).set(if up { 1.0 } else { 0.0 });
}
