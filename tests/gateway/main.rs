//! The gateway between raw sockets: what exactly reaches a backend, what exactly a client gets, and what a switch loses (nothing).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod answers;
mod limits;
#[path = "../ports/mod.rs"]
mod ports;
mod requests;
mod retries;
mod smuggling;
mod streams;
mod switching;
mod tunnels;
mod wire;
