//! Where the state is: in the home, or in a database that machines share.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{PostgresPlace, STATE_PATIENCE};

/// Where the state is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum StatePlace {
    /// SQLite in the home.
    #[default]
    Home,
    /// Postgres.
    Postgres(Box<PostgresPlace>),
}

impl StatePlace {
    /// The text it was made from, with the password: for a process that shall use the same state, never to be shown.
    pub fn reveal(&self) -> &str {
        match self {
            Self::Home => "sqlite",
            Self::Postgres(place) => place.url().reveal(),
        }
    }
}

impl StatePlace {
    /// The same; a database that goes away is waited for so long.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        match self {
            Self::Home => Self::Home,
            Self::Postgres(place) => Self::Postgres(Box::new(place.with_patience(patience))),
        }
    }

    /// How long a database that goes away is waited for.
    pub fn patience(&self) -> Duration {
        match self {
            Self::Home => STATE_PATIENCE,
            Self::Postgres(place) => place.patience(),
        }
    }
}

impl fmt::Display for StatePlace {
    /// Without the password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Home => formatter.write_str("sqlite"),
            Self::Postgres(place) => place.fmt(formatter),
        }
    }
}

impl FromStr for StatePlace {
    type Err = String;

    /// `sqlite`, or a URL of Postgres. The error says nothing secret.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "sqlite" => Ok(Self::Home),
            text if text.starts_with("postgres") => {
                text.parse().map(|place| Self::Postgres(Box::new(place)))
            }
            _ => Err("it is neither `sqlite` nor a `postgres://` URL".to_owned()),
        }
    }
}
