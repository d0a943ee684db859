//! What is wrong with a pipeline file, with its place, the reason and the mend.

use std::fmt;

use serde_json::json;

use crate::names::suggest;

/// Bytes of the file: offset and length.
pub(super) type Span = (usize, usize);

/// One mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Stable identifier of the kind of problem, kebab-case: `unknown-key`, `unknown-stage`, `not-available`.
    pub code: &'static str,
    /// A lower-case fragment that reads well after `error: `.
    pub message: String,
    /// One imperative sentence.
    pub help: Option<String>,
    /// Bytes of the file that are underlined: offset and length.
    pub span: Option<(usize, usize)>,
    /// What is written under the underline.
    pub label: Option<String>,
}

impl Problem {
    /// A problem of this kind at this place.
    pub(super) fn new(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { span: Some(span), ..Self::of_file(code, message) }
    }

    /// A problem of the file as a whole.
    pub(super) fn of_file(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: None, span: None, label: None }
    }

    /// The same with help.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same with this help, unless it has some already.
    pub(super) fn help_else(self, help: impl Into<String>) -> Self {
        if self.help.is_none() { self.help(help) } else { self }
    }

    /// The same with a word under the underline.
    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// The same, with "did you mean" when something near is known and nothing better is said.
    pub(super) fn suggest(self, nearest: Option<&str>) -> Self {
        match nearest {
            Some(nearest) => self.help_else(format!("did you mean `{nearest}`?")),
            None => self,
        }
    }
}

/// All problems of one file; never empty.
#[derive(Debug, Clone)]
pub struct Problems {
    /// How the file is called in messages.
    pub file: String,
    /// The file's text, empty when it could not be read as text.
    pub text: String,
    /// The problems by place.
    pub list: Vec<Problem>,
}

impl Problems {
    /// The one problem of a file that cannot be read as text at all.
    pub(super) fn unreadable(file: &str, problem: Problem) -> Self {
        Self { file: file.to_owned(), text: String::new(), list: vec![problem] }
    }

    /// Every problem for people, with file, line, column, an underlined excerpt and help. Ends with a newline.
    pub fn render(&self, colour: bool) -> String {
        super::render::render(self, false, colour)
    }

    /// As [`Problems::render`], but shown as warnings: for [`super::Pipeline::warnings`].
    pub fn render_warnings(&self, colour: bool) -> String {
        super::render::render(self, true, colour)
    }

    /// The same as data: a list of `{file, line, column, end, code, message, help, label}`; lines and columns
    /// count from 1, columns in characters. `line`, `column` and `end` are null for a problem of the whole file.
    pub fn to_json(&self) -> serde_json::Value {
        let lines = Lines::new(&self.text);
        self.list
            .iter()
            .map(|problem| {
                let place = problem.span.map(|(offset, length)| {
                    (lines.place(&self.text, offset), lines.place(&self.text, offset + length))
                });
                json!({
                    "file": self.file,
                    "line": place.map(|(start, _)| start.0),
                    "column": place.map(|(start, _)| start.1),
                    "end": place.map(|(_, end)| json!({"line": end.0, "column": end.1})),
                    "code": problem.code,
                    "message": problem.message,
                    "help": problem.help,
                    "label": problem.label,
                })
            })
            .collect()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

/// The nearest candidate, for "did you mean". Only texts of a like length are looked at, and not very many of
/// them: a file can hold a hundred thousand names.
pub(super) fn nearest<'c>(
    name: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    const LONGEST_NAME: usize = 60;
    const MOST_CANDIDATES: usize = 1000;
    if name.len() > LONGEST_NAME {
        return None;
    }
    let alike = |candidate: &&str| {
        candidate.len().abs_diff(name.len()) <= 1 + candidate.len().min(name.len()) / 4
    };
    suggest(name, candidates.into_iter().filter(alike).take(MOST_CANDIDATES))
}

/// Where the lines of a text begin.
#[derive(Debug)]
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub(super) fn new(text: &str) -> Self {
        let after = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(std::iter::once(0).chain(after.map(|(index, _)| index + 1)).collect())
    }

    /// The line (from 0) that holds this offset.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// Where a line (from 0) begins; the end of the text past the last one.
    pub(super) fn start(&self, text: &str, line: usize) -> usize {
        self.0.get(line).copied().unwrap_or(text.len())
    }

    /// Line and column of an offset, both from 1, the column in characters.
    pub(super) fn place(&self, text: &str, offset: usize) -> (usize, usize) {
        let line = self.line(offset);
        let before = text.get(self.start(text, line)..offset.min(text.len())).unwrap_or_default();
        (line + 1, before.chars().count() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters_from_one() {
        let text = "é: 1\nb: 2\n";
        let lines = Lines::new(text);
        assert_eq!(lines.place(text, 0), (1, 1));
        assert_eq!(lines.place(text, 2), (1, 2));
        assert_eq!(lines.place(text, 6), (2, 1));
        assert_eq!(lines.place(text, text.len()), (3, 1));
    }
}
