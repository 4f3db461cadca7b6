//! Database logins: PostgreSQL's side, which is SQL ([`groups`]), and Vault's ([`engine`]).
//!
//! Each database has three roles without login, which have all the rights. The logins that Vault
//! makes are members of one and have none of their own, so that dropping one is a row less and
//! never fails. The statements are not checked at compile time: they make the very databases, and
//! names cannot be parameters in them.

mod engine;
mod groups;

pub(super) use engine::is_ours;
