//! What the words of a failed build tool mean.

use super::EnvironmentError;

/// How a build tool failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// No network, no answer, or no access: not the requirements' fault.
    Index,
    /// uv does not do what was asked; pip may.
    Unsupported,
    /// The tool refused the requirements, or a package did not build.
    Build,
}

const INDEX: &[&str] = &[
    "failed to fetch",
    "error sending request",
    "dns error",
    "failed to lookup address",
    "connection refused",
    "connection reset",
    "timed out",
    "network is unreachable",
    "no route to host",
    "name resolution",
    "newconnectionerror",
    "max retries exceeded",
    "could not connect",
    "tunnel connection failed",
    "invalid peer certificate",
    "certificate verify failed",
    "network connectivity is disabled",
    "proxyerror",
    "401 unauthorized",
    "403 forbidden",
    "401 client error",
    "403 client error",
    "502 bad gateway",
    "503 service unavailable",
];

const UNSUPPORTED: &[&str] = &[
    "error: unexpected argument",
    "unrecognized subcommand",
    "unexpected '-', expected",
    "unsupported option",
    "failed to inspect python interpreter",
    "querying python at",
    "error: unknown option",
];

/// Judges a failure by the last lines of a tool.
pub(super) fn judge(log: &str) -> Failed {
    let text = log.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(INDEX) {
        Failed::Index
    } else if says(UNSUPPORTED) {
        Failed::Unsupported
    } else {
        Failed::Build
    }
}

/// The error for a log.
pub(super) fn error(log: String) -> EnvironmentError {
    match judge(&log) {
        Failed::Index => EnvironmentError::Index { log },
        Failed::Unsupported | Failed::Build => EnvironmentError::Build { log },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_uv_and_pip() {
        for (log, meaning) in [
            (
                "error: Failed to fetch: `https://h/simple/six/`\n  Caused by: dns error",
                Failed::Index,
            ),
            ("WARNING: Retrying after connection broken by 'NewConnectionError('", Failed::Index),
            ("  × No solution found when resolving dependencies:", Failed::Build),
            ("ERROR: No matching distribution found for six==99", Failed::Build),
            ("error: unexpected argument '--x' found", Failed::Unsupported),
            ("error: Unexpected '-', expected '-c', '-e', '-r' or the start", Failed::Unsupported),
        ] {
            assert_eq!(judge(log), meaning, "{log}");
        }
    }
}
