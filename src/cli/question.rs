//! Asks the person at the terminal.

use std::io::{BufRead, IsTerminal};

use super::screen::to_stderr;

/// Whether somebody is there to be asked.
pub(crate) fn can_be_asked() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks on stderr until a line is written; everything but `y` and `yes` is no.
pub(crate) fn yes(question: &str) -> std::io::Result<bool> {
    to_stderr(&format!("{question} [y/N] "));
    let answer = tokio::task::block_in_place(|| {
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).map(|_| answer)
    })?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
