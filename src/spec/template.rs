//! Texts with expressions and conditions, as they stand in the file: cut, compiled once, their names found with
//! their places. What the names mean is decided by `check`, when every stage is known.

use super::expression::scan::{Part, scan};
use super::expression::token::{Path, Tokens};
use super::problem::{Problem, Span};
use super::reader::{Item, Reader, Spanned};
use super::yaml::short;

/// More in one file are refused: each is compiled.
const MOST_EXPRESSIONS: usize = 20_000;

/// An expression that compiles; its names are not resolved yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DraftExpression {
    /// The text between the delimiters, trimmed.
    pub(super) source: String,
    /// Where it stands, with the delimiters.
    pub(super) span: Span,
    /// What it names.
    pub(super) paths: Vec<Spanned<Path>>,
}

/// A piece of a text.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum DraftPiece {
    Literal(String),
    Expression(DraftExpression),
}

/// Literal pieces and expressions by turns.
pub(super) type DraftTemplate = Vec<DraftPiece>;

impl Reader<'_> {
    /// A text with expressions in it. `None` when one of them does not compile.
    pub(super) fn template(&mut self, item: Item<'_>) -> Option<DraftTemplate> {
        let text = self.raw_text(item)?;
        let mut pieces = Vec::new();
        let mut places = self.places(item).into_iter();
        let mut whole = true;
        for part in scan(text) {
            match part {
                Part::Literal(range) => pieces.push(DraftPiece::Literal(text[range].to_owned())),
                Part::Expression { inside, .. } => {
                    let span = places.next().unwrap_or(item.span());
                    match self.expression(&text[inside], span) {
                        Some(expression) => pieces.push(DraftPiece::Expression(expression)),
                        None => whole = false,
                    }
                }
                Part::Unclosed(_) => {
                    let span = places.next().unwrap_or(item.span());
                    self.report(
                        Problem::new("bad-expression", span, "`${{` is not closed")
                            .help("close it with `}}`"),
                    );
                    whole = false;
                }
            }
        }
        whole.then_some(pieces)
    }

    /// A list of texts with expressions in them; `None` when it is no list, or one of them is broken.
    pub(super) fn templates(&mut self, item: Item<'_>) -> Option<Vec<DraftTemplate>> {
        let items = self.list(item)?;
        let read: Vec<_> = items.into_iter().map(|item| self.template(item)).collect();
        read.into_iter().collect()
    }

    /// One expression or a list of them: what `when` and `gate` take.
    pub(super) fn conditions(&mut self, item: Item<'_>) -> Vec<DraftExpression> {
        let items = if item.is_list() { self.list(item).unwrap_or_default() } else { vec![item] };
        items.into_iter().filter_map(|item| self.condition(item)).collect()
    }

    fn condition(&mut self, item: Item<'_>) -> Option<DraftExpression> {
        let text = self.raw_text(item)?;
        let parts = scan(text);
        let expressions = parts.iter().filter(|part| !matches!(part, Part::Literal(_))).count();
        let blank = parts.iter().all(|part| match part {
            Part::Literal(range) => text[range.clone()].trim().is_empty(),
            _ => true,
        });
        if expressions == 1 && blank {
            return self.template(item)?.into_iter().find_map(|piece| match piece {
                DraftPiece::Expression(expression) => Some(expression),
                DraftPiece::Literal(_) => None,
            });
        }
        let message = format!("`{}` must be exactly one expression", item.name);
        let problem = Problem::new("not-an-expression", item.span(), message);
        self.report(if expressions == 0 {
            problem.help(format!("write `\"${{{{ {} }}}}\"`", short(text.trim())))
        } else {
            problem
                .help("join the parts with `and` and `or` inside one `${{ … }}`, or write a list")
        });
        None
    }

    /// Checks and cuts the inside of an expression that stands at `span`.
    fn expression(&mut self, inside: &str, span: Span) -> Option<DraftExpression> {
        let source = inside.trim();
        self.expressions += 1;
        if self.expressions > MOST_EXPRESSIONS {
            if self.expressions == MOST_EXPRESSIONS + 1 {
                self.report(
                    Problem::new(
                        "file-too-large",
                        span,
                        "the file holds more than 20,000 expressions",
                    )
                    .help("split the pipeline, or name the right file"),
                );
            }
            return None;
        }
        if let Err(why) = super::expression::check(source) {
            let message = format!("`${{{{ {} }}}}` is not an expression: {why}", short(source));
            self.report(
                Problem::new("bad-expression", span, message)
                    .help("write it like `evaluate.metrics.accuracy >= 0.9`"),
            );
            return None;
        }
        let raw = self.text.get(span.0..span.0 + span.1).unwrap_or_default();
        let mut from = 0;
        let mut paths = Vec::new();
        for path in Tokens::new(source).paths() {
            // The text of the file differs from the text of the value where YAML folds or escapes; a name does neither.
            let written = &source[path.place.clone()];
            let place = match raw.get(from..).and_then(|rest| rest.find(written)) {
                Some(at) => {
                    from += at + written.len();
                    (span.0 + from - written.len(), written.len())
                }
                None => span,
            };
            paths.push(Spanned { value: path, span: place });
        }
        Some(DraftExpression { source: source.to_owned(), span, paths })
    }

    /// Where the expressions of a text stand in the file, in order.
    fn places(&self, item: Item<'_>) -> Vec<Span> {
        let (start, length) = item.node.span;
        let raw = self.text.get(start..start + length).unwrap_or_default();
        raw.match_indices("${{")
            .filter(|(at, _)| !raw[..*at].ends_with('$'))
            .map(|(at, _)| {
                let end = raw[at..].find("}}").map_or(3, |end| end + 2);
                (start + at, end)
            })
            .collect()
    }
}
