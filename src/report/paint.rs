//! Colour, when the caller says that the place can show it. Everything is understandable without.

use owo_colors::OwoColorize;

/// What a colour means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tint {
    /// No colour.
    Plain,
    /// Green: done.
    Good,
    /// Red: failed.
    Bad,
    /// Yellow: a warning, something kept.
    Warn,
    /// Cyan: a hint, what to do next.
    Hint,
    /// Dim: reused, beside the point.
    Dim,
}

/// Paints or does not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    /// Whether colours can be shown.
    pub(super) colour: bool,
}

impl Paint {
    pub(super) fn with(self, tint: Tint, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        match tint {
            Tint::Plain => text.to_owned(),
            Tint::Good => text.green().to_string(),
            Tint::Bad => text.red().to_string(),
            Tint::Warn => text.yellow().to_string(),
            Tint::Hint => text.cyan().to_string(),
            Tint::Dim => text.dimmed().to_string(),
        }
    }
}

/// A task's state for people.
pub(super) fn state_word(state: &str) -> &str {
    if state == "rolling_out" { "rolling out" } else { state }
}

/// The sign and the colour of a task's state.
pub(super) fn state_sign(state: &str) -> (&'static str, Tint) {
    match state {
        "done" => ("✓", Tint::Good),
        "reused" => ("↺", Tint::Dim),
        "failed" => ("✗", Tint::Bad),
        "running" | "rolling_out" => ("▶", Tint::Plain),
        "kept" => ("=", Tint::Warn),
        "retrying" => ("↻", Tint::Warn),
        "cancelled" => ("■", Tint::Warn),
        "blocked" => ("⊘", Tint::Warn),
        "skipped" => ("–", Tint::Dim),
        _ => ("·", Tint::Dim),
    }
}
