//! What is special to Postgres: connections, how a transaction ended whose answer was lost, making and migrating the tables.

mod connections;
mod open;
mod place;

use std::time::Duration;

pub(super) use connections::{Connections, Held};
pub(super) use open::open;
pub use place::PostgresPlace;

use super::patience::{Patience, is_lost};
use super::statement::statement;

/// No statement takes longer; a connection that says nothing for so long is taken for lost.
const LONGEST_STATEMENT: Duration = Duration::from_mins(1);

/// The time of the database, in Unix milliseconds.
pub(super) const NOW: &str = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";

/// Waits for an answer, but not for ever.
pub(super) async fn within<T>(
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    tokio::time::timeout(LONGEST_STATEMENT, answer).await.unwrap_or_else(|_| {
        let why = "the database has not answered for 60 s";
        Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, why)))
    })
}

/// How a transaction ended whose connection was lost while it was committed: `Ok` when it was, else `error`, and nothing was written.
///
/// Asked in the place of the lost connection, so that nobody waits for a place who holds one. The server knows it for far longer than
/// is waited here, also after a crash of its own. When it does not answer at all, nobody knows, and the error says so; it is not
/// one that is tried again.
pub(super) async fn outcome(
    held: &mut Held,
    number: i64,
    error: sqlx::Error,
) -> Result<(), sqlx::Error> {
    let mut patience = Patience::new(held.connections());
    held.connections().forget();
    loop {
        let why = match asked(held, number).await {
            Ok(status) if status == "committed" => return Ok(()),
            // Its connection is gone for us and not yet for the server.
            Ok(status) if status == "in progress" => None,
            Ok(_) => return Err(error),
            // A server that took over from another one has never had this transaction.
            Err(other) if is_of_the_future(&other) => return Err(error),
            Err(other) if is_lost(&other) || super::patience::is_busy(&other) => {
                held.connections().forget();
                Some(other)
            }
            Err(other) => return Err(unknown(&other)),
        };
        if !patience.pause(why.as_ref().unwrap_or(&error)).await {
            return Err(unknown(&error));
        }
    }
}

async fn asked(held: &mut Held, number: i64) -> Result<String, sqlx::Error> {
    held.renew().await?;
    let row = statement("SELECT COALESCE(txid_status($1), 'aborted')")
        .bind(number)
        .fetch_one(held)
        .await?;
    row.try_get(0)
}

/// "transaction ID … is in the future".
fn is_of_the_future(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "22023")
}

fn unknown(error: &sqlx::Error) -> sqlx::Error {
    let why = format!("{error}; it is not known whether the last change was written");
    sqlx::Error::Configuration(why.into())
}
