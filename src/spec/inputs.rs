//! `inputs` of a stage.

use super::draft::{DraftInput, DraftStage};
use super::keys::INPUT;
use super::problem::Problem;
use super::reader::{Fields, Item, Reader, Spanned};
use super::yaml::short;
use crate::address::{Address, Expected, Wanted};
use crate::names::InputName;
use crate::secret::SecretId;
use crate::words::list;

/// The entry of a secret that holds a token, unless another one is named.
const TOKEN: &str = "TOKEN";

/// Kinds of addresses that are known and not available yet.
const LATER: [&str; 3] = ["models", "runs", "flowrun"];

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
                let optional = fields.get("optional").and_then(|item| self.boolean(item));
                let (service, input) = self.dotted(item, "service.input")?;
                DraftInput::Live { service, input, optional: optional.unwrap_or(false) }
            }
            _ => {
                let digest = fields.get("digest");
                let expected = digest.map(|item| self.expected(item));
                let path = path.map(|path| path.value);
                let token = fields.get("token");
                let secret = token.map(|item| self.token(item));
                let input = self.outside(item, expected.is_some(), expected.flatten(), path)?;
                self.with_token(input, token, secret.flatten())?
            }
        };
        Some(Spanned { value, span: item.span() })
    }

    /// Refuses keys that belong to another kind of input.
    fn foreign_keys(&mut self, fields: &Fields<'_>, kind: &str) {
        let owners: [(&str, &[&str]); 4] = [
            ("path", &["from", "url"]),
            ("optional", &["live"]),
            ("digest", &["url"]),
            ("token", &["url"]),
        ];
        for (key, owners) in owners {
            if let Some(span) = fields.key_span(key).filter(|_| !owners.contains(&kind)) {
                let owners =
                    list(&owners.iter().map(|owner| format!("`{owner}`")).collect::<Vec<_>>());
                let message = format!("`{key}` goes with {owners} only");
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

    /// What lies at the address. Data in the clear needs a `digest`, readable or not.
    fn outside(
        &mut self,
        item: Item<'_>,
        has_digest: bool,
        expected: Option<Expected>,
        path: Option<String>,
    ) -> Option<DraftInput> {
        let text = self.text(item)?;
        let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
        if LATER.contains(&scheme) {
            self.not_available(item.span(), &format!("`{scheme}:`"));
            return Some(DraftInput::Later);
        }
        let address = match text.parse::<Address>() {
            Ok(address) => address,
            Err(error) => {
                // The text itself is shown at its place only: it may hold a password.
                let problem = Problem::new("bad-address", item.span(), error.to_string());
                self.report(problem.help(error.help));
                return None;
            }
        };
        if address.needs_digest() && !has_digest {
            let message = "anybody on the way can change what comes over `http:`";
            self.report(
                Problem::new("bad-address", item.span(), message)
                    .help("write `https:`, or add the `digest` of the content"),
            );
            return None;
        }
        if address.has_password() {
            // Shown without its place: the lines around it would be in every log.
            let message = format!("the address `{address}` holds a password");
            self.warn(
                Problem::of_file("password-in-address", message)
                    .help("use a signed address, or `s3:`, which finds its own credentials"),
            );
        }
        Some(DraftInput::Outside { wanted: Wanted { address, expected, token: None }, path })
    }

    /// `[group/]name[#entry]`
    fn token(&mut self, item: Item<'_>) -> Option<SecretId> {
        let ((group, name), entry) = self.secret_text(item)?;
        Some(SecretId { group, name, entry: entry.unwrap_or_else(|| TOKEN.to_owned()) })
    }

    /// A login goes over TLS or stays on this machine, and there is one of them.
    fn with_token(
        &mut self,
        mut input: DraftInput,
        item: Option<Item<'_>>,
        token: Option<SecretId>,
    ) -> Option<DraftInput> {
        let (DraftInput::Outside { wanted, .. }, Some(item)) = (&mut input, item) else {
            return Some(input);
        };
        let (why, help) = if !wanted.address.takes_logins() {
            (
                "`token` goes with `https:` addresses only",
                "remove it; `s3:` finds its own credentials",
            )
        } else if wanted.address.has_login() {
            ("the address has a login of its own beside `token`", "keep one of the two")
        } else {
            wanted.token = token;
            return Some(input);
        };
        self.report(Problem::new("bad-input", item.name_span, why.to_owned()).help(help));
        None
    }

    fn expected(&mut self, item: Item<'_>) -> Option<Expected> {
        let text = self.text(item)?;
        let expected = text.parse().ok();
        if expected.is_none() {
            let message = format!("`{}` is not the digest of a file", short(text));
            self.report(Problem::new("bad-digest", item.span(), message).help(
                "write `sha256:` and the 64 digits that `sha256sum` prints, or `b3:` and those of `b3sum`",
            ));
        }
        expected
    }
}
