//! The process that holds running jobs, so that they outlive flowrun (ARCHITECTURE §3).

use std::process::ExitCode;

/// The hidden command under which the program becomes a monitor; checked before anything else is started.
pub const COMMAND: &str = "__monitor";

/// Runs the monitor until it has neither jobs nor a client.
pub fn main() -> ExitCode {
    todo!()
}
