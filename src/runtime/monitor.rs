//! The process that holds running jobs, so that they outlive flowrun (ARCHITECTURE §3).
//!
//! flowrun starts itself under [`COMMAND`] with the listening socket as stdin, the locked lock file as stdout and
//! `monitor.log` as stderr, and nothing else. One thread does everything here: what is asked on the connections, the children
//! that end, the bytes that they write. It ends when it has neither jobs nor a client.

mod client;
mod clock;
mod holder;
mod pipes;
pub(super) mod protocol;
mod spawn;
mod supervise;

use std::io::Write;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit};

use holder::Holder;

/// The hidden command under which the program becomes a monitor; checked before anything else is started.
pub const COMMAND: &str = "__monitor";

/// The argument that keeps the monitor from using control groups.
pub(super) const NO_CGROUPS: &str = "--no-cgroups";

/// Runs the monitor until it has neither jobs nor a client.
pub fn main() -> ExitCode {
    let cgroups = !std::env::args_os().any(|word| word == NO_CGROUPS);
    match run(cgroups) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // stderr is the monitor's log; there is nobody else to tell.
            writeln!(std::io::stderr(), "the monitor cannot work: {error}").unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

fn run(cgroups: bool) -> std::io::Result<()> {
    let Some((listener, lock)) = super::door::inherited()? else {
        return Err(std::io::Error::other("only flowrun itself starts a monitor"));
    };
    super::seal_inherited_descriptors();
    std::env::set_current_dir("/")?;
    // Fails only for a process group's leader, and such a monitor is on its own already.
    rustix::process::setsid().map(drop).unwrap_or_default();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let files = raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let served = local.block_on(&runtime, async {
        let holder = Holder::new(cgroups, files)?;
        client::serve(holder, tokio::net::UnixListener::from_std(listener)?).await
    });
    drop(lock);
    served
}

/// Lets this process have as many open files as it may, as each job takes five. Returns what jobs shall have.
fn raise_open_files() -> Rlimit {
    let before = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    // Not allowed to: fewer jobs fit, nothing else changes.
    rustix::process::setrlimit(Resource::Nofile, raised).unwrap_or_default();
    before
}
