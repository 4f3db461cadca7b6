//! A client for the HTTP interface of Vault (or of `OpenBao`, which has the same): the server
//! itself ([`Server`]), and what it lets a logged-in caller do ([`Session`]).
//!
//! No token and no secret is in an error: an error has the method, the path and what Vault says.

mod error;
mod server;
mod session;
#[cfg(test)]
mod tests;

pub(crate) use error::VaultError;
pub(crate) use server::{Endpoint, Keys, Server};
pub(crate) use session::{Login, Session};
