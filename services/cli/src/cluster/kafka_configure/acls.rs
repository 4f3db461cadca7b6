//! Access control lists. Every operation is written out; nobody is allowed to create anything.

use std::collections::BTreeSet;

use kafka_protocol::{
    messages::{
        CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest,
        create_acls_request::AclCreation, delete_acls_request::DeleteAclsFilter,
    },
    protocol::StrBytes,
};
use tokio::time::Instant;

use super::{NEWS_TRAVELS, PAUSE, config::Principal, connection::Connection, error::KafkaError};

// Kafka's numbers: org.apache.kafka.common.{resource,acl}.
const ANY: i8 = 1;
const TOPIC: i8 = 2;
const GROUP: i8 = 3;
const LITERAL: i8 = 3;
const READ: i8 = 3;
const WRITE: i8 = 4;
const DESCRIBE: i8 = 8;
const ALLOW: i8 = 3;
const EVERY_HOST: &str = "*";

/// One access rule, as Kafka stores it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rule {
    resource: i8,
    name: String,
    pattern: i8,
    principal: String,
    host: String,
    operation: i8,
    permission: i8,
}

/// What there was to do.
#[derive(Debug)]
pub(super) struct Changes {
    pub(super) wanted: usize,
    pub(super) added: usize,
    pub(super) removed: usize,
}

/// Makes the rules of each principal exactly those that are configured. New rules come before old
/// ones go, so that nobody loses in between what they may have.
///
/// # Errors
/// Kafka refuses, or does not answer.
pub(super) async fn bring_up_to_date(
    kafka: &mut Connection,
    principals: &[Principal],
) -> Result<Changes, KafkaError> {
    let wanted: BTreeSet<Rule> = principals.iter().flat_map(rules).collect();
    let found = existing(kafka, principals).await?;
    let missing: Vec<&Rule> = wanted.difference(&found).collect();
    let extra: Vec<&Rule> = found.difference(&wanted).collect();
    create(kafka, &missing).await?;
    delete(kafka, &extra).await?;
    until_heard(kafka, principals, &wanted).await?;
    Ok(Changes { wanted: wanted.len(), added: missing.len(), removed: extra.len() })
}

/// The controller decides about rules, and the brokers hear of it a moment later: whoever waits
/// for this command wants to use them.
async fn until_heard(
    kafka: &mut Connection,
    principals: &[Principal],
    wanted: &BTreeSet<Rule>,
) -> Result<(), KafkaError> {
    let deadline = Instant::now() + NEWS_TRAVELS;
    while existing(kafka, principals).await? != *wanted {
        if Instant::now() > deadline {
            let problem = "the broker has not heard of the access rules".to_owned();
            return Err(KafkaError::Protocol(problem));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// What the configuration says. Writing with an idempotent producer needs nothing more since
/// Kafka 2.8 (KIP-679).
fn rules(principal: &Principal) -> Vec<Rule> {
    let rule = |resource, name: &String, operation| Rule {
        resource,
        name: name.clone(),
        pattern: LITERAL,
        principal: full_name(principal),
        host: EVERY_HOST.to_owned(),
        operation,
        permission: ALLOW,
    };
    let both = |resource, names: &BTreeSet<String>, operation| -> Vec<Rule> {
        let pair = |name| [rule(resource, name, operation), rule(resource, name, DESCRIBE)];
        names.iter().flat_map(pair).collect()
    };
    [
        both(TOPIC, &principal.produce, WRITE),
        both(TOPIC, &principal.consume, READ),
        both(GROUP, &principal.groups, READ),
    ]
    .concat()
}

fn full_name(principal: &Principal) -> String {
    format!("User:{}", principal.name)
}

/// The rules of all these principals, as the broker knows them.
async fn existing(
    kafka: &mut Connection,
    principals: &[Principal],
) -> Result<BTreeSet<Rule>, KafkaError> {
    let mut rules = BTreeSet::new();
    for principal in principals {
        rules.extend(rules_of(kafka, principal).await?);
    }
    Ok(rules)
}

async fn rules_of(kafka: &mut Connection, principal: &Principal) -> Result<Vec<Rule>, KafkaError> {
    let request = DescribeAclsRequest::default()
        .with_resource_type_filter(ANY)
        .with_resource_name_filter(None)
        .with_pattern_type_filter(ANY)
        .with_principal_filter(Some(text(&full_name(principal))))
        .with_host_filter(None)
        .with_operation(ANY)
        .with_permission_type(ANY);
    let answer = kafka.call(&request).await?;
    let detail = answer.error_message.as_deref();
    KafkaError::check(answer.error_code, detail, "describe access rules")?;
    let mut rules = Vec::new();
    for resource in &answer.resources {
        rules.extend(resource.acls.iter().map(|acl| Rule {
            resource: resource.resource_type,
            name: resource.resource_name.to_string(),
            pattern: resource.pattern_type,
            principal: acl.principal.to_string(),
            host: acl.host.to_string(),
            operation: acl.operation,
            permission: acl.permission_type,
        }));
    }
    Ok(rules)
}

async fn create(kafka: &mut Connection, rules: &[&Rule]) -> Result<(), KafkaError> {
    if rules.is_empty() {
        return Ok(());
    }
    let creation = |rule: &&Rule| {
        AclCreation::default()
            .with_resource_type(rule.resource)
            .with_resource_name(text(&rule.name))
            .with_resource_pattern_type(rule.pattern)
            .with_principal(text(&rule.principal))
            .with_host(text(&rule.host))
            .with_operation(rule.operation)
            .with_permission_type(rule.permission)
    };
    let creations = rules.iter().map(creation).collect();
    let answer = kafka.call(&CreateAclsRequest::default().with_creations(creations)).await?;
    for (result, rule) in answer.results.iter().zip(rules) {
        let what = format!("let {} use {}", rule.principal, rule.name);
        KafkaError::check(result.error_code, result.error_message.as_deref(), &what)?;
    }
    Ok(())
}

async fn delete(kafka: &mut Connection, rules: &[&Rule]) -> Result<(), KafkaError> {
    if rules.is_empty() {
        return Ok(());
    }
    let filter = |rule: &&Rule| {
        DeleteAclsFilter::default()
            .with_resource_type_filter(rule.resource)
            .with_resource_name_filter(Some(text(&rule.name)))
            .with_pattern_type_filter(rule.pattern)
            .with_principal_filter(Some(text(&rule.principal)))
            .with_host_filter(Some(text(&rule.host)))
            .with_operation(rule.operation)
            .with_permission_type(rule.permission)
    };
    let filters = rules.iter().map(filter).collect();
    let answer = kafka.call(&DeleteAclsRequest::default().with_filters(filters)).await?;
    for (result, rule) in answer.filter_results.iter().zip(rules) {
        let what = format!("take {} from {}", rule.name, rule.principal);
        KafkaError::check(result.error_code, result.error_message.as_deref(), &what)?;
        for matching in &result.matching_acls {
            KafkaError::check(matching.error_code, matching.error_message.as_deref(), &what)?;
        }
    }
    Ok(())
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_service_may_write_its_topics_read_others_and_join_its_group_and_nothing_else() {
        let principal = Principal {
            name: "order".to_owned(),
            produce: names(&["a"]),
            consume: names(&["a", "b"]),
            groups: names(&["g"]),
        };
        let rules: BTreeSet<Rule> = rules(&principal).into_iter().collect();
        let short: Vec<(i8, &str, i8)> =
            rules.iter().map(|rule| (rule.resource, rule.name.as_str(), rule.operation)).collect();
        let expected = [
            (TOPIC, "a", READ),
            (TOPIC, "a", WRITE),
            (TOPIC, "a", DESCRIBE),
            (TOPIC, "b", READ),
            (TOPIC, "b", DESCRIBE),
            (GROUP, "g", READ),
            (GROUP, "g", DESCRIBE),
        ];
        assert_eq!(short, expected);
        let exact = |rule: &Rule| (rule.pattern, rule.permission) == (LITERAL, ALLOW);
        assert!(rules.iter().all(|rule| exact(rule) && rule.principal == "User:order"));
    }
}
