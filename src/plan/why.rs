//! The difference of two [`KeyParts`], and reasons as words.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::marks::without_marks;
use crate::digest::Digest;
use crate::event::{FieldChange, InputPart, KeyParts, NotCached, Reason};
use crate::words::{count, duration, millis, shell_words};

/// Every field that differs, in the order of the type; maps entry by entry.
pub fn changes(was: &KeyParts, is: &KeyParts) -> Vec<FieldChange> {
    let mut list = List(Vec::new());
    list.field("format", &was.format.to_string(), &is.format.to_string());
    if was.command != is.command {
        list.push("command", Some(command(&was.command)), Some(command(&is.command)));
    }
    list.map("env", &was.env, &is.env);
    list.digest("environment", was.environment, is.environment);
    list.platform(&was.platform, &is.platform);
    list.digest("files", was.files, is.files);
    list.inputs(&was.inputs, &is.inputs);
    list.map("params", &was.params, &is.params);
    list.map("matrix", &was.matrix, &is.matrix);
    list.map("outputs", &was.outputs, &is.outputs);
    list.optional("metrics", was.metrics.as_ref(), is.metrics.as_ref());
    list.optional("values", was.values.as_ref(), is.values.as_ref());
    list.field("workdir", &was.workdir, &is.workdir);
    list.field("network", &was.network, &is.network);
    list.map("secrets", &was.secrets, &is.secrets);
    list.words("args", was.args.as_deref(), is.args.as_deref());
    list.0
}

/// Differences as they are found.
pub(super) struct List(pub(super) Vec<FieldChange>);

impl List {
    pub(super) fn push(
        &mut self,
        field: impl Into<String>,
        was: Option<String>,
        is: Option<String>,
    ) {
        self.0.push(FieldChange { field: field.into(), was, is });
    }

    pub(super) fn field(&mut self, field: &str, was: &str, is: &str) {
        if was != is {
            self.push(field, Some(was.to_owned()), Some(is.to_owned()));
        }
    }

    pub(super) fn optional(&mut self, field: &str, was: Option<&String>, is: Option<&String>) {
        if was != is {
            self.push(field, was.cloned(), is.cloned());
        }
    }

    /// An image by a short id; from a process to a container and back by both names.
    fn platform(&mut self, was: &str, is: &str) {
        if was == is {
            return;
        }
        match (image(was), image(is)) {
            (Some(was), Some(is)) => self.push("image", Some(was), Some(is)),
            (before, after) => {
                let named = |platform: &str, image: Option<String>| {
                    image.map_or(platform.to_owned(), |id| format!("image {id}"))
                };
                self.push("platform", Some(named(was, before)), Some(named(is, after)));
            }
        }
    }

    /// A list of words that may be absent.
    pub(super) fn words(&mut self, field: &str, was: Option<&[String]>, is: Option<&[String]>) {
        let text = |words: &[String]| command(words);
        if was != is {
            self.push(field, was.map(text), is.map(text));
        }
    }

    fn digest(&mut self, field: &str, was: Digest, is: Digest) {
        if was != is {
            self.push(field, Some(short(was)), Some(short(is)));
        }
    }

    pub(super) fn map<N: Ord + Display, V: PartialEq + Display>(
        &mut self,
        field: &str,
        was: &BTreeMap<N, V>,
        is: &BTreeMap<N, V>,
    ) {
        for (name, was, is) in both(was, is) {
            if was != is {
                let text = |value: &V| without_marks(&value.to_string());
                self.push(format!("{field}.{name}"), was.map(text), is.map(text));
            }
        }
    }

    fn inputs<N: Ord + Display>(
        &mut self,
        was: &BTreeMap<N, InputPart>,
        is: &BTreeMap<N, InputPart>,
    ) {
        for (name, was, is) in both(was, is) {
            let digest = |part: &InputPart| part.digest;
            if was.map(digest) != is.map(digest) {
                let text = |part: &InputPart| short(part.digest);
                self.push(format!("inputs.{name}"), was.map(text), is.map(text));
            }
            if let (Some(was), Some(is)) = (was, is) {
                self.field(&format!("inputs.{name}.path"), &was.path, &is.path);
            }
        }
    }
}

/// The entries of two maps by name, in order.
fn both<'a, N: Ord, V>(
    was: &'a BTreeMap<N, V>,
    is: &'a BTreeMap<N, V>,
) -> impl Iterator<Item = (&'a N, Option<&'a V>, Option<&'a V>)> {
    let mut names: Vec<&N> = was.keys().chain(is.keys()).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|name| (name, was.get(name), is.get(name)))
}

/// The image that a platform is, as Docker shows ids: the first 12 digits. What `plan` did not find here goes by its name.
fn image(platform: &str) -> Option<String> {
    if let Some(name) = platform.strip_prefix("absent:") {
        return Some(format!("{name} (not here)"));
    }
    let id = platform.strip_prefix("sha256:")?;
    Some(id.get(..12).unwrap_or(id).to_owned())
}

fn short(digest: Digest) -> String {
    format!("b3:{}…", &digest.hex()[..8])
}

/// A command for people: the text given to the shell, or the words with quotes where they need them.
pub(super) fn command(words: &[String]) -> String {
    if let [shell, errexit, flag, text] = words
        && (shell.as_str(), errexit.as_str(), flag.as_str()) == ("sh", "-e", "-c")
    {
        return without_marks(text);
    }
    shell_words(&words.iter().map(|word| without_marks(word)).collect::<Vec<_>>())
}

/// Changes that are named one by one in a reason; the rest is counted.
const NAMED_CHANGES: usize = 3;
/// Characters of a value that still fit a line.
const SHORT_TEXT: usize = 40;

/// A reason as a fragment: `params.seed: 7 → 8`, `first run of this task`, `its files changed`.
pub fn words(reason: &Reason) -> String {
    match reason {
        Reason::FirstTime => "first run of this task".to_owned(),
        Reason::Changed(changes) => {
            let mut named: Vec<String> = changes.iter().take(NAMED_CHANGES).map(change).collect();
            let more = changes.len().saturating_sub(NAMED_CHANGES);
            if more > 0 {
                named.push(count(more, "more change"));
            }
            named.join(", ")
        }
        Reason::NoRecord => "the store has no record of it any more".to_owned(),
        Reason::NotCached(why) => format!("not cached: {}", not_cached(*why)),
        Reason::Forced => "forced".to_owned(),
        Reason::RecordBroken { missing } => match missing.as_slice() {
            [one] => format!("its record is not whole: {} is missing or damaged", short(*one)),
            more => {
                format!("its record is not whole: {} objects are missing or damaged", more.len())
            }
        },
        Reason::Expired { age } => {
            format!("its record is {} old, more than `cache` allows", duration(millis(*age)))
        }
        Reason::NotFetched { input, changed: true } => {
            format!("its input `{input}` changed at its source")
        }
        Reason::NotFetched { input, changed: false } => {
            format!("its input `{input}` has to be fetched")
        }
        Reason::Retry { of } => format!("retry of attempt {of}"),
    }
}

fn not_cached(why: NotCached) -> &'static str {
    match why {
        NotCached::NoOutputs => "has no outputs, metrics or values",
        NotCached::Off => "`cache: false`",
        NotCached::UsesService => "uses a service",
        NotCached::NamesRun => "names `run.id` or `run.commit`",
    }
}

/// One change as a fragment.
fn change(change: &FieldChange) -> String {
    let field = change.field.as_str();
    match (field, change.was.as_deref(), change.is.as_deref()) {
        ("files" | "environment", ..) => format!("its {field} changed"),
        ("format", ..) => "flowrun's own format changed".to_owned(),
        (_, None, None) => format!("{field} changed"),
        (_, None, Some(is)) if fits(is) => format!("{field}: {} is new", shown(is)),
        (_, None, Some(_)) => format!("{field} is new"),
        (_, Some(_), None) => format!("{field} is gone"),
        (_, Some(was), Some(is)) if was.starts_with("b3:") && field.starts_with("inputs.") => {
            format!("{field} changed ({was} → {is})")
        }
        (_, Some(was), Some(is)) if fits(was) && fits(is) => {
            format!("{field}: {} → {}", shown(was), shown(is))
        }
        ("command", ..) => "its command changed".to_owned(),
        _ => format!("{field} changed"),
    }
}

fn fits(text: &str) -> bool {
    text.chars().count() <= SHORT_TEXT && !text.chars().any(char::is_control)
}

fn shown(text: &str) -> &str {
    if text.is_empty() { "''" } else { text }
}

#[cfg(test)]
mod tests;
