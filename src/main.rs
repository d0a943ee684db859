//! The `flowrun` program: a process monitor when flowrun itself asks for one, else the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == flowrun::runtime::monitor::COMMAND) {
        return flowrun::runtime::monitor::main();
    }
    flowrun::cli::main()
}
