//! Which database: a URL of which nothing secret is ever shown.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

use crate::secret::SecretText;
use crate::state::patience::STATE_PATIENCE;
use crate::words::list;

/// What a URL may say behind its `?`.
const PARAMETERS: [&str; 14] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "schema",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// Those of them that name a file.
const FILES: [&str; 3] = ["sslcert", "sslkey", "sslrootcert"];

/// A database in Postgres, and the schema in it. Shown without the password.
#[derive(Clone)]
pub struct PostgresPlace {
    url: SecretText,
    options: PgConnectOptions,
    schema: Option<String>,
    /// Parameters that name a file, and the file.
    files: Vec<(&'static str, PathBuf)>,
    patience: Duration,
}

impl PostgresPlace {
    /// The same; when it goes away it is waited for so long.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// How long it is waited for when it goes away.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// The whole URL, for a process that shall use the same state.
    pub fn url(&self) -> &SecretText {
        &self.url
    }

    /// Why a file that a parameter names cannot be read: the way to the database would only say that some file is not there.
    pub(super) fn unreadable(&self) -> Option<String> {
        let mut files = self.files.iter();
        files.find_map(|(name, path)| {
            let error = fs_err::File::open(path).err()?;
            Some(format!("the file of `{name}`: {error}"))
        })
    }

    /// How to connect.
    pub(super) fn options(&self) -> PgConnectOptions {
        let usual = [
            // Whoever is stopped in the middle of a transaction holds nobody up for long.
            ("idle_in_transaction_session_timeout", "30s"),
            ("tcp_keepalives_idle", "20"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "4"),
        ];
        let options = self.options.clone().options(usual).disable_statement_logging();
        match &self.schema {
            Some(schema) => options.options([("search_path", schema)]),
            None => options,
        }
    }

    /// The schema that was asked for.
    pub(super) fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }
}

impl PartialEq for PostgresPlace {
    fn eq(&self, other: &Self) -> bool {
        self.url == other.url
    }
}

impl Eq for PostgresPlace {}

impl fmt::Debug for PostgresPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PostgresPlace({self})")
    }
}

impl fmt::Display for PostgresPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &self.options;
        let host = options.get_socket().map_or_else(
            || options.get_host().to_owned(),
            |socket| format!("[{}]", socket.display()),
        );
        let (user, port) = (options.get_username(), options.get_port());
        let database = options.get_database().unwrap_or(user);
        write!(formatter, "postgres://{user}@{host}:{port}/{database}")?;
        match &self.schema {
            Some(schema) => write!(formatter, "?schema={schema}"),
            None => Ok(()),
        }
    }
}

impl FromStr for PostgresPlace {
    type Err = String;

    /// The error says nothing of the text but names of parameters that are no secret.
    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text
            .strip_prefix("postgres://")
            .or_else(|| text.strip_prefix("postgresql://"))
            .ok_or("it does not begin with `postgres://`")?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        // These end the password where its writer did not mean it to end, and the rest of it would be taken for something else.
        let in_path = place.split_once('/').is_some_and(|(_, path)| path.contains(['@', '/', ':']));
        if text.contains(['#', ' ', '\n', '\t']) || in_path {
            return Err(ENCODE.to_owned());
        }
        let mut schema = None;
        let (mut kept, mut files) = (Vec::new(), Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if key == "schema" {
                schema = Some(checked(value)?);
            } else if PARAMETERS.contains(&key) || is_option(key) {
                kept.push(pair);
                // One that is written with `%` is looked at by who connects alone.
                if let Some(name) =
                    FILES.into_iter().find(|name| *name == key && !value.contains('%'))
                {
                    files.push((name, PathBuf::from(value)));
                }
            } else {
                return Err(unknown(key));
            }
        }
        let url = format!("postgres://{place}?{}", kept.join("&"));
        let options = PgConnectOptions::from_str(&url).map_err(|error| match error {
            sqlx::Error::Configuration(why) => format!("{why}; {ENCODE}"),
            _ => ENCODE.to_owned(),
        })?;
        let url = SecretText::new(text.to_owned());
        Ok(Self { url, options, schema, files, patience: STATE_PATIENCE })
    }
}

const ENCODE: &str = "the form is `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…`, with special characters of the password as `%xx`";

/// `options[name]`.
fn is_option(key: &str) -> bool {
    key.strip_prefix("options[")
        .is_some_and(|rest| rest.ends_with(']') && is_plain(&rest[..rest.len() - 1]))
}

fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-')
}

fn unknown(key: &str) -> String {
    let known: Vec<String> = PARAMETERS.iter().map(|name| format!("`{name}`")).collect();
    let known = list(&known);
    if is_plain(key) && key.len() < 30 {
        format!("it has no parameter `{key}`; there are {known}")
    } else {
        // It may be the end of a password with a `?`.
        format!("what stands behind the `?` is no parameter; there are {known}; {ENCODE}")
    }
}

fn checked(name: &str) -> Result<String, String> {
    let first = name.chars().next().is_some_and(|c| c.is_ascii_lowercase() || c == '_');
    if first && is_plain(name) && !name.contains('-') && name.len() < 64 {
        return Ok(name.to_owned());
    }
    Err("`schema` has to be a name of small letters, digits and `_`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let place: PostgresPlace = text.parse().unwrap();
        assert_eq!(format!("{place:?}"), format!("PostgresPlace({place})"));
        place.to_string()
    }

    #[test]
    fn a_place_is_shown_without_its_password() {
        assert_eq!(shown("postgres://ann:hunter2@db:5433/runs"), "postgres://ann@db:5433/runs");
        assert_eq!(
            shown("postgresql://ann@db/runs?sslmode=require&schema=team_a&password=hunter2"),
            "postgres://ann@db:5432/runs?schema=team_a"
        );
        assert_eq!(
            shown("postgres://ann:p%40ss@[::1]:1/runs?options=-csearch_path=a"),
            "postgres://ann@[::1]:1/runs"
        );
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (text, why) in [
            ("mysql://a:hunter2@b/c", "does not begin"),
            ("postgres://a:12#hunter2@b/c", "`%xx`"),
            ("postgres://a:12/hunter2@b/c", "`%xx`"),
            ("postgres://a:12?hunter2@b/c", "no parameter"),
            ("postgres://a:hunter2@b:port/c", "`%xx`"),
            ("postgres://a:hunter2@b/c?sslmod=x", "no parameter `sslmod`; there are"),
            ("postgres://a:hunter2@b/c?sslmode=x", "sslmode"),
            ("postgres://a:hunter2@b/c?schema=A;drop", "`schema` has to be"),
        ] {
            let error = text.parse::<PostgresPlace>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
