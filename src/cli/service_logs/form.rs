//! What a line of a service's log looks like.

use owo_colors::OwoColorize;
use serde_json::json;

use super::merged::{Item, What};
use crate::cli::args::StreamChoice;
use crate::cli::error::CliError;
use crate::cli::screen::Screen;
use crate::event::Stream;
use crate::runtime::log_lines::LogEntry;
use crate::words::visible;

/// How a log is printed.
pub(super) struct Form {
    /// Of the service.
    pub(super) name: String,
    pub(super) stream: Option<StreamChoice>,
    pub(super) shape: Shape,
    /// Lines say which replica they are of.
    pub(super) prefix: bool,
    pub(super) colour: bool,
}

/// What a line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// An object a line.
    Json,
    /// As written, also what is no UTF-8: a file cannot be steered.
    Raw,
    /// What could steer a terminal is made visible.
    Visible,
}

impl Form {
    pub(super) fn wants(&self, item: &Item) -> bool {
        let What::Entry(entry) = &item.what else { return true };
        match self.stream {
            None => true,
            Some(StreamChoice::Stdout) => entry.stream() == Stream::Stdout,
            Some(StreamChoice::Stderr) => entry.stream() == Stream::Stderr,
        }
    }

    /// Returns whether somebody still reads.
    pub(super) fn print(&self, item: &Item, screen: Screen) -> Result<bool, CliError> {
        let mut line = self.line(item);
        line.push(b'\n');
        screen.bytes(&[&line])
    }

    pub(super) fn line(&self, item: &Item) -> Vec<u8> {
        let Item { at, from, what } = item;
        if self.shape == Shape::Json {
            let mut value = json!({
                "at": at, "release": from.number, "replica": from.replica, "start": from.start,
            });
            match what {
                What::Started(said) => value["started"] = said.as_str().into(),
                What::Entry(entry) => {
                    value["stream"] = json!(entry.stream());
                    value["text"] = entry.text().into();
                }
            }
            return value.to_string().into_bytes();
        }
        let mut line = match what {
            What::Started(said) => return self.dim(&format!("— {said} —")).into_bytes(),
            What::Entry(_) if !self.prefix => Vec::new(),
            What::Entry(_) => self.dim(&format!("{}[{}] | ", self.name, from.replica)).into_bytes(),
        };
        match what {
            What::Entry(LogEntry::Line { bytes, .. }) if self.shape == Shape::Raw => {
                line.extend_from_slice(bytes);
            }
            What::Entry(entry) => line.extend_from_slice(visible(&entry.text()).as_bytes()),
            What::Started(_) => {}
        }
        line
    }

    fn dim(&self, text: &str) -> String {
        if self.colour { text.dimmed().to_string() } else { text.to_owned() }
    }
}
