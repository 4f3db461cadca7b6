//! HTTP edges: serving an axum router, and the client for calls to others.

mod client;
mod server;

pub use client::{client, mesh_client};
pub use server::{serve, serve_mesh};
