//! The topics of the shop and what they must be like. Whoever makes them (the app host, the
//! cluster's job) takes it from here.

use portolan_proto::{TOPICS, Topic};

use crate::handler::Group;

/// The partitions of every topic, unless a deployment is configured otherwise from the start.
pub const PARTITIONS: usize = 12;

/// Kafka's settings of every topic. Both are tied to how long the inboxes remember: a week,
/// dropped by the day.
pub const SETTINGS: [(&str, &str); 2] = [("retention.ms", "604800000"), ("segment.ms", "86400000")];

/// The names of the consumer groups, one for each service, which also name the dead-letter topics.
pub const GROUPS: [&str; 4] = ["order", "inventory", "payment", "notification"];

/// The headers that a dead letter has besides those of its record: who could not apply it, why in a
/// word and exactly, and where it stood.
pub const DEAD_LETTER_HEADERS: [&str; 6] =
    ["dlq_group", "dlq_reason", "dlq_detail", "dlq_topic", "dlq_partition", "dlq_offset"];

/// The name that a group has in Kafka.
pub fn group_id(group: &str) -> String {
    format!("portolan.{group}")
}

/// The names of all topics, without a deployment's prefix.
pub fn names() -> Vec<String> {
    let events = TOPICS.iter().map(|topic| topic.name().to_owned());
    events.chain(GROUPS.iter().map(|group| dead_letter_topic(group))).collect()
}

/// The dead-letter topic of a group, without the deployment's prefix.
pub fn dead_letter_topic(group: &str) -> String {
    format!("portolan.dlq.{group}.v1")
}

/// The topics that a service reads and writes: those that it consumes, its own (a service's group
/// and topic have the service's name), and that of its dead letters. It may not even see others.
pub(crate) fn used(group: Group, consumed: &[Topic]) -> Vec<String> {
    let own = format!("/portolan/{}", group.name);
    let mut names: Vec<String> = TOPICS
        .iter()
        .filter(|topic| consumed.contains(topic) || topic.source() == own)
        .map(|topic| topic.name().to_owned())
        .collect();
    names.push(dead_letter_topic(group.name));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_needs_what_it_reads_what_it_writes_and_its_dead_letters() {
        let payment = Group { id: 3, name: "payment" };
        let expected = [
            "portolan.order.v1",
            "portolan.inventory.v1",
            "portolan.payment.v1",
            "portolan.dlq.payment.v1",
        ];
        assert_eq!(used(payment, &[Topic::Inventory, Topic::Order]), expected);
    }
}
