//! The server: one process per home that keeps the gateway, owns the services and answers over a Unix socket. `client` is how
//! every other process of flowrun reaches it. Knows no clap and no terminal.
//!
//! Reading order: `protocol`, `birth` (who may be the server), `log`, `process` (its life), `connection` and `requests`
//! (what it answers); then the other side: `link`, `start`, `client`.

mod birth;
pub mod client;
mod connection;
mod link;
mod log;
mod process;
mod protocol;
mod requests;
mod start;

pub use birth::{Birth, BirthError};
pub use process::{Parts, ServerError, serve};
pub use protocol::{About, WorksWith};
pub use start::is_running;

use crate::runtime::door::DoorFiles;

/// The server's files in its home.
const FILES: DoorFiles =
    DoorFiles { lock: "server.lock", socket: "server.sock", log: "server.log" };
