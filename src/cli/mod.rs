//! Commands, settings, exit codes (clap). The only reader of the environment.

use std::process::ExitCode;

/// Runs the command line.
pub fn main() -> ExitCode {
    todo!()
}
