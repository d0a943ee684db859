//! What passes by itself, and how long it is waited for: a connection that broke, a server that starts again, two transactions that
//! stood in each other's way. A database in the home has nothing of the kind.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{State, StateError};
use crate::state::postgres::Connections;
use crate::weather::Away;

/// So long a database that went away is waited for, unless something else is set.
pub const STATE_PATIENCE: Duration = Duration::from_mins(2);

/// What is over by then is not told.
const UNNOTICED: Duration = Duration::from_millis(500);

/// A database that says nothing for so long is told of, while its answer is still waited for.
const SILENT: Duration = Duration::from_secs(10);

/// The first pause; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// What is to be done about a database that does not answer.
const HELP: &str = "see that the database runs and can be reached from here";

/// Pauses that become longer, until it has been long enough. Says so to those who look at the weather of the connections.
#[derive(Debug)]
pub(super) struct Patience {
    connections: Connections,
    since: Instant,
    until: Instant,
    pause: Duration,
}

impl Patience {
    /// From now.
    pub(super) fn new(connections: &Connections) -> Self {
        let since = Instant::now();
        let until = since + connections.patience();
        Self { connections: connections.clone(), since, until, pause: FIRST_PAUSE }
    }

    /// Pauses because of this, and says whether it is worth another try.
    pub(super) async fn pause(&mut self, why: &sqlx::Error) -> bool {
        let now = Instant::now();
        if now >= self.until {
            return false;
        }
        if is_away(why) && now.duration_since(self.since) >= UNNOTICED {
            self.tell(told(why));
        }
        sleep(self.pause.min(self.until - now)).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }

    fn tell(&self, why: String) {
        let (help, patience) = (HELP.to_owned(), self.connections.patience());
        self.connections.weather().turn_bad(Away { why, help, since: self.since, patience });
    }
}

/// Whether it means that the database cannot be used by anybody for the moment.
fn is_away(error: &sqlx::Error) -> bool {
    is_lost(error) || is_busy(error)
}

/// Whether the connection is gone, and with it the answer. What the server said before it went is an answer.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        // Connection exceptions; ended by the administrator, a crash, a timeout of the session.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            code.starts_with("08") || ["57P01", "57P02", "57P05", "25P03"].contains(&&*code)
        }),
        _ => false,
    }
}

/// Whether a server says that it takes nobody for the moment: it starts, it stops, too many are there.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| ["57P03", "53300"].contains(&&*code))
}

/// Whether the same may go well another time.
fn passes(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    // Could not be put in an order with others; a deadlock, which somebody had to leave.
    is_lost(error)
        || is_busy(error)
        || code.is_some_and(|code| ["40001", "40P01"].contains(&&*code))
}

impl State {
    /// Does it; on Postgres again while what hinders it may pass. It must leave nothing behind when it fails.
    pub(super) async fn insist<T, F>(&self, act: impl Fn() -> F) -> Result<T, StateError>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        let Some(connections) = self.inner.database.shared() else {
            return act().await.map_err(|error| self.broken(error));
        };
        let mut patience = None;
        loop {
            let error = match answered(connections, Box::pin(act())).await {
                Ok(done) => {
                    connections.weather().turn_good();
                    return Ok(done);
                }
                Err(error) => error,
            };
            let again = passes(&error) && self.wait(connections, &mut patience, &error).await;
            if !again {
                return Err(self.broken(told(&error)));
            }
        }
    }

    async fn wait(
        &self,
        connections: &Connections,
        patience: &mut Option<Patience>,
        error: &sqlx::Error,
    ) -> bool {
        if is_lost(error) {
            connections.forget();
        }
        if patience.is_none() {
            tracing::warn!(place = %self.inner.place, %error, "the state cannot be used yet");
        }
        patience.get_or_insert_with(|| Patience::new(connections)).pause(error).await
    }
}

/// The answer; when it takes long, it is said meanwhile that the database says nothing.
async fn answered<T>(
    connections: &Connections,
    mut answer: Pin<Box<impl Future<Output = Result<T, sqlx::Error>>>>,
) -> Result<T, sqlx::Error> {
    let patience = Patience::new(connections);
    if let Ok(done) = timeout(SILENT, &mut answer).await {
        return done;
    }
    patience.tell(format!("it has not answered for {} s", SILENT.as_secs()));
    answer.await
}

/// An error of Postgres as people read it.
pub(super) fn told(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => match error.code().as_deref().and_then(mend_of) {
            Some(mend) => format!("{}: {mend}", error.message()),
            None => error.message().to_owned(),
        },
        sqlx::Error::Io(error) => of_certificate(&error.to_string()),
        error => of_certificate(&error.to_string()),
    }
}

/// What to do about what a server says of who asks (a code of SQLSTATE), where that is always the same.
fn mend_of(code: &str) -> Option<&'static str> {
    Some(match code {
        "28P01" | "28000" => {
            "check user and password, from `PGPASSWORD`, `~/.pgpass` or the address"
        }
        "3D000" => "make it with `createdb`, or correct the address",
        "42501" => "give the user this right, or name a schema of its own (`?schema=…`)",
        _ => return None,
    })
}

/// What is wrong with a certificate, and what to do; any other text as it is.
fn of_certificate(text: &str) -> String {
    let said = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if !said(&["invalid peer certificate"]) {
        return text.to_owned();
    }
    let mend = if said(&["UnknownIssuer", "BadSignature"]) {
        "nobody known has signed its certificate: name the file of its authority as `sslrootcert=…`"
    } else if said(&["NotValidForName", "not valid for"]) {
        "its certificate is for another host: correct the host, or use `sslmode=verify-ca`"
    } else if said(&["Expired", "expired"]) {
        "its certificate is out of date: renew it, or check this machine's clock"
    } else {
        "its certificate is not trusted"
    };
    format!("{mend} ({text})")
}
