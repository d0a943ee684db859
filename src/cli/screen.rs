//! The two streams: data goes to stdout, everything else to stderr. A reader that has gone is no error.

use std::io::{ErrorKind, IsTerminal, Write};

use owo_colors::{OwoColorize, Style};

use super::error::CliError;

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
        } else {
            let mark = self.paint("error:", Style::new().red().bold());
            push_line(&mut text, &format!("{mark} {}", visible(&error.to_string())));
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

/// The text with control characters made visible, so that a log or a commit message cannot steer a terminal.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && !matches!(character, '\n' | '\t') {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Appends a line.
pub(crate) fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// `1 stage`, `3 stages`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn list<T: AsRef<str>>(names: &[T]) -> String {
    match names {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", first.join(", "), last.as_ref())
        }
    }
}

/// Bytes for people: `512 B`, `1.5 MiB`.
pub(crate) fn bytes(number: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut whole = number;
    let mut rest = 0;
    let mut unit = "B";
    for next in units {
        if whole < 1024 {
            break;
        }
        rest = whole % 1024;
        whole /= 1024;
        unit = next;
    }
    format!("{whole}.{} {unit}", rest * 10 / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(count(1, "stage"), "1 stage");
        assert_eq!(count(0, "stage"), "0 stages");
        assert_eq!(list::<&str>(&[]), "");
        assert_eq!(list(&["a", "b", "c"]), "a, b and c");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 << 30), "5.0 GiB");
    }

    #[test]
    fn escape_sequences_lose_their_power() {
        assert_eq!(visible("a\u{1b}[2Jb\tc"), "a\\u{1b}[2Jb\tc");
    }
}
