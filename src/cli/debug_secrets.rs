//! A shell that is handed secrets: in variables, and in files that are gone with the shell.

use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitStatus};

use fs_err::os::unix::fs::OpenOptionsExt;
use tokio::signal::unix::{SignalKind, signal};

use super::exit::Exit;
use crate::secret::HandedSecret;
use crate::workspace::remove_folder;

/// Runs a shell that is handed secrets; what was written for it is removed afterwards. `place` says where the shell sees a file.
pub(super) fn with_secrets(
    shell: &mut Command,
    scratch: &Path,
    secrets: &[HandedSecret],
    place: &dyn Fn(&str) -> String,
) -> std::io::Result<Exit> {
    // Ctrl-C is for what runs in the shell; this process has to outlive it.
    let _interrupts = signal(SignalKind::interrupt())?;
    let ended = run_with_secrets(shell, scratch, secrets, place);
    remove_folder(scratch)?;
    Ok(if ended?.success() { Exit::Done } else { Exit::Failed })
}

fn run_with_secrets(
    shell: &mut Command,
    scratch: &Path,
    secrets: &[HandedSecret],
    place: &dyn Fn(&str) -> String,
) -> std::io::Result<ExitStatus> {
    for secret in secrets {
        let value = if secret.file {
            write_secret(scratch, secret)?;
            place(&secret.variable)
        } else {
            secret.value.reveal().to_owned()
        };
        shell.env(&secret.variable, value);
    }
    tokio::task::block_in_place(|| shell.status())
}

/// Puts a secret into a file of this user alone.
fn write_secret(scratch: &Path, secret: &HandedSecret) -> std::io::Result<()> {
    let path = scratch.join(&secret.variable);
    let mut options = fs_err::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(secret.value.reveal().as_bytes())
}
