//! What people trip over in YAML, in words that say what to write instead.

use serde_saphyr::granit_parser::ErrorKind;

use super::DEEPEST;
use crate::spec::problem::{Problem, Span, nearest};

/// A text of a file in a message: its first line, at most 60 characters.
pub(in crate::spec) fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let cut: String = line.chars().take(60).collect();
    if cut.len() < text.trim_end().len() { format!("{cut}…") } else { cut }
}

pub(super) fn too_deep(span: Span) -> Problem {
    Problem::new("too-deep", span, format!("nested more than {DEEPEST} levels deep"))
        .help("a pipeline needs fewer than ten levels; look for an unclosed bracket")
}

/// `*name` without an anchor: mostly a glob or a cron field without quotes.
pub(super) fn unknown_alias(span: Span, name: &str, anchors: &[String]) -> Problem {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(word) {
        let near = nearest(name, anchors.iter().map(String::as_str));
        return Problem::new(
            "unknown-alias",
            span,
            format!("no anchor `&{name}` stands before this alias"),
        )
        .suggest(near)
        .label("an alias of YAML");
    }
    star(span, &format!("*{name}"))
}

fn star(span: Span, text: &str) -> Problem {
    Problem::new(
        "unquoted-star",
        span,
        format!("`{}` begins with `*`, which makes it an alias in YAML", short(text)),
    )
    .help("put the value in double quotes")
}

/// A key that is a list or a map: mostly `{{ x }}` without `$` and quotes.
pub(super) fn key_is_no_text(text: &str, span: Span) -> Problem {
    if text[..span.0].ends_with('{') && text[span.0..].starts_with('{') {
        return Problem::new("unquoted-expression", span, "`{{` opens two maps in YAML")
            .help("write the expression as `\"${{ … }}\"`, in double quotes");
    }
    Problem::new("key-not-text", span, "a key must be text, not a list or a map")
        .help("write a plain word before the colon")
}

/// The problem for an error of the parser at this byte.
pub(super) fn explain(text: &str, offset: usize, kind: &ErrorKind) -> Problem {
    let offset = floor(text, offset);
    let line = line_around(text, offset);
    let rest = &text[offset..line.1];
    let here = (offset, rest.chars().next().map_or(0, char::len_utf8));
    let before = &text[line.0..offset];
    if let Some(span) = expression_without_quotes(text, offset, line) {
        return Problem::new(
            "unquoted-expression",
            span,
            "`${{ … }}` inside `{}` or `[]` needs quotes",
        )
        .help("put the expression in double quotes: `\"${{ … }}\"`");
    }
    match kind {
        ErrorKind::UnexpectedCharacter { character } if "@`%".contains(*character) => {
            let span = (offset, rest.trim_end().len());
            Problem::new("unquoted-mark", span, format!("a value cannot begin with `{character}` in YAML"))
                .help("put the value in double quotes")
        }
        ErrorKind::UnexpectedCharacter { character } => {
            Problem::new("control-character", here, format!("the character U+{:04X} is not allowed", u32::from(*character)))
                .help("remove the character")
        }
        ErrorKind::MappingValueNotAllowed => {
            // `key: a: b` on one line; else a line that is indented less or more than its neighbours.
            let two = before.find(": ").is_some_and(|first| first > 0) && !before.trim().is_empty();
            let help = if two {
                "put the whole value in quotes, or write it on lines of its own under `|`"
            } else {
                "put one `key: value` on each line, indented like its neighbours"
            };
            Problem::new("stray-colon", here, "a second `: ` makes this a key inside a value").help(help)
        }
        ErrorKind::MissingAnchorOrAliasName => star((offset, rest.trim_end().len()), rest.trim_end()),
        ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation | ErrorKind::TabNotAllowed => {
            let at = text[line.0..line.1].find('\t').map_or(here, |tab| (line.0 + tab, 1));
            Problem::new("tab", at, "a tab is used for indentation").help("indent with spaces")
        }
        ErrorKind::UnclosedQuotedScalar => {
            Problem::new("yaml", here, "the quote is not closed").help("close the quote on the same line")
        }
        ErrorKind::UnclosedFlowCollection { open } => {
            let close = if *open == '[' { ']' } else { '}' };
            Problem::new("yaml", here, format!("`{open}` is not closed")).help(format!("close it with `{close}`"))
        }
        ErrorKind::InvalidTrailingSingleQuotedScalar | ErrorKind::InvalidTrailingDoubleQuotedScalar => {
            Problem::new("yaml", (offset, rest.trim_end().len()), "text follows a closed quote")
                .help("put the whole value in quotes, and write an inner `'` twice or an inner `\"` as `\\\"`")
        }
        ErrorKind::UnknownQuotedScalarEscape => {
            Problem::new("yaml", here, "a `\\` in double quotes begins an escape that YAML does not know")
                .help("put the value in single quotes, or double the `\\`")
        }
        ErrorKind::BlockSequenceEntryNotAllowed => {
            Problem::new("yaml", here, "a list item cannot begin on the line of its key")
                .help("write the list on lines of its own, or in `[]`")
        }
        ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::InvalidIndentation => {
            let span = (offset, rest.trim_end().len());
            Problem::new("yaml", span, "the indentation fits neither the line above nor its parent")
                .help("indent the line like its neighbours")
        }
        ErrorKind::RecursionLimitExceeded => too_deep(here),
        other => {
            let said = other.to_string();
            let mut letters = said.chars();
            let first = letters.next().unwrap_or('?').to_lowercase();
            Problem::new("yaml", here, format!("{first}{}", letters.as_str()))
                .help("mend the YAML here; quote the value if in doubt")
        }
    }
}

/// An unquoted `${{` inside brackets on this line, which YAML reads as `$` and two maps.
fn expression_without_quotes(text: &str, offset: usize, line: (usize, usize)) -> Option<Span> {
    let at = [offset.checked_sub(1)?, offset]
        .into_iter()
        .find(|at| text.get(*at..).is_some_and(|rest| rest.starts_with("${{")))?;
    let rest = &text[at..line.1];
    Some((at, rest.find("}}").map_or(rest.trim_end().len(), |end| end + 2)))
}

fn floor(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// Start and end of the line that holds this byte, without its newline.
fn line_around(text: &str, offset: usize) -> (usize, usize) {
    let start = text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[offset..].find('\n').map_or(text.len(), |newline| offset + newline);
    (start, end)
}
