//! What an image is called: `[registry/]path[:tag][@sha256:…]`, or an id.

use std::fmt;

/// The registry of names without one.
const HUB: &str = "docker.io";

/// A name of an image, by the rules of Docker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reference {
    /// `sha256:…`: an image that is here; no registry knows it by this.
    Id(String),
    /// An image of a registry, or of this machine.
    Named(Named),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// `host[:port]`; `docker.io` when the name has none.
    pub(super) registry: String,
    /// The name as written, without tag and digest.
    pub(super) name: String,
    /// `latest` when neither tag nor digest is written.
    pub(super) tag: Option<String>,
    /// `sha256:…`; with it the tag has no effect.
    pub(super) digest: Option<String>,
}

impl Reference {
    /// Reads a name; an error is a fragment that says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(hex) = text.strip_prefix("sha256:") {
            return if is_hex(hex) && hex.len() == 64 {
                Ok(Self::Id(text.to_owned()))
            } else {
                Err("is no id: `sha256:` and 64 hexadecimal digits")
            };
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let hex = digest.strip_prefix("sha256:").unwrap_or_default();
                if !is_hex(hex) || hex.len() != 64 {
                    return Err("has no digest after `@`: `sha256:` and 64 hexadecimal digits");
                }
                (rest, Some(digest.to_owned()))
            }
            None => (text, None),
        };
        // A colon before a slash belongs to the registry's port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
            _ => (rest, None),
        };
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err("has a tag that cannot be: letters, digits, `_`, `.` and `-`, at most 128");
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => {
                (first, path)
            }
            _ => (HUB, name),
        };
        if !is_host(registry) {
            return Err("has a registry that is no host name");
        }
        if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err("has capital letters in its name");
        }
        if !path.split('/').all(is_path_part) {
            return Err("is no name of an image");
        }
        let tag = match (&tag, &digest) {
            (None, None) => Some("latest".to_owned()),
            _ => tag,
        };
        let name = name.to_owned();
        Ok(Self::Named(Named { registry: registry.to_owned(), name, tag, digest }))
    }
}

impl Named {
    /// The tag or digest that is asked of the registry.
    pub(super) fn wanted(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }

    /// Whether a digest is asked for, which never moves.
    pub(super) fn is_pinned(&self) -> bool {
        self.digest.is_some()
    }

    /// Whether the engine's `name@sha256:…` is of this name.
    pub(super) fn owns(&self, repo_digest: &str) -> bool {
        let name = repo_digest.split('@').next().unwrap_or_default();
        name == self.name || familiar(name) == familiar(&self.name)
    }
}

impl fmt::Display for Named {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // With a digest the tag has no effect, and the engine refuses both together.
        match &self.digest {
            Some(digest) => write!(formatter, "{}@{digest}", self.name),
            None => write!(formatter, "{}:{}", self.name, self.wanted()),
        }
    }
}

/// The short form that the engine shows: `docker.io/library/python` is `python`.
fn familiar(name: &str) -> &str {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let name = name.strip_prefix("index.docker.io/").unwrap_or(name);
    name.strip_prefix("library/").unwrap_or(name)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_tag(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    !text.is_empty()
        && text.len() <= 128
        && text.bytes().all(allowed)
        && !text.starts_with(['.', '-'])
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        // `[::1]` has colons of its own.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'[' | b']' | b':');
    !host.is_empty()
        && host.bytes().all(allowed)
        && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Lower-case letters and digits, with `.`, `_`, `__` or dashes between them.
fn is_path_part(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let between = |byte: u8| matches!(byte, b'.' | b'_' | b'-');
    let ends = [text.bytes().next(), text.bytes().last()];
    ends.iter().all(|end| end.is_some_and(inner))
        && text.bytes().all(|byte| inner(byte) || between(byte))
        && !text.contains("..")
        && !text.contains("___")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn named(text: &str) -> Named {
        match Reference::parse(text) {
            Ok(Reference::Named(named)) => named,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn registry_name_and_tag_are_told_apart() {
        for (text, registry, shown) in [
            ("python", "docker.io", "python:latest"),
            ("python:3.12-slim", "docker.io", "python:3.12-slim"),
            ("acme/app", "docker.io", "acme/app:latest"),
            ("localhost/app", "localhost", "localhost/app:latest"),
            ("127.0.0.1:5000/app", "127.0.0.1:5000", "127.0.0.1:5000/app:latest"),
            ("ghcr.io/a/b_c/d__e:v1.0", "ghcr.io", "ghcr.io/a/b_c/d__e:v1.0"),
            ("docker.io/library/python", "docker.io", "docker.io/library/python:latest"),
        ] {
            let named = named(text);
            assert_eq!(named.registry, registry, "{text}");
            assert_eq!(named.to_string(), shown);
            assert!(!named.is_pinned());
        }
    }

    #[test]
    fn a_digest_counts_more_than_a_tag() {
        let named = named(&format!("host:1/a:tag@sha256:{HEX}"));
        assert!(named.is_pinned());
        assert_eq!(named.to_string(), format!("host:1/a@sha256:{HEX}"));
        assert_eq!(named.tag.as_deref(), Some("tag"));
        let id = format!("sha256:{HEX}");
        assert_eq!(Reference::parse(&id), Ok(Reference::Id(id)));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "x".repeat(129);
        for text in [
            "",
            "Python",
            "a b",
            "a:",
            "a:-x",
            "a//b",
            "/a",
            "a/",
            "a..b",
            "-a",
            "a___b",
            "host:99999/a",
            "sha256:12",
            "a@sha256:12",
            "a@md5:12",
            "http://a/b",
            &format!("a:{long}"),
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_digest_of_the_engine_belongs_to_its_name() {
        let digest = format!("python@sha256:{HEX}");
        assert!(named("python:3.12").owns(&digest));
        assert!(named("docker.io/library/python").owns(&digest));
        assert!(!named("acme/python").owns(&digest));
    }
}
