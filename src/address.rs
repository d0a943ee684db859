//! The address of data that lies outside a repo, and the digest it must have: parsed once, shown without its secrets. Knows no IO.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use crate::digest::Digest;
use crate::secret::SecretId;

/// The parameters that the address of an object in a bucket may have.
const BUCKET_PARAMETERS: [&str; 4] = ["endpoint", "region", "path_style", "profile"];

/// The longest name of a file that common filesystems take, bytes.
const LONGEST_NAME: usize = 255;

/// Where data is fetched from. `Display` and `Debug` leave out userinfo and query, which may hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    url: Url,
    scheme: Scheme,
}

/// How an address is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Over TLS.
    Https,
    /// In the clear: from this machine, or with a digest.
    Http,
    /// An object of a bucket.
    S3,
    /// A file or folder of this machine.
    File,
}

/// A text that is no address of data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the address {why}")]
pub struct AddressError {
    /// A fragment.
    pub why: &'static str,
    /// What to write instead.
    pub help: String,
}

/// What the content of an address must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// SHA-256 of the file's bytes.
    Sha256([u8; 32]),
    /// BLAKE3 of the file's bytes, or of the manifest of a folder.
    Blake3(Digest),
}

/// A text that is no digest of content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest")]
pub struct ExpectedError(String);

/// What an input takes from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// From where.
    pub address: Address,
    /// What it must be; none: whatever is there.
    pub expected: Option<Expected>,
    /// The secret that is sent along as a bearer token.
    pub token: Option<SecretId>,
}

impl Address {
    /// How it is reached.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The whole address, with its secrets: for the one who fetches.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Whether a login may go there: over TLS, or to this machine.
    pub fn takes_logins(&self) -> bool {
        matches!(self.scheme, Scheme::Https | Scheme::Http) && !is_overheard(&self.url)
    }

    /// Whether the address holds a login.
    pub fn has_login(&self) -> bool {
        !self.url.username().is_empty() || self.has_password()
    }

    /// Whether the address holds a password.
    pub fn has_password(&self) -> bool {
        self.url.password().is_some()
    }

    /// Whether it is in the clear and over a network, so that only a digest makes sure of the content.
    pub fn needs_digest(&self) -> bool {
        is_overheard(&self.url)
    }

    /// What tells it from other addresses, without a word of it: of the whole address, but for userinfo.
    pub fn id(&self) -> Digest {
        let mut url = self.url.clone();
        // An address without a host has no userinfo to take away.
        if url.set_username("").is_ok() {
            url.set_password(None).ok();
        }
        Digest::of(url.as_str().as_bytes())
    }

    /// The name that a file from there has: the last part of the path; none where there is none.
    pub fn file_name(&self) -> Option<String> {
        let last = self.url.path_segments()?.rfind(|part| !part.is_empty())?;
        let name = percent_decode_str(last).decode_utf8().ok()?.into_owned();
        let plain = !matches!(name.as_str(), "." | "..")
            && name.len() <= LONGEST_NAME
            && !name.contains(|c: char| c == '/' || c.is_control());
        plain.then_some(name)
    }

    /// The path of a `file:` address.
    pub fn path(&self) -> Option<PathBuf> {
        (self.scheme == Scheme::File).then(|| self.url.to_file_path().ok())?
    }

    /// Of an `s3:` address: the address of the bucket without the object, and the object's key.
    pub fn object(&self) -> Option<(String, String)> {
        if self.scheme != Scheme::S3 {
            return None;
        }
        let key = percent_decode_str(self.url.path()).decode_utf8().ok()?;
        let mut bucket = self.url.clone();
        bucket.set_path("");
        Some((bucket.into(), key.strip_prefix('/')?.to_owned()))
    }
}

/// Whether what comes from there travels in the clear and over a network.
pub fn is_overheard(url: &Url) -> bool {
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "http" && !is_here
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let refused = |why, help: &str| AddressError { why, help: help.to_owned() };
        let (Some((scheme, _)), Ok(mut url)) = (text.split_once(':'), Url::parse(text)) else {
            return Err(refused(
                "is none",
                "write an address that begins with `https://`, `s3://` or `file:///`",
            ));
        };
        if text.contains(|c: char| c.is_control() || c == ' ') {
            return Err(refused(
                "holds a blank or a control character",
                "write `%20` for a blank, and nothing around the address",
            ));
        }
        url.set_fragment(None);
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            "s3" => Scheme::S3,
            "file" => Scheme::File,
            _ => {
                return Err(refused(
                    "is of no kind that is fetched",
                    "write an address that begins with `https:`, `s3:` or `file:`",
                ));
            }
        };
        match scheme {
            Scheme::Https | Scheme::Http => {}
            Scheme::S3 => check_object(&url)?,
            Scheme::File => check_file(text, &url)?,
        }
        Ok(Self { url, scheme })
    }
}

fn check_object(url: &Url) -> Result<(), AddressError> {
    let refused = |why, help: &str| Err(AddressError { why, help: help.to_owned() });
    if url.host_str().is_none_or(str::is_empty) {
        return refused("names no bucket", "write it like `s3://bucket/data.csv`");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refused(
            "holds credentials",
            "remove them: they are found as the AWS tools find them, for example in `AWS_PROFILE`",
        );
    }
    if url.path().trim_start_matches('/').is_empty() || url.path().ends_with('/') {
        return refused("names no object", "name one object: `s3://bucket/data.csv`");
    }
    let known = |name: &str| BUCKET_PARAMETERS.contains(&name);
    if url.query_pairs().any(|(name, _)| !known(&name)) {
        let known = crate::words::list(&BUCKET_PARAMETERS.map(|name| format!("`{name}`")));
        return Err(AddressError {
            why: "has a parameter that is not known",
            help: format!("use {known}, and `%3F` for a `?` in the object's key"),
        });
    }
    Ok(())
}

fn check_file(text: &str, url: &Url) -> Result<(), AddressError> {
    let refused = |why, help: &str| Err(AddressError { why, help: help.to_owned() });
    let rest = text.split_once(':').map_or("", |(_, rest)| rest);
    if !rest.starts_with("//") || url.host_str().is_some_and(|host| !host.is_empty()) {
        return refused(
            "is no absolute path",
            "write it like `file:///srv/data.csv`; for a file of the repo use `files`",
        );
    }
    if url.query().is_some() {
        return refused("has a query", "write `%3F` for a `?` in a path");
    }
    if url.path().trim_matches('/').is_empty() || url.to_file_path().is_err() {
        return refused("names no file", "write it like `file:///srv/data.csv`");
    }
    Ok(())
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.url.clone();
        if url.set_username("").is_ok() {
            url.set_password(None).ok();
        }
        let has_query = url.query().is_some();
        url.set_query(None);
        let more = if has_query && self.scheme != Scheme::S3 { "?…" } else { "" };
        write!(formatter, "{url}{more}")
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Wanted {
    /// What tells it from everything else that can be wanted, without a word of the address.
    pub fn id(&self) -> Digest {
        let expected = self.expected.map(|expected| expected.to_string()).unwrap_or_default();
        Digest::of(format!("{} {expected}", self.address.id()).as_bytes())
    }

    /// The name that a file keeps, else this one.
    pub fn file_name_or(&self, name: &str) -> String {
        self.address.file_name().unwrap_or_else(|| name.to_owned())
    }
}

impl FromStr for Expected {
    type Err = ExpectedError;

    fn from_str(text: &str) -> Result<Self, ExpectedError> {
        let none = || ExpectedError(text.to_owned());
        let (kind, hex) = text.split_once(':').ok_or_else(none)?;
        let bytes = bytes_of(hex).ok_or_else(none)?;
        match kind {
            "sha256" => Ok(Self::Sha256(bytes)),
            "b3" => Ok(Self::Blake3(Digest::from_bytes(bytes))),
            _ => Err(none()),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(bytes) => write!(formatter, "sha256:{}", Digest::from_bytes(*bytes).hex()),
            Self::Blake3(digest) => write!(formatter, "{digest}"),
        }
    }
}

fn bytes_of(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (position, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * position..2 * position + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn why(text: &str) -> &'static str {
        text.parse::<Address>().unwrap_err().why
    }

    #[test]
    fn secrets_of_an_address_are_not_shown() {
        let address = address("https://me:pass@x.org:8443/a/b.csv?token=hush#top");
        assert_eq!(address.to_string(), "https://x.org:8443/a/b.csv?…");
        assert_eq!(format!("{address:?}"), "https://x.org:8443/a/b.csv?…");
        assert!(address.has_password());
        assert_eq!(address.url().query(), Some("token=hush"));
        let bucket = self::address("s3://b/k?endpoint=http://127.0.0.1:9&profile=team");
        assert_eq!(bucket.to_string(), "s3://b/k");
    }

    #[test]
    fn the_same_place_has_one_id_whoever_asks() {
        let id = |text: &str| address(text).id();
        assert_eq!(id("https://x.org/a"), id("https://me:you@x.org/a#b"));
        assert_ne!(id("https://x.org/a?v=1"), id("https://x.org/a?v=2"));
        let wanted = |expected: Option<&str>| Wanted {
            address: address("https://x.org/a"),
            expected: expected.map(|text| text.parse().unwrap()),
            token: None,
        };
        let some = format!("sha256:{}", "ab".repeat(32));
        assert_ne!(wanted(None).id(), wanted(Some(&some)).id());
    }

    #[test]
    fn a_file_keeps_the_last_part_of_the_path() {
        let name = |text: &str| address(text).file_name();
        assert_eq!(name("https://x.org/a/my%20data.csv?x=/y"), Some("my data.csv".to_owned()));
        assert_eq!(name("file:///srv/data/"), Some("data".to_owned()));
        for none in ["https://x.org", "https://x.org/", "https://x.org/a%2Fb", "https://x.org/%00"]
        {
            assert_eq!(name(none), None, "{none}");
        }
        let long = format!("https://x.org/{}", "a".repeat(256));
        assert_eq!(name(&long), None);
    }

    #[test]
    fn addresses_that_lead_nowhere_are_refused() {
        for (text, expected) in [
            ("data.csv", "is none"),
            ("https://", "is none"),
            ("https://x.org/a b", "holds a blank or a control character"),
            ("ftp://x.org/a", "is of no kind that is fetched"),
            ("s3://b", "names no object"),
            ("s3://b/a/", "names no object"),
            ("s3://key:secret@b/a", "holds credentials"),
            ("s3://b/a?versionId=1", "has a parameter that is not known"),
            ("file:data.csv", "is no absolute path"),
            ("file:/srv/data.csv", "is no absolute path"),
            ("file://host/data.csv", "is no absolute path"),
            ("file:///", "names no file"),
            ("file:///a?b", "has a query"),
        ] {
            assert_eq!(why(text), expected, "{text}");
        }
    }

    #[test]
    fn only_a_digest_makes_a_clear_address_sure() {
        for here in ["http://127.0.0.1:80/a", "http://[::1]/a", "http://localhost/a"] {
            assert!(!address(here).needs_digest(), "{here}");
        }
        assert!(address("http://x.org/a").needs_digest());
        assert!(!address("https://x.org/a").needs_digest());
    }

    #[test]
    fn an_object_is_a_bucket_and_a_key() {
        let (bucket, key) = address("s3://b/a/my%20data.csv?region=eu-west-1").object().unwrap();
        assert_eq!((bucket.as_str(), key.as_str()), ("s3://b?region=eu-west-1", "a/my data.csv"));
        assert_eq!(address("https://b/a").object(), None);
        assert_eq!(address("file:///srv/a%20b").path(), Some("/srv/a b".into()));
    }

    #[test]
    fn digests_are_of_two_kinds() {
        let hex = "0123456789abcdef".repeat(4);
        for text in [format!("sha256:{hex}"), format!("b3:{hex}")] {
            assert_eq!(text.parse::<Expected>().unwrap().to_string(), text);
        }
        assert_eq!(
            format!("sha256:{}", hex.to_uppercase()).parse::<Expected>(),
            format!("sha256:{hex}").parse()
        );
        for none in
            [hex.clone(), format!("md5:{hex}"), "sha256:12".to_owned(), format!("b3:+{hex}")]
        {
            assert!(none.parse::<Expected>().is_err(), "{none}");
        }
    }
}
