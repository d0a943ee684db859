//! Where a bucket is: `s3://bucket/prefix?endpoint=…&region=…`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Where a bucket is, and how to reach it. Holds no secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketPlace {
    /// The bucket.
    pub(super) bucket: String,
    /// Empty, or a path without slashes at its ends.
    pub(super) prefix: String,
    /// A server other than AWS.
    pub(super) endpoint: Option<String>,
    /// Where the bucket lies.
    pub(super) region: Option<String>,
    /// The bucket stands in the path and not in the host; by default with an endpoint.
    pub(super) path_style: Option<bool>,
    /// Of the AWS configuration files.
    pub(super) profile: Option<String>,
    /// For how long it is waited for when it goes away, by all who use it together; none: as long as they like.
    pub(super) patience: Option<Duration>,
}

const PARAMETERS: &[&str] = &["`endpoint`", "`region`", "`path_style`", "`profile`"];

/// Why text is no address of a store in a bucket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// Another scheme, or none.
    #[error("`{0}` is no address of a bucket: write `s3://bucket/prefix`")]
    Scheme(String),
    /// No bucket, or one that cannot be.
    #[error(
        "`{0}` cannot be the name of a bucket: 3 to 63 lower-case letters, digits, dots and hyphens"
    )]
    Name(String),
    /// A user and a password have no place in it.
    #[error(
        "credentials have no place in the address of a bucket: give them as `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or as a profile"
    )]
    Credentials,
    /// `//`, `.` or `..` in the prefix.
    #[error("the prefix `{0}` must not have empty parts, `.` or `..`")]
    Prefix(String),
    /// A parameter that is not known.
    #[error("an address of a bucket knows no `{name}`: {known} are possible")]
    Unknown { name: String, known: String },
    /// A parameter with a value that it cannot have.
    #[error("`{name}={value}`: {why}")]
    Value { name: &'static str, value: String, why: &'static str },
    /// `%` that is not followed by two hexadecimal digits, or that makes no UTF-8.
    #[error("`{0}` has a `%` that encodes nothing: a `%` itself is written `%25`")]
    Encoding(String),
}

impl fmt::Display for BucketPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "s3://{}", self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(formatter, "/{}", self.prefix) }
    }
}

impl FromStr for BucketPlace {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let rest =
            text.strip_prefix("s3://").ok_or_else(|| PlaceError::Scheme(shown(text).to_owned()))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        if bucket.contains('@') {
            return Err(PlaceError::Credentials);
        }
        if !can_be_a_bucket(bucket) {
            return Err(PlaceError::Name(bucket.to_owned()));
        }
        let prefix = decoded(prefix)?;
        let prefix = prefix.trim_matches('/');
        let odd = |part: &str| matches!(part, "" | "." | "..") || part.contains(char::is_control);
        if !prefix.is_empty() && prefix.split('/').any(odd) {
            return Err(PlaceError::Prefix(prefix.to_owned()));
        }
        let mut place = Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            endpoint: None,
            region: None,
            path_style: None,
            profile: None,
            patience: None,
        };
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            place.set(name, decoded(value)?)?;
        }
        Ok(place)
    }
}

impl BucketPlace {
    /// The same; a server that goes away is waited for so long.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience: Some(patience), ..self }
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), PlaceError> {
        match name {
            "endpoint" => self.endpoint = Some(endpoint(value)?),
            "region" => self.region = Some(filled("region", value)?),
            "path_style" => self.path_style = Some(switch(value)?),
            "profile" => self.profile = Some(filled("profile", value)?),
            _ => {
                let known = crate::words::list(PARAMETERS);
                return Err(PlaceError::Unknown { name: name.to_owned(), known });
            }
        }
        Ok(())
    }

    /// The object of a name below the prefix.
    pub(super) fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) }
    }

    /// The name below the prefix of an object that lies there.
    pub(super) fn name<'a>(&self, key: &'a str) -> Option<&'a str> {
        if self.prefix.is_empty() {
            return Some(key);
        }
        key.strip_prefix(&self.prefix)?.strip_prefix('/')
    }
}

/// Without what may be a password, for a message.
fn shown(text: &str) -> &str {
    text.rsplit_once('@').map_or(text, |(_, rest)| rest)
}

fn can_be_a_bucket(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (3..=63).contains(&name.len()) && name.chars().all(letter) && !name.starts_with('.')
}

fn endpoint(value: String) -> Result<String, PlaceError> {
    let wrong = |value, why| PlaceError::Value { name: "endpoint", value, why };
    if value.contains('@') {
        return Err(PlaceError::Credentials);
    }
    let Ok(uri) = value.parse::<http::Uri>() else {
        return Err(wrong(value, "this is no URL"));
    };
    match uri.scheme_str() {
        Some("http" | "https") if uri.host().is_some_and(|host| !host.is_empty()) => {
            Ok(value.trim_end_matches('/').to_owned())
        }
        _ => Err(wrong(value, "write it as `http://host:port` or `https://host`")),
    }
}

fn switch(value: String) -> Result<bool, PlaceError> {
    match value.as_str() {
        "true" | "" => Ok(true),
        "false" => Ok(false),
        _ => Err(PlaceError::Value { name: "path_style", value, why: "write `true` or `false`" }),
    }
}

fn filled(name: &'static str, value: String) -> Result<String, PlaceError> {
    if value.is_empty() || value.contains(|c: char| c.is_control() || c == ' ') {
        return Err(PlaceError::Value { name, value, why: "this is no name" });
    }
    Ok(value)
}

/// Without percent-encoding.
fn decoded(text: &str) -> Result<String, PlaceError> {
    let wrong = || PlaceError::Encoding(shown(text).to_owned());
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let digits = part.get(..2).ok_or_else(wrong)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Result<BucketPlace, String> {
        text.parse::<BucketPlace>().map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_names_bucket_prefix_and_the_way_there() {
        let full = place(
            "s3://team-models/a/b%20c/?endpoint=http%3A%2F%2F127.0.0.1:8333/&region=eu-west-1&path_style=false&profile=team",
        )
        .unwrap();
        assert_eq!(full.to_string(), "s3://team-models/a/b c");
        assert_eq!(full.endpoint.as_deref(), Some("http://127.0.0.1:8333"));
        assert_eq!(full.region.as_deref(), Some("eu-west-1"));
        assert_eq!((full.path_style, full.profile.as_deref()), (Some(false), Some("team")));
        assert_eq!(full.key("blob/x"), "a/b c/blob/x");
        assert_eq!(full.name("a/b c/blob/x"), Some("blob/x"));
        assert_eq!(full.name("a/b cd/blob/x"), None);
    }

    #[test]
    fn a_bucket_alone_is_enough() {
        let bare = place("s3://team").unwrap();
        assert_eq!((bare.to_string().as_str(), bare.key("x").as_str()), ("s3://team", "x"));
        assert_eq!(bare.name("x"), Some("x"));
    }

    #[test]
    fn what_is_wrong_is_named_and_no_password_is_shown() {
        for (text, part) in [
            ("https://host/bucket", "s3://bucket/prefix"),
            ("s3:///prefix", "name of a bucket"),
            ("s3://team?regoin=x", "`endpoint`, `region`"),
            ("s3://team?endpoint=127.0.0.1:9", "http://host:port"),
            ("s3://team?path_style=maybe", "`true` or `false`"),
            ("s3://team/a//b", "empty parts"),
            ("s3://team/a/../b", "`..`"),
            ("s3://team/50%", "%25"),
            ("s3://key:word@team/x", "AWS_SECRET_ACCESS_KEY"),
            ("s3://team?endpoint=http://key:word@host", "AWS_SECRET_ACCESS_KEY"),
            ("s3://team?endpoint=http://key:word@ho st", "AWS_SECRET_ACCESS_KEY"),
            ("s3://team?endpoint=http://key:word@host%zz", "%25"),
            ("s3://team?region=key:word@%zz", "%25"),
            ("s4://key:word@team/x", "s3://"),
        ] {
            let error = place(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("word@") && !error.contains("key:"), "{text}: {error}");
        }
    }
}
