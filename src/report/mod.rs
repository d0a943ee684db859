//! What people and machines see of a run: live terminal (indicatif), plain lines, JSON, and views of rows. Knows only events and rows.
//!
//! Whatever comes from outside (log lines, paths, commit names) passes [`crate::words::visible`] before it meets a terminal. Nothing here reads a
//! clock, the environment or the terminal's abilities: times, zone, width and colour come in as values.

mod background;
mod diff;
mod failure_lines;
mod home_status;
mod json;
mod lines;
mod live;
mod moved;
mod paint;
mod release_diff;
mod releases;
mod runs;
mod secrets;
mod service_detail;
mod service_events;
mod service_status;
mod service_story;
mod services;
mod status;
mod story;
mod summary;
mod table;
mod tally;
mod task_status;
mod terminal;
#[cfg(test)]
mod testing;

pub use background::Background;
pub use diff::{RunSide, diff_json, diff_text};
pub use home_status::{HomeView, status_home, status_home_json};
pub use json::JsonLines;
pub use lines::{Lines, LinesOptions};
pub use moved::MovedBytes;
pub use release_diff::{release_diff_json, release_diff_text};
pub use releases::{releases_json, releases_text};
pub use runs::{commit_words, runs_json, runs_text};
pub use secrets::{secrets_json, secrets_text};
pub use service_detail::{status_service, status_service_json};
pub use service_status::{ServiceView, service_json};
pub use services::{KnownService, known_services, service_url};
pub use status::{Left, status_run, status_run_json};
pub use summary::{LiveService, summary};
pub use tally::Tally;
pub use terminal::Terminal;
