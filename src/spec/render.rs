//! Problems as text for people (miette's home in this module).

use std::borrow::Cow;
use std::fmt;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError,
    MietteSpanContents, Severity, SourceCode, SourceSpan, SpanContents,
};

use super::problem::{Lines, Problem, Problems};

/// Lines longer than this (bytes) are not shown: an excerpt is for people.
const LONGEST_LINE: usize = 400;
const WIDTH: usize = 100;

/// Every problem with its excerpt, one after the other, a blank line between them.
pub(super) fn render(problems: &Problems, warnings: bool, colour: bool) -> String {
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(WIDTH).with_links(false);
    let text = visible(&problems.text);
    let source = Source { name: &problems.file, text: &text, lines: Lines::new(&text) };
    let mut shown = String::new();
    for problem in &problems.list {
        if !shown.is_empty() {
            shown.push('\n');
        }
        let excerpt = problem.span.is_some_and(|span| source.can_show(span));
        let message = match problem.span {
            _ if excerpt => problem.message.clone(),
            None => format!("{}: {}", problems.file, problem.message),
            Some((offset, _)) => {
                let (line, column) = source.lines.place(&text, offset);
                format!("{}:{line}:{column}: {}", problems.file, problem.message)
            }
        };
        let diagnostic = Shown {
            problem,
            message: visible(&message).into_owned(),
            source: excerpt.then_some(&source),
            warning: warnings,
        };
        if handler.render_report(&mut shown, &diagnostic).is_err() {
            // The handler fails only on a span outside the text; the sentence is worth more than the excerpt.
            shown.push_str(&diagnostic.message);
            shown.push('\n');
        }
    }
    shown
}

/// The text with control characters replaced by visible ones of the same length, so that spans still fit and
/// nothing in a file can steer the terminal.
fn visible(text: &str) -> Cow<'_, str> {
    let hidden = |c: char| c.is_control() && !matches!(c, '\n' | '\t' | '\r');
    if !text.chars().any(hidden) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| match c {
        c if !hidden(c) => c,
        c if c.len_utf8() == 2 => '¿',
        _ => '?',
    };
    Cow::Owned(text.chars().map(shown).collect())
}

/// The text an excerpt is taken from, with its lines known once for all problems.
#[derive(Debug)]
struct Source<'a> {
    name: &'a str,
    text: &'a str,
    lines: Lines,
}

impl Source<'_> {
    /// Whether the lines around the span are of a length people read.
    fn can_show(&self, (offset, length): (usize, usize)) -> bool {
        let first = self.lines.line(offset).saturating_sub(1);
        let last = self.lines.line(offset + length) + 1;
        offset + length <= self.text.len()
            && self.text.is_char_boundary(offset)
            && self.text.is_char_boundary(offset + length)
            && (first..=last).all(|line| {
                let start = self.lines.start(self.text, line);
                self.lines.start(self.text, line + 1) - start <= LONGEST_LINE
            })
    }
}

impl SourceCode for Source<'_> {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let here = self.lines.line(span.offset());
        let first = here.saturating_sub(before);
        let last = self.lines.line(span.offset() + span.len().saturating_sub(1)) + after;
        // Without lines before it, miette wants the text from the span on, and the span's own column.
        let (start, column) = if before == 0 {
            (span.offset(), self.lines.place(self.text, span.offset()).1 - 1)
        } else {
            (self.lines.start(self.text, first), 0)
        };
        let end = self.lines.start(self.text, last + 1).max(start);
        let data = self.text.get(start..end).ok_or(MietteError::OutOfBounds)?;
        let data = data.strip_suffix('\n').unwrap_or(data);
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.to_owned(),
            data.as_bytes(),
            (start, data.len()).into(),
            first,
            column,
            last + 1 - first,
        )))
    }
}

/// One problem as miette sees it.
#[derive(Debug)]
struct Shown<'a> {
    problem: &'a Problem,
    message: String,
    source: Option<&'a Source<'a>>,
    warning: bool,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn severity(&self) -> Option<Severity> {
        Some(if self.warning { Severity::Warning } else { Severity::Error })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = self.problem.help.as_deref()?;
        Some(Box::new(visible(help).into_owned()))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let (offset, length) = self.problem.span?;
        self.source?;
        let label = LabeledSpan::new(self.problem.label.clone(), offset, length);
        Some(Box::new(std::iter::once(label)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str, span: Option<(usize, usize)>) -> Problems {
        let problem = Problem {
            span,
            ..Problem::of_file("test", "stage `a` is odd").help("make it even").label("here")
        };
        Problems { file: "p.yaml".to_owned(), text: text.to_owned(), list: vec![problem] }
    }

    #[test]
    fn an_excerpt_is_underlined() {
        let text = "version: \"2\"\nname: iris\nstages: {a: 1}\n";
        let start = text.find("{a").expect("is there");
        insta::assert_snapshot!(problems(text, Some((start, 6))).render(false), @r#"
          × stage `a` is odd
           ╭─[p.yaml:3:9]
         2 │ name: iris
         3 │ stages: {a: 1}
           ·         ───┬──
           ·            ╰── here
           ╰────
          help: make it even
        "#);
    }

    #[test]
    fn what_cannot_be_shown_is_still_named() {
        let long = format!("a: {}\nb: 1\n", "x".repeat(1000));
        assert!(problems(&long, Some((1004, 1))).render(false).contains("p.yaml:2:1: stage"));
        assert!(problems("", None).render(false).contains("p.yaml: stage `a` is odd"));
        assert!(problems("a", Some((5, 9))).render(false).contains("stage `a` is odd"));
    }

    #[test]
    fn nothing_in_a_file_steers_the_terminal() {
        let shown = problems("a: \u{1b}[2J\u{85}\n", Some((0, 1))).render(false);
        assert!(!shown.contains('\u{1b}') && !shown.contains('\u{85}'));
        assert!(shown.contains("a: ?[2J¿"));
    }
}
