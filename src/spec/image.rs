//! `image`, `build`, `pull` and `container`.

use super::draft::DraftContainer;
use super::keys::{BUILD, CAPABILITIES, CONTAINER};
use super::pipeline::{BuildSpec, ImageSpec, Pull};
use super::problem::{Problem, Span, nearest};
use super::reader::{Fields, Item, Reader, Spanned};
use super::yaml::short;

impl Reader<'_> {
    /// `image` or `build`, with the place of its key. `None` inside: it could not be read, and was reported.
    pub(super) fn image_of(&mut self, fields: &Fields<'_>) -> Option<Spanned<Option<ImageSpec>>> {
        let (image, build) = (fields.get("image"), fields.get("build"));
        let span = fields.key_span("image").or(fields.key_span("build"))?;
        let reference = image.and_then(|item| self.image_reference(item));
        let order = build.and_then(|item| self.build(item));
        if let (Some(_), Some(build)) = (image, build) {
            self.report(
                Problem::new(
                    "image-and-build",
                    build.name_span,
                    "`image` and `build` say two different things",
                )
                .help("keep one of the two"),
            );
        }
        let value = reference.map(ImageSpec::Reference).or(order.map(ImageSpec::Build));
        Some(Spanned { value, span })
    }

    /// `pull`
    pub(super) fn pull(&mut self, fields: &Fields<'_>) -> Option<Pull> {
        let pull = match self.choice(fields, "pull")? {
            "always" => Pull::Always,
            "never" => Pull::Never,
            _ => Pull::Missing,
        };
        if fields.get("image").is_none()
            && fields.get("build").is_some()
            && let Some(span) = fields.key_span("pull")
        {
            self.report(
                Problem::new("pull-with-build", span, "`pull` goes with `image`, not with `build`")
                    .help("remove it"),
            );
        }
        Some(pull)
    }

    /// `container`
    pub(super) fn container(&mut self, item: Item<'_>) -> DraftContainer {
        let Some(fields) = self.fields(item, &CONTAINER) else { return DraftContainer::default() };
        DraftContainer {
            image_user: self.choice(&fields, "user").map(|user| user == "image"),
            writable_root: self.choice(&fields, "root").map(|root| root == "writable"),
            no_network: self.choice(&fields, "network") == Some("none"),
            capabilities: fields
                .get("capabilities")
                .map(|item| self.capabilities(item))
                .unwrap_or_default(),
        }
    }

    fn capabilities(&mut self, item: Item<'_>) -> Vec<String> {
        let mut kept: Vec<String> = Vec::new();
        for Spanned { value, span } in self.texts(item).unwrap_or_default() {
            if kept.contains(&value) {
                let message = format!("`{value}` stands twice in `{}`", item.name);
                self.report(Problem::new("duplicate-value", span, message).help("keep one"));
            } else if CAPABILITIES.contains(&value.as_str()) {
                kept.push(value);
            } else {
                self.no_capability(&value, span);
            }
        }
        kept
    }

    fn no_capability(&mut self, text: &str, span: Span) {
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let problem = Problem::new(
            "bad-capability",
            span,
            format!("there is no capability `{}`", short(text)),
        );
        self.report(if bare == "ALL" {
            problem.help("name the ones it needs")
        } else if CAPABILITIES.contains(&bare) {
            problem.help(format!("write `{bare}`"))
        } else {
            problem
                .suggest(nearest(bare, CAPABILITIES.iter().copied()))
                .help_else("name one of Linux, like `NET_BIND_SERVICE`")
        });
    }

    /// `build`: a folder, or a map.
    fn build(&mut self, item: Item<'_>) -> Option<BuildSpec> {
        let mut built = BuildSpec {
            context: ".".to_owned(),
            dockerfile: "Dockerfile".to_owned(),
            args: indexmap::IndexMap::new(),
        };
        if !item.is_map() {
            built.context = self.path(item)?.value;
            return Some(built);
        }
        let fields = self.fields(item, &BUILD)?;
        if let Some(context) = fields.get("context") {
            built.context = self.path(context)?.value;
        }
        if let Some(dockerfile) = fields.get("dockerfile") {
            built.dockerfile = self.path_below(dockerfile)?.value;
        }
        for item in fields.get("args").and_then(|item| self.entries(item)).unwrap_or_default() {
            let name = self.variable(item);
            // An empty value is one, and says more than none.
            let value = match item.scalar() {
                Some(("", false)) => Some(""),
                _ => self.text(item),
            };
            if let (Some(name), Some(value)) = (name, value) {
                built.args.insert(name, value.to_owned());
            }
        }
        Some(built)
    }

    fn image_reference(&mut self, item: Item<'_>) -> Option<String> {
        let text = self.text(item)?;
        let Err((why, help)) = reference(text) else { return Some(text.to_owned()) };
        let message = format!("`{}` {why}", short(text));
        self.report(Problem::new("bad-image", item.span(), message).help(help));
        None
    }
}

type Wrong = (&'static str, &'static str);

/// `[registry[:port]/]name[:tag][@sha256:…]`, or an id: what every engine refuses is refused here.
fn reference(text: &str) -> Result<(), Wrong> {
    const LIKE: &str = "write it like `python:3.12-slim` or `registry.example.org/team/name:tag`";
    const DIGEST: Wrong =
        ("has no digest of 64 hexadecimal digits", "write it like `name@sha256:…`, whole");
    let hex = |text: &str| {
        text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    if text.contains("://") {
        return Err(("is an address, not an image", "write it without `https://`"));
    }
    if let Some(id) = text.strip_prefix("sha256:") {
        return if hex(id) { Ok(()) } else { Err(DIGEST) };
    }
    let (rest, digest) = text.split_once('@').map_or((text, None), |(a, b)| (a, Some(b)));
    if digest.is_some_and(|digest| !digest.strip_prefix("sha256:").is_some_and(hex)) {
        return Err(DIGEST);
    }
    // A colon before a slash belongs to the registry's port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(("has a tag that no image can have", LIKE));
    }
    let path = match name.split_once('/') {
        Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => path,
        _ => name,
    };
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(("has capital letters in its name", "write the name in lower case"));
    }
    if name.len() > 255 || !path.split('/').all(is_part) {
        return Err(("is no name of an image", LIKE));
    }
    Ok(())
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    (1..=128).contains(&tag.len()) && tag.chars().all(word) && !tag.starts_with(['.', '-'])
}

/// Small letters and digits, with `.`, `_`, `__` or dashes between them.
fn is_part(part: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    part.starts_with(plain)
        && part.ends_with(plain)
        && part.chars().all(|c| plain(c) || "._-".contains(c))
        && !["..", "___", "._", "_.", ".-", "-.", "_-", "-_"].iter().any(|odd| part.contains(odd))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_what_engines_take() {
        let digest = "a".repeat(64);
        for text in [
            "python",
            "python:3.12-slim",
            "team/name",
            "registry.example.org:5000/a/b__c/d-e:v1",
            "localhost/x",
            "localhost:5000/x:1",
            &format!("python@sha256:{digest}"),
            &format!("python:3@sha256:{digest}"),
            &format!("sha256:{digest}"),
        ] {
            assert_eq!(reference(text), Ok(()), "{text}");
        }
        for text in [
            "Python:3",
            "python:",
            "python:3 12",
            "a//b",
            "-a",
            "a_-b",
            "https://registry.example.org/x",
            "x@sha256:abc",
            "x@md5:abc",
            "sha256:12",
            "",
        ] {
            assert!(reference(text).is_err(), "{text}");
        }
    }
}
