//! What people and machines see of a run: live terminal (indicatif), plain lines, JSON, and views of rows. Knows only events and rows.
//!
//! Whatever comes from outside (log lines, paths, commit names) passes [`crate::words::visible`] before it meets a terminal. Nothing here reads a
//! clock, the environment or the terminal's abilities: times, zone, width and colour come in as values.

mod background;
mod diff;
mod json;
mod lines;
mod live;
mod paint;
mod runs;
mod status;
mod story;
mod summary;
mod table;
mod tally;
mod terminal;
#[cfg(test)]
mod testing;

pub use background::Background;
pub use diff::{RunSide, diff_json, diff_text};
pub use json::JsonLines;
pub use lines::{Lines, LinesOptions};
pub use runs::{commit_words, runs_json, runs_text};
pub use status::{status_home, status_home_json, status_run, status_run_json};
pub use summary::summary;
pub use tally::Tally;
pub use terminal::Terminal;
