use std::{io, net::SocketAddr};

use anyhow::anyhow;
use tokio::net::TcpListener;

/// Binds the port of a configuration key.
///
/// # Errors
/// One line that names the key and the address.
pub(crate) async fn bind(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let problem = if error.kind() == io::ErrorKind::AddrInUse {
            "address already in use".to_owned()
        } else {
            error.to_string()
        };
        anyhow!("cannot listen on {key} {address}: {problem}")
    })
}
