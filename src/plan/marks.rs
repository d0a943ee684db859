//! What stands in keys and releases for values that differ from start to start, and how they are put in.
//!
//! A mark is a name between two marks (U+001A). In the shell command of a service, an expression whose value holds marks stands between
//! two pairs of them: whether such a word needs quotes is known only with its values, and quotes that it does not need
//! would change what the pipeline's author wrote around it (`"${{ inputs.model }}/weights"`).

use std::collections::BTreeMap;

use crate::scalar::Scalar;
use crate::spec::expression::EvalError;
use crate::words::{shell_word, visible};

/// Around a mark. No text of a pipeline file holds this character, so a mark is never taken for a written path.
const MARK: char = '\u{1a}';

/// Characters of a command that a message repeats.
const SHOWN: usize = 60;

/// A command with its marks replaced: `inputs.<name>`, `port`, `run.id`, `run.commit` by the values given. In the text of a shell
/// command a value stays one word. A mark without a value, or one that an expression changed, is an error.
pub fn fill_command(
    command: &[String],
    values: &BTreeMap<String, String>,
) -> Result<Vec<String>, EvalError> {
    command.iter().map(|word| fill(word, values)).collect()
}

/// The same for a plain text, like a variable.
pub fn fill(text: &str, values: &BTreeMap<String, String>) -> Result<String, EvalError> {
    fill_with(text, &|name| values.get(name).cloned())
}

/// [`fill`] with the values that a function knows by name.
pub(super) fn fill_with(
    text: &str,
    value: &dyn Fn(&str) -> Option<String>,
) -> Result<String, EvalError> {
    let mut filled = String::with_capacity(text.len());
    // Where the shell word that is open begins in `filled`.
    let mut word: Option<usize> = None;
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(MARK) {
        filled.push_str(before);
        if let Some(after) = after.strip_prefix(MARK) {
            match word.take() {
                None => word = Some(filled.len()),
                Some(begin) => {
                    let quoted = shell_word(&filled[begin..]).into_owned();
                    filled.truncate(begin);
                    filled.push_str(&quoted);
                }
            }
            rest = after;
            continue;
        }
        let Some((name, after)) = after.split_once(MARK) else { return Err(torn(text)) };
        filled.push_str(&value(name).ok_or_else(|| unknown(name))?);
        rest = after;
    }
    if word.is_some() {
        return Err(torn(text));
    }
    filled.push_str(rest);
    Ok(filled)
}

fn unknown(name: &str) -> EvalError {
    EvalError {
        source_text: visible(name).into_owned(),
        why: format!("has no value when the service starts; {MEND}"),
    }
}

fn torn(text: &str) -> EvalError {
    let text: String = visible(&without_marks(text)).chars().take(SHOWN).collect();
    EvalError {
        source_text: text,
        why: format!("a part is missing of a value that is known only at the start; {MEND}"),
    }
}

/// What to do about an expression that changes a mark.
pub(super) const MEND: &str = "write `inputs.<name>`, `port`, `run.id` and `run.commit` as they are and change them in the program";

/// The mark for a value by its name: `inputs.model`.
pub(super) fn mark(name: &str) -> Scalar {
    Scalar::Text(format!("{MARK}{name}{MARK}"))
}

/// A value as one word of a shell command, in which marks are replaced before it is quoted.
pub(super) fn word(value: &str) -> String {
    if value.contains(MARK) {
        format!("{MARK}{MARK}{value}{MARK}{MARK}")
    } else {
        shell_word(value).into_owned()
    }
}

/// A text with its marks written as the expressions they stand for: for people.
pub(super) fn without_marks(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (number, piece) in text.split(MARK).enumerate() {
        match (number % 2, piece) {
            (0, piece) => shown.push_str(piece),
            // Begin or end of a word.
            (_, "") => {}
            (_, name) => {
                shown.push_str("${{ ");
                shown.push_str(name);
                shown.push_str(" }}");
            }
        }
    }
    shown
}

#[cfg(test)]
mod tests;
