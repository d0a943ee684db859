//! What belongs to the product but not to this version.

use super::error::CliError;

/// The one error of a command that is not available yet.
pub(crate) fn refuse(command: &str) -> CliError {
    let help = match command {
        "schedule" => "run `flowrun apply --overlap skip` from cron",
        _ => {
            "see `flowrun --help` for what there is; this version runs batch stages on this machine"
        }
    };
    CliError::NotAvailable { what: format!("`flowrun {command}`"), help: Some(help.into()) }
}
