//! Pieces of SQL that SQLite and Postgres both take, and values on their way in and out.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments};

/// Rows of one multi-row statement. Full ones are kept prepared; their parameters stay far below both databases' limits.
pub(super) const ROWS_AT_ONCE: usize = 16;

/// A value of a column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    /// TEXT.
    Text(Option<String>),
    /// BIGINT.
    Integer(Option<i64>),
}

/// A statement whose parameters are bound as they come.
pub(super) type Statement<'q> = Query<'q, Sqlite, SqliteArguments>;

/// `($1, $2), ($3, $4)` for `rows` rows, counted from `first`.
pub(super) fn placeholders(rows: usize, columns: usize, first: usize) -> String {
    let mut sql = String::with_capacity(rows * columns * 7);
    for row in 0..rows {
        for column in 0..columns {
            let before = match (row, column) {
                (0, 0) => "(",
                (_, 0) => "), (",
                _ => ", ",
            };
            sql.push_str(before);
            sql.push('$');
            sql.push_str(&(first + row * columns + column).to_string());
        }
    }
    sql.push(')');
    sql
}

/// Binds a cell.
pub(super) fn bind<'q>(statement: Statement<'q>, cell: &Cell) -> Statement<'q> {
    match cell {
        Cell::Text(text) => statement.bind(text.clone()),
        Cell::Integer(number) => statement.bind(*number),
    }
}

/// As JSON. Types of the vocabulary always serialise (maps have text keys).
pub(super) fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Reads a column that holds JSON.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, sqlx::Error> {
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// Reads a column that holds a name, an identifier or a digest.
pub(super) fn name<T>(text: &str) -> Result<T, sqlx::Error>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|error: T::Err| sqlx::Error::Decode(error.into()))
}

/// Milliseconds, epochs and counters fit: 2⁶³ ms are 292 million years.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The other way; no column holds a negative number.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A count that fits 32 bits.
pub(super) fn small(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(0)
}
