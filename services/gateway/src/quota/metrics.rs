use metrics::{counter, describe_counter, describe_gauge, gauge};

const NOT_ASKED: &str = "portolan_quota_unavailable_total";
const UP: &str = "portolan_quota_server_up";

/// Explains the metrics to those who read them.
pub(crate) fn describe() {
    describe_counter!(
        NOT_ASKED,
        "Requests that the quota's server did not count: reads passed, writes were counted here."
    );
    describe_gauge!(UP, "1 while the quota's server answers, else 0.");
}

pub(super) fn not_asked(class: &'static str) {
    counter!(NOT_ASKED, "class" => class).increment(1);
}

pub(super) fn server(address: &str, up: bool) {
    gauge!(UP, "server" => address.to_owned()).set(if up { 1.0 } else { 0.0 });
}
