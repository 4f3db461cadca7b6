use std::{
    net::TcpListener,
    sync::atomic::{AtomicU32, Ordering},
};

/// Below the ports that the system hands out for outgoing connections: a process that is killed
/// and started again must find its port free.
const FIRST: u32 = 12_000;
const COUNT: u32 = 8_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port on the loopback interface that nobody listens on and no other caller gets.
pub fn free_port() -> u16 {
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(step < COUNT, "no port is free");
        let port = FIRST + (std::process::id().wrapping_mul(101) + step) % COUNT;
        let port = u16::try_from(port).expect("ports fit");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
