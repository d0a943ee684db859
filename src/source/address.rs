//! The address of a repo: parsed once, shown and recorded without userinfo. Knows no IO but the look whether a local path is there.

use std::fmt;

use super::SourceError;

/// Where a repo is fetched from. `Display` and `Debug` leave the userinfo out.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address {
    full: String,
    pub(super) local: bool,
}

impl Address {
    /// Reads https, ssh, file, `git@host:path` and local paths (which must be there, and become absolute).
    pub(super) fn parse(text: &str) -> Result<Self, SourceError> {
        let refused = |why: &str| {
            SourceError::new(format!("`{}` {why}", redact(text))).help(
                "write an `https://`, `ssh://` or `file://` address, `git@host:path` or a local path",
            )
        };
        if text.is_empty() || text.starts_with('-') || text.chars().any(char::is_control) {
            return Err(refused("is not the address of a repo"));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return match scheme {
                "https" | "ssh" if !rest.is_empty() => {
                    Ok(Self { full: text.trim_end_matches('/').to_owned(), local: false })
                }
                "file" if rest.starts_with('/') => Ok(Self { full: text.to_owned(), local: true }),
                _ => Err(refused("is no kind of address that flowrun fetches from")),
            };
        }
        if let Some((host, path)) = text.split_once(':')
            && !host.contains('/')
        {
            if host.is_empty() || path.is_empty() || path.starts_with(':') {
                return Err(refused("is no kind of address that flowrun fetches from"));
            }
            return Ok(Self { full: text.to_owned(), local: false });
        }
        let absolute = fs_err::canonicalize(text).map_err(|_| {
            SourceError::new(format!("there is no folder `{text}`"))
                .help("check the path, or write the address of a repo")
        })?;
        let Some(absolute) = absolute.to_str() else {
            return Err(refused("is not UTF-8"));
        };
        Ok(Self { full: absolute.to_owned(), local: true })
    }

    /// The address of a submodule, which may be relative to this one. A remote repo cannot point at local folders.
    pub(super) fn submodule(&self, url: &str) -> Result<Self, SourceError> {
        if !url.starts_with("./") && !url.starts_with("../") {
            let address = Self::parse(url)?;
            if address.local && !self.local {
                return Err(SourceError::new(format!(
                    "`{self}` has a submodule at the local path `{url}`"
                ))
                .help("give the submodule an `https://` or `ssh://` address in `.gitmodules`"));
            }
            return Ok(address);
        }
        let mut parent = self.full.trim_end_matches('/');
        let mut rest = url;
        loop {
            if let Some(below) = rest.strip_prefix("./") {
                rest = below;
            } else if let Some(above) = rest.strip_prefix("../") {
                rest = above;
                let cut = parent.rfind(['/', ':']).unwrap_or(0);
                parent = &parent[..cut + usize::from(parent[cut..].starts_with(':'))];
            } else {
                break;
            }
        }
        let joint = if parent.ends_with(':') { "" } else { "/" };
        Self::parse(&format!("{parent}{joint}{rest}"))
    }

    /// As the `git` program gets it.
    pub(super) fn for_git(&self) -> &str {
        &self.full
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = redact(&self.full);
        match text.split_once('@') {
            Some((user, rest))
                if !self.local && !text.contains("://") && !user.contains(['/', ':']) =>
            {
                formatter.write_str(rest)
            }
            _ => formatter.write_str(&text),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// `text` with the userinfo cut out of every `scheme://userinfo@host` in it.
pub fn redact(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        let end = after
            .find(|c: char| matches!(c, '/' | '?' | '#' | '\'' | '"' | '`') || c.is_whitespace())
            .unwrap_or(after.len());
        let host = after[..end].rfind('@').map_or(0, |at| at + 1);
        rest = &after[host..];
    }
    clean.push_str(rest);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Address::parse(text).unwrap().to_string()
    }

    #[test]
    fn userinfo_is_never_shown() {
        assert_eq!(shown("https://me:secret@host/a/b.git"), "https://host/a/b.git");
        assert_eq!(shown("ssh://git@host:22/a.git"), "ssh://host:22/a.git");
        assert_eq!(shown("git@host:a/b.git"), "host:a/b.git");
        assert_eq!(shown("https://host/a@b/c"), "https://host/a@b/c");
        assert_eq!(
            redact("fatal: unable to access 'https://u:p@h/x/': https://p@q"),
            "fatal: unable to access 'https://h/x/': https://q"
        );
    }

    #[test]
    fn other_kinds_are_refused() {
        for text in ["", "-x", "--upload-pack=x", "http://h/x", "git://h/x", "ext::sh -c x", "a\nb"]
        {
            assert!(Address::parse(text).is_err(), "{text}");
        }
        let message = Address::parse("http://u:p@h/x").unwrap_err().message;
        assert!(!message.contains("u:p"), "{message}");
    }

    #[test]
    fn submodules_are_relative_or_not() {
        let parent = Address::parse("https://h/acme/iris.git").unwrap();
        assert_eq!(parent.submodule("../lib.git").unwrap().full, "https://h/acme/lib.git");
        assert_eq!(parent.submodule("../../o/lib.git").unwrap().full, "https://h/o/lib.git");
        assert!(parent.submodule("/etc").is_err());
        let parent = Address::parse("git@h:iris.git").unwrap();
        assert_eq!(parent.submodule("../lib.git").unwrap().full, "git@h:lib.git");
    }
}
