//! The notification service against a real PostgreSQL, a real Kafka and a real SMTP server (a tiny
//! one, in `smtp`, that speaks as much of RFC 5321 as a client needs).

mod endings;
mod mails;
mod schema;
mod smtp;
mod support;
mod trouble;
