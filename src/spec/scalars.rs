//! Reading single values: text, names, paths, numbers, words.

use std::str::FromStr;

use super::expression::scan::{Part, scan};
use super::keys::{Form, PORT};
use super::problem::{Problem, nearest};
use super::reader::{Fields, Item, Reader, Spanned};
use super::yaml::short;
use crate::names::NameError;
use crate::scalar::Scalar;

impl Reader<'_> {
    /// A text of any kind, expressions allowed; a number or boolean is taken as it is written.
    pub(super) fn raw_text<'n>(&mut self, item: Item<'n>) -> Option<&'n str> {
        match item.scalar() {
            Some((text, _)) if !item.node.is_null() => Some(text),
            _ => {
                self.wrong_type(item, "text");
                None
            }
        }
    }

    /// A text without expressions, not empty.
    pub(super) fn text<'n>(&mut self, item: Item<'n>) -> Option<&'n str> {
        let text = self.raw_text(item)?;
        if text.trim().is_empty() {
            let message = format!("`{}` is empty", item.name);
            self.report(
                Problem::new("no-value", item.span(), message)
                    .help("give it a value, or remove the key"),
            );
            return None;
        }
        if !matches!(scan(text).as_slice(), [Part::Literal(_)]) {
            let message = format!("`{}` takes no expressions", short(item.name));
            self.report(
                Problem::new("expression-not-here", item.span(), message).help(
                    "write the value itself; expressions stand in `run`, `args`, `env`, `when` and `gate`",
                ),
            );
            return None;
        }
        Some(text)
    }

    /// As [`Reader::text`], with its place.
    pub(super) fn spanned_text(&mut self, item: Item<'_>) -> Option<Spanned<String>> {
        let text = self.text(item)?.to_owned();
        Some(Spanned { value: text, span: item.span() })
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, item: Item<'_>) -> Option<Vec<Spanned<String>>> {
        let items = self.list(item)?;
        Some(items.into_iter().filter_map(|item| self.spanned_text(item)).collect())
    }

    /// A text, number or boolean that keeps its spelling.
    pub(super) fn single(&mut self, item: Item<'_>) -> Option<Scalar> {
        let Some((text, plain)) = item.scalar().filter(|_| !item.node.is_null()) else {
            self.wrong_type(item, "a text, a number or a boolean");
            return None;
        };
        Some(if plain { Scalar::plain(text) } else { Scalar::Text(text.to_owned()) })
    }

    /// `true` or `false`, unquoted.
    pub(super) fn boolean(&mut self, item: Item<'_>) -> Option<bool> {
        if let Some(("true" | "false", true)) = item.scalar() {
            return item.scalar().map(|(text, _)| text == "true");
        }
        match item.scalar() {
            Some((text, _)) if !item.node.is_null() => {
                let message =
                    format!("`{}` must be `true` or `false`, not `{}`", item.name, short(text));
                self.report(
                    Problem::new("wrong-type", item.span(), message)
                        .help("write `true` or `false`, without quotes"),
                );
            }
            _ => self.wrong_type(item, "`true` or `false`"),
        }
        None
    }

    /// A whole number within the bounds of its key.
    pub(super) fn whole(&mut self, fields: &Fields<'_>, key: &str) -> Option<u64> {
        let item = fields.get(key)?;
        self.whole_within(item, fields.bounds(key))
    }

    /// A port number.
    pub(super) fn port(&mut self, item: Item<'_>) -> Option<Spanned<u16>> {
        let Form::Whole(least, most) = PORT else { return None };
        let value = u16::try_from(self.whole_within(item, (least, most))?).ok()?;
        Some(Spanned { value, span: item.span() })
    }

    /// A whole number within bounds.
    pub(super) fn whole_within(
        &mut self,
        item: Item<'_>,
        (least, most): (u64, u64),
    ) -> Option<u64> {
        let number = item.scalar().and_then(|(text, plain)| {
            let number = text.parse::<u64>().ok()?;
            (plain && number.to_string() == text).then_some(number)
        });
        match number {
            Some(number) if (least..=most).contains(&number) => Some(number),
            _ => {
                self.wrong_type(item, &format!("a whole number from {least} to {most}"));
                None
            }
        }
    }

    /// A number.
    pub(super) fn number(&mut self, item: Item<'_>) -> Option<f64> {
        match item.scalar().filter(|(_, plain)| *plain).map(|(text, _)| Scalar::plain(text)) {
            Some(Scalar::Number(number)) if number.as_f64().is_finite() => Some(number.as_f64()),
            _ => {
                self.wrong_type(item, "a number");
                None
            }
        }
    }

    /// One of the words of its key.
    pub(super) fn choice(&mut self, fields: &Fields<'_>, key: &str) -> Option<&'static str> {
        let item = fields.get(key)?;
        let choices = fields.choices(key);
        let text = self.text(item)?;
        if let Some(choice) = choices.iter().find(|choice| **choice == text) {
            return Some(choice);
        }
        let message = format!("`{}` is no choice for `{key}`", short(text));
        let problem = Problem::new("unknown-choice", item.span(), message)
            .suggest(nearest(text, choices.iter().copied()));
        let problem = problem.help_else(format!("write one of {}", choices.join(", ")));
        self.report(problem);
        None
    }

    /// The name an item goes by, as a name of this type; `what` is what it names.
    pub(super) fn own_name<N: FromStr<Err = NameError>>(
        &mut self,
        item: Item<'_>,
        what: &str,
    ) -> Option<N> {
        match item.name.parse() {
            Ok(name) => Some(name),
            Err(error) => {
                self.report(bad_name(item.name, item.name_span, what, &error));
                None
            }
        }
    }

    /// The name of an environment variable.
    pub(super) fn variable(&mut self, item: Item<'_>) -> Option<String> {
        let name = item.name;
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let shaped = name.chars().all(word) && !name.is_empty() && name.len() <= 200;
        if !shaped || name.starts_with(|c: char| c.is_ascii_digit()) {
            let message = format!("`{}` is no name of a variable", short(name));
            self.report(
                Problem::new("bad-name", item.name_span, message)
                    .help("use letters, digits and `_`, and begin with a letter"),
            );
            return None;
        }
        if name.starts_with("FLOWRUN_") {
            let message = format!("`{name}` belongs to flowrun");
            self.report(
                Problem::new("reserved-name", item.name_span, message)
                    .help("choose a name that does not begin with `FLOWRUN_`"),
            );
            return None;
        }
        Some(name.to_owned())
    }

    /// A path below the base in normal form: relative, `/`-separated, without `.` and `..`; the base itself is `.`.
    pub(super) fn path(&mut self, item: Item<'_>) -> Option<Spanned<String>> {
        let text = self.text(item)?;
        match normal(text) {
            Ok(path) => Some(Spanned { value: path, span: item.span() }),
            Err((why, help)) => {
                let message = format!("`{}` of `{}` {why}", short(text), short(item.name));
                self.report(Problem::new("bad-path", item.span(), message).help(help));
                None
            }
        }
    }

    /// As [`Reader::path`], but not the base itself.
    pub(super) fn path_below(&mut self, item: Item<'_>) -> Option<Spanned<String>> {
        let path = self.path(item)?;
        if path.value == "." {
            let message = format!("`{}` cannot be the whole base", short(item.name));
            self.report(
                Problem::new("bad-path", path.span, message).help("name a file or folder below it"),
            );
            return None;
        }
        Some(path)
    }
}

/// The problem of a name that breaks the rules.
pub(super) fn bad_name(
    name: &str,
    span: super::problem::Span,
    what: &str,
    error: &NameError,
) -> Problem {
    let code = if matches!(error, NameError::Reserved(_)) { "reserved-name" } else { "bad-name" };
    let help = match error {
        NameError::Hyphen(_) => format!("write `{}`", name.replace('-', "_")),
        NameError::Reserved(_) => "choose another name".to_owned(),
        NameError::TooLong(_) => "choose a shorter name".to_owned(),
        NameError::Empty => "give it a name".to_owned(),
        NameError::Shape { joiner, .. } => {
            let shaped: String = name
                .to_ascii_lowercase()
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c } else { *joiner })
                .collect();
            let shaped = shaped.trim_matches(*joiner);
            if shaped.starts_with(|c: char| c.is_ascii_lowercase()) && shaped.len() <= 40 {
                format!("write `{shaped}`")
            } else {
                "begin with a letter".to_owned()
            }
        }
    };
    let why = match error {
        NameError::TooLong(_) => format!("`{}` is longer than 40 characters", short(name)),
        NameError::Empty => "cannot have an empty name".to_owned(),
        other => other.to_string(),
    };
    Problem::new(code, span, format!("{what} {why}")).help(help)
}

/// What is wrong with a path whose `..` lead above its beginning.
pub(super) const LEAVES: &str = "leaves the base";

/// A path below the base in normal form, or why it is none, with the mend.
pub(super) fn normal(text: &str) -> Result<String, (&'static str, &'static str)> {
    const RELATIVE: &str = "write it relative to the folder of the pipeline file";
    if text.starts_with('/') {
        return Err(("is an absolute path", RELATIVE));
    }
    if text.starts_with("~/") || text == "~" {
        return Err(("begins in a home folder", RELATIVE));
    }
    if text.chars().any(char::is_control) {
        return Err(("holds a control character", "remove it"));
    }
    if text.contains('\\') {
        return Err(("holds a backslash", "separate folders with `/`"));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return Err((LEAVES, "name something below the folder of the pipeline file"));
                }
            }
            part => parts.push(part),
        }
    }
    if parts.iter().any(|part| part.len() > 255) || text.len() > 4000 {
        return Err(("is too long", "choose a shorter path"));
    }
    if parts.contains(&".git") {
        return Err(("is inside `.git`", "name something else"));
    }
    Ok(if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normal_and_stay_below_the_base() {
        assert_eq!(normal("model/").as_deref(), Ok("model"));
        assert_eq!(normal("./a//b/../c").as_deref(), Ok("a/c"));
        assert_eq!(normal(".").as_deref(), Ok("."));
        for path in ["/a", "..", "a/../../b", "~/a", "a\nb", ".git/config", "a\\b"] {
            assert!(normal(path).is_err(), "{path}");
        }
    }
}
