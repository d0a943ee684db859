//! The log lines that a failure carries itself.

use crate::event::Failure;
use crate::plan::causes::failure_log;

/// So many are shown.
const SHOWN: usize = 20;

/// The last lines of the log that a failure carries, raw: of the tool that built the environment, or of the release that did not
/// go live.
pub(super) fn failure_lines(failure: &Failure) -> Vec<&str> {
    let lines: Vec<&str> = match failure {
        Failure::Rollout { log, .. } => log.iter().map(String::as_str).collect(),
        other => failure_log(other).map(|log| log.lines().collect()).unwrap_or_default(),
    };
    lines[lines.len().saturating_sub(SHOWN)..].to_vec()
}
