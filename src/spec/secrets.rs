//! `secrets`: a variable → which entry of which secret.

use indexmap::IndexMap;

use super::keys::SECRET;
use super::problem::Problem;
use super::reader::{Item, Reader, Spanned};
use super::yaml::short;
use crate::secret::{SecretId, SecretUse};

impl Reader<'_> {
    /// Reads `secrets`; each has the place of its variable.
    pub(super) fn secrets(&mut self, item: Item<'_>) -> IndexMap<String, Spanned<SecretUse>> {
        let mut secrets = IndexMap::new();
        for item in self.entries(item).unwrap_or_default() {
            let variable = self.variable(item);
            let used = self.secret(item);
            if let (Some(variable), Some(value)) = (variable, used) {
                secrets.insert(variable, Spanned { value, span: item.name_span });
            }
        }
        secrets
    }

    fn secret(&mut self, item: Item<'_>) -> Option<SecretUse> {
        let of_variable = || item.name.to_owned();
        if !item.is_map() {
            let ((group, name), entry) = self.secret_text(item)?;
            let id = SecretId { group, name, entry: entry.unwrap_or_else(of_variable) };
            return Some(SecretUse { id, file: false, optional: false });
        }
        let fields = self.fields(item, &SECRET)?;
        let place = fields.get("secret").and_then(|item| self.secret_text(item));
        let own = fields.get("entry").and_then(|item| self.entry(item));
        let file = fields.get("file").and_then(|item| self.boolean(item)).unwrap_or(false);
        let optional = fields.get("optional").and_then(|item| self.boolean(item)).unwrap_or(false);
        let ((group, name), entry) = place?;
        if let (Some(_), Some(item)) = (&entry, fields.get("entry")) {
            let message = "the entry stands in `secret` and in `entry`";
            self.report(
                Problem::new("bad-secret", item.name_span, message).help("keep one of the two"),
            );
        }
        let entry = entry.or(own).unwrap_or_else(of_variable);
        Some(SecretUse { id: SecretId { group, name, entry }, file, optional })
    }

    /// `[group/]name[#entry]`
    pub(super) fn secret_text(
        &mut self,
        item: Item<'_>,
    ) -> Option<((String, String), Option<String>)> {
        let text = self.text(item)?;
        let (place, entry) = text.split_once('#').map_or((text, None), |(p, e)| (p, Some(e)));
        let (group, name) = place.split_once('/').unwrap_or(("", place));
        let grouped = !place.contains('/') || is_word(group);
        if grouped && is_word(name) && entry.is_none_or(is_word) {
            return Some(((group.to_owned(), name.to_owned()), entry.map(str::to_owned)));
        }
        let message = format!("`{}` names no secret", short(text));
        self.report(
            Problem::new("bad-secret", item.span(), message)
                .help("write `name`, `group/name` or `group/name#entry`"),
        );
        None
    }

    fn entry(&mut self, item: Item<'_>) -> Option<String> {
        let text = self.text(item)?;
        if is_word(text) {
            return Some(text.to_owned());
        }
        let message = format!("`{}` names no entry of a secret", short(text));
        self.report(
            Problem::new("bad-secret", item.span(), message)
                .help("use letters, digits, `.`, `_` and `-`"),
        );
        None
    }
}

fn is_word(part: &str) -> bool {
    !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}
