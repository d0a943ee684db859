//! What somebody may have meant who named a secret that is not there.

use crate::names::suggest;
use crate::secret::SecretId;

/// The secret that is there and may be meant: one spelled nearly so, else the same entry in another group.
pub(crate) fn nearest<'k>(
    wanted: &SecretId,
    known: impl IntoIterator<Item = &'k SecretId>,
) -> Option<&'k SecretId> {
    let known: Vec<&SecretId> = known.into_iter().collect();
    let shown: Vec<String> = known.iter().map(ToString::to_string).collect();
    let near = suggest(&wanted.to_string(), shown.iter().map(String::as_str));
    let near = near.and_then(|near| shown.iter().position(|one| one == near));
    let elsewhere =
        || known.iter().position(|one| (&one.name, &one.entry) == (&wanted.name, &wanted.entry));
    near.or_else(elsewhere).map(|place| known[place])
}

/// The words that name a secret to `flowrun secret`: `--group prod tls KEY`.
pub(crate) fn words(id: &SecretId) -> String {
    let SecretId { group, name, entry } = id;
    let group = if group.is_empty() { String::new() } else { format!("--group {group} ") };
    format!("{group}{name} {entry}").trim_end().to_owned()
}

/// A name that is written as pipeline files write it, `prod/tls#KEY`, taken apart.
pub(crate) fn taken_apart(name: &str, entry: Option<&str>) -> Option<SecretId> {
    let (group, rest) = name.split_once('/').unwrap_or(("", name));
    let (name, within) = rest.split_once('#').unwrap_or((rest, entry.unwrap_or_default()));
    let is_word = crate::secret::is_word;
    let fits = is_word(name)
        && (group.is_empty() || is_word(group))
        && (within.is_empty() || is_word(within));
    fits.then(|| SecretId { group: group.into(), name: name.into(), entry: within.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(group: &str, name: &str, entry: &str) -> SecretId {
        SecretId { group: group.into(), name: name.into(), entry: entry.into() }
    }

    #[test]
    fn a_slip_and_a_group_that_was_left_out_are_found() {
        let known = [id("", "api", "TOKEN"), id("prod", "tls", "KEY")];
        assert_eq!(nearest(&id("", "api", "TOKN"), &known), Some(&known[0]));
        assert_eq!(nearest(&id("", "tls", "KEY"), &known), Some(&known[1]));
        assert_eq!(nearest(&id("", "other", "THING"), &known), None);
        assert_eq!(words(&known[1]), "--group prod tls KEY");
    }

    #[test]
    fn the_spelling_of_files_is_taken_apart() {
        assert_eq!(taken_apart("prod/tls#KEY", None), Some(id("prod", "tls", "KEY")));
        assert_eq!(taken_apart("tls#KEY", Some("KEY")), Some(id("", "tls", "KEY")));
        assert_eq!(taken_apart("prod/tls", Some("KEY")), Some(id("prod", "tls", "KEY")));
        assert_eq!(taken_apart("a b", None), None);
        assert_eq!(taken_apart("a/b/c", None), None);
    }
}
