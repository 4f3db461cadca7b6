use metrics::{counter, describe_counter};

const REFUSED: &str = "portolan_rate_limited_total";

/// Explains the metrics to those who read them.
pub(crate) fn describe() {
    describe_counter!(REFUSED, "Requests refused because a budget was used up, by policy.");
}

pub(super) fn refused(policy: &'static str) {
    counter!(REFUSED, "policy" => policy).increment(1);
}
