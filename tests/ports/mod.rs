//! Ports of the tests: no test gets what another one has, nor what the system hands out by itself.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// A port of loopback that nobody listens on, and that nobody else gets: connections are refused until its test listens.
///
/// Below the range that the system hands out by itself, different for every test of a process; other processes begin elsewhere.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = u16::try_from(std::process::id() % 600).unwrap() * 10;
    loop {
        let port = 14_000 + (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % 6_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
