//! The two streams: data goes to stdout, everything else to stderr. A reader that has gone is no error.

use std::io::{ErrorKind, IsTerminal, Write};

use owo_colors::{OwoColorize, Style};

use super::error::CliError;
use crate::words::{count, visible};

/// When colour is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ColourChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How much is said on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Loudness {
    /// Errors only.
    Quiet,
    /// As usual.
    #[default]
    Usual,
    /// Also what usually goes without saying.
    Verbose,
}

/// Where a command writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    /// Colour on stdout.
    pub(crate) colour_out: bool,
    /// Colour on stderr.
    pub(crate) colour_err: bool,
    /// How much is said.
    pub(crate) loudness: Loudness,
}

impl Screen {
    /// Decides about colour. `no_colour`: the variable `NO_COLOR` is set and not empty.
    pub(crate) fn new(choice: ColourChoice, no_colour: bool, loudness: Loudness) -> Self {
        let on = |terminal: bool| match choice {
            ColourChoice::Always => true,
            ColourChoice::Never => false,
            ColourChoice::Auto => terminal && !no_colour,
        };
        Self {
            colour_out: on(std::io::stdout().is_terminal()),
            colour_err: on(std::io::stderr().is_terminal()),
            loudness,
        }
    }

    /// Writes data to stdout and ends it with a newline. A reader that has gone ends the output quietly.
    pub(crate) fn data(self, text: &str) -> Result<(), CliError> {
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        self.bytes(&[text.as_bytes(), end.as_bytes()]).map(|_| ())
    }

    /// Writes bytes as they are to stdout. Returns whether somebody still reads there.
    #[expect(clippy::unused_self, reason = "reads like its siblings")]
    pub(crate) fn bytes(self, pieces: &[&[u8]]) -> Result<bool, CliError> {
        let mut out = std::io::stdout().lock();
        let written = pieces.iter().try_for_each(|piece| out.write_all(piece));
        match written.and_then(|()| out.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(CliError::missing(
                format!("stdout cannot be written: {error}"),
                "free some space",
            )),
        }
    }

    /// Writes a value as indented JSON to stdout.
    pub(crate) fn json(self, value: &serde_json::Value) -> Result<(), CliError> {
        self.data(&format!("{value:#}\n"))
    }

    /// Says a line on stderr, unless quiet.
    pub(crate) fn say(self, text: &str) {
        if self.loudness >= Loudness::Usual {
            to_stderr(&format!("{text}\n"));
        }
    }

    /// Says a line on stderr that usually goes without saying.
    pub(crate) fn detail(self, text: &str) {
        if self.loudness >= Loudness::Verbose {
            to_stderr(&format!("{text}\n"));
        }
    }

    /// Says a warning on stderr, unless quiet.
    pub(crate) fn warn(self, text: &str) {
        let mark = self.paint("warning:", Style::new().yellow().bold());
        self.say(&format!("{mark} {text}"));
    }

    /// Says an error with its log and help, always.
    pub(crate) fn error(self, error: &CliError) {
        let mut text = String::new();
        if let CliError::Problems(problems) = error {
            text.push_str(&problems.render(self.colour_err));
            // The first problems of many have left the screen by now.
            if problems.list.len() > 1 {
                let mark = self.paint("error:", Style::new().red().bold());
                let number = count(problems.list.len(), "problem");
                push_line(
                    &mut text,
                    &format!("\n{mark} {number} in `{}`", visible(&problems.file)),
                );
            }
        } else {
            let mark = self.paint("error:", Style::new().red().bold());
            let said = error.to_string();
            let mut lines = said.lines();
            push_line(&mut text, &format!("{mark} {}", visible(lines.next().unwrap_or_default())));
            for line in lines {
                push_line(&mut text, &visible(line));
            }
            for line in error.log().unwrap_or_default().lines() {
                push_line(&mut text, &format!("  | {}", visible(line)));
            }
        }
        if let Some(help) = error.help() {
            let mark = self.paint("help:", Style::new().cyan());
            push_line(&mut text, &format!("{mark} {help}"));
        }
        to_stderr(&text);
    }

    fn paint(self, text: &str, style: Style) -> String {
        if self.colour_err { text.style(style).to_string() } else { text.to_owned() }
    }
}

/// Writes to stderr; nobody is left to tell when that fails.
pub(crate) fn to_stderr(text: &str) {
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
}

/// Appends a line.
pub(crate) fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}
