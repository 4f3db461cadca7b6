use std::net::TcpListener;

use portolan_runtime::Context;

/// A runtime context with a service port of its own on the loopback interface (see
/// `Context::local_addr`), real time and real ids. Must be called within a tokio runtime.
pub fn context() -> Context {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.set_nonblocking(true).expect("a socket can be non-blocking");
    let listener = tokio::net::TcpListener::from_std(listener).expect("a tokio runtime");
    Context::new("test", Some(listener))
}
