//! What is the gateway's own: reading requests, problem documents, identity, the mapping of the
//! services' answers and the description of the interface. The services behind it are a double
//! that answers what it is told, over real gRPC; the whole path is tested end to end elsewhere.

#![expect(clippy::unwrap_used, reason = "tests")]

mod bad_input;
mod breaker;
mod browsers;
mod dead_letters;
mod description;
mod double;
mod events;
mod identity;
mod mapping;
mod orders;
mod rates;
mod rotation;
mod support;
