//! `inputs` of a stage.

use super::draft::{DraftInput, DraftStage};
use super::keys::INPUT;
use super::problem::Problem;
use super::reader::{Fields, Item, Reader, Spanned};
use super::yaml::short;
use crate::names::InputName;

impl Reader<'_> {
    /// Reads the inputs into the stage.
    pub(super) fn inputs(&mut self, item: Item<'_>, stage: &mut DraftStage) {
        for item in self.entries(item).unwrap_or_default() {
            let name = self.own_name::<InputName>(item, "the input");
            if let (Some(name), Some(value)) = (name, self.input(item)) {
                stage.inputs.insert(name, value);
            } else {
                stage.unreadable.insert(item.name.to_owned());
            }
        }
    }

    fn input(&mut self, item: Item<'_>) -> Option<Spanned<DraftInput>> {
        if !item.is_map() {
            let (stage, output) = self.dotted(item, "stage.output")?;
            let value = DraftInput::From { stage, output, path: None };
            return Some(Spanned { value, span: item.span() });
        }
        let fields = self.fields(item, &INPUT)?;
        let path = fields.get("path").and_then(|item| self.path_below(item));
        let kinds: Vec<&str> =
            ["from", "live", "url"].into_iter().filter(|key| fields.get(key).is_some()).collect();
        let [kind] = kinds.as_slice() else {
            let message =
                format!("the input `{}` needs one of `from`, `live` and `url`", item.name);
            self.report(
                Problem::new("bad-input", item.name_span, message)
                    .help("write it like `{from: stage.output, path: data}`"),
            );
            return None;
        };
        self.foreign_keys(&fields, kind);
        let item = fields.get(kind)?;
        let value = match *kind {
            "from" => {
                let (stage, output) = self.dotted(item, "stage.output")?;
                DraftInput::From { stage, output, path }
            }
            "live" => {
                fields.get("optional").map(|item| self.boolean(item));
                self.not_available(item.name_span, "`live`");
                let (service, input) = self.dotted(item, "service.input")?;
                DraftInput::Live { service, input }
            }
            _ => {
                self.not_available(item.name_span, "`url`");
                fields.get("digest").map(|item| self.text(item));
                let url = self.text(item)?;
                self.url(item, url);
                DraftInput::Url
            }
        };
        Some(Spanned { value, span: item.span() })
    }

    /// Refuses keys that belong to another kind of input.
    fn foreign_keys(&mut self, fields: &Fields<'_>, kind: &str) {
        for (key, owner) in [("optional", "live"), ("digest", "url")] {
            if let Some(span) = fields.key_span(key).filter(|_| kind != owner) {
                let message = format!("`{key}` goes with `{owner}` only");
                self.report(Problem::new("bad-input", span, message).help("remove it"));
            }
        }
    }

    fn dotted(&mut self, item: Item<'_>, form: &str) -> Option<(String, String)> {
        let text = self.text(item)?;
        let word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        match text.split_once('.') {
            Some((stage, name))
                if !stage.is_empty()
                    && !name.is_empty()
                    && stage.chars().chain(name.chars()).all(word) =>
            {
                Some((stage.to_owned(), name.to_owned()))
            }
            _ if text.contains("://") => {
                let message = format!("`{}` is an address, not `{form}`", short(text));
                self.report(
                    Problem::new("bad-input", item.span(), message).help("write `{url: …}`"),
                );
                None
            }
            _ => {
                let message = format!("`{}` is not `{form}`", short(text));
                let problem = Problem::new("bad-input", item.span(), message);
                self.report(if text.contains('/') || text.contains('.') {
                    problem
                        .help("name an output of a stage here, and files of the repo under `files`")
                } else {
                    problem.help(format!("write it like `{}.name`", short(text)))
                });
                None
            }
        }
    }

    fn url(&mut self, item: Item<'_>, url: &str) {
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
        if !["https", "s3", "file", "models", "runs", "flowrun"].contains(&scheme) {
            let message = format!("`{}` is no address that is fetched", short(url));
            self.report(
                Problem::new("bad-input", item.span(), message)
                    .help("write an address that begins with `https:`, `s3:` or `file:`"),
            );
        }
    }
}
