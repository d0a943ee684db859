//! Pieces of SQL that SQLite and Postgres both take, and values on their way in and out.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::postgres::{PgArguments, PgRow, Postgres};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, ColumnIndex, Decode, SqlSafeStr, SqlStr, Sqlite, Type};

use super::database::Channel;

/// Rows of one multi-row statement. Full ones are kept prepared; their parameters stay far below both databases' limits.
pub(super) const ROWS_AT_ONCE: usize = 16;

/// A value of a column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell<'q> {
    /// TEXT.
    Text(Option<Cow<'q, str>>),
    /// BIGINT.
    Integer(Option<i64>),
    /// DOUBLE PRECISION.
    Real(f64),
}

impl Cell<'_> {
    /// The same, without a copy of its text.
    pub(super) fn borrowed(&self) -> Cell<'_> {
        match self {
            Self::Text(text) => Cell::Text(text.as_deref().map(Cow::Borrowed)),
            Self::Integer(number) => Cell::Integer(*number),
            Self::Real(number) => Cell::Real(*number),
        }
    }

    fn add_to<'t, A>(self, arguments: &mut A) -> Result<(), sqlx::error::BoxDynError>
    where
        A: Arguments,
        Option<String>: sqlx::Encode<'t, A::Database> + Type<A::Database>,
        i64: sqlx::Encode<'t, A::Database> + Type<A::Database>,
        Option<i64>: sqlx::Encode<'t, A::Database> + Type<A::Database>,
        f64: sqlx::Encode<'t, A::Database> + Type<A::Database>,
    {
        match self {
            Self::Text(text) => arguments.add(text.map(Cow::into_owned)),
            Self::Integer(number) => arguments.add(number),
            Self::Real(number) => arguments.add(number),
        }
    }
}

impl<'q> From<&'q str> for Cell<'q> {
    fn from(text: &'q str) -> Self {
        Self::Text(Some(Cow::Borrowed(text)))
    }
}

impl<'q> From<&'q String> for Cell<'q> {
    fn from(text: &'q String) -> Self {
        text.as_str().into()
    }
}

impl From<String> for Cell<'_> {
    fn from(text: String) -> Self {
        Self::Text(Some(Cow::Owned(text)))
    }
}

impl<'q> From<Option<&'q str>> for Cell<'q> {
    fn from(text: Option<&'q str>) -> Self {
        Self::Text(text.map(Cow::Borrowed))
    }
}

impl<'q> From<&'q Option<String>> for Cell<'q> {
    fn from(text: &'q Option<String>) -> Self {
        text.as_deref().into()
    }
}

impl From<Option<String>> for Cell<'_> {
    fn from(text: Option<String>) -> Self {
        Self::Text(text.map(Cow::Owned))
    }
}

impl From<i64> for Cell<'_> {
    fn from(number: i64) -> Self {
        Self::Integer(Some(number))
    }
}

impl From<f64> for Cell<'_> {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

/// A statement of either database with its parameters, bound as they come.
#[derive(Debug, Clone)]
pub(super) struct Statement<'q> {
    sql: SqlStr,
    cells: Vec<Cell<'q>>,
    keep: bool,
}

/// A statement, kept prepared unless [`Statement::persistent`] says otherwise.
pub(super) fn statement<'q>(sql: impl SqlSafeStr) -> Statement<'q> {
    Statement { sql: sql.into_sql_str(), cells: Vec::new(), keep: true }
}

impl<'q> Statement<'q> {
    /// Binds the next parameter.
    pub(super) fn bind(mut self, cell: impl Into<Cell<'q>>) -> Self {
        self.cells.push(cell.into());
        self
    }

    /// Whether it is kept prepared.
    pub(super) fn persistent(mut self, keep: bool) -> Self {
        self.keep = keep;
        self
    }

    /// Does it; says how many rows it touched.
    pub(super) async fn execute(self, on: &mut impl Channel) -> Result<u64, sqlx::Error> {
        on.link().execute(self).await
    }

    /// All its rows.
    pub(super) async fn fetch_all(self, on: &mut impl Channel) -> Result<Vec<Row>, sqlx::Error> {
        on.link().fetch_all(self).await
    }

    /// Its first row, if there is one.
    pub(super) async fn fetch_optional(
        self,
        on: &mut impl Channel,
    ) -> Result<Option<Row>, sqlx::Error> {
        let mut rows = self.fetch_all(on).await?;
        Ok(if rows.is_empty() { None } else { Some(rows.swap_remove(0)) })
    }

    /// Its first row.
    pub(super) async fn fetch_one(self, on: &mut impl Channel) -> Result<Row, sqlx::Error> {
        self.fetch_optional(on).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// As SQLite takes it.
    pub(super) fn for_sqlite(self) -> Result<SqliteQuery, sqlx::Error> {
        let mut arguments = SqliteArguments::default();
        for cell in self.cells {
            cell.add_to(&mut arguments).map_err(sqlx::Error::Encode)?;
        }
        Ok(sqlx::query_with(self.sql, arguments).persistent(self.keep))
    }

    /// As Postgres takes it.
    pub(super) fn for_postgres(self) -> Result<PostgresQuery, sqlx::Error> {
        let mut arguments = PgArguments::default();
        for cell in self.cells {
            cell.add_to(&mut arguments).map_err(sqlx::Error::Encode)?;
        }
        Ok(sqlx::query_with(self.sql, arguments).persistent(self.keep))
    }
}

/// A statement for SQLite.
pub(super) type SqliteQuery = sqlx::query::Query<'static, Sqlite, SqliteArguments>;

/// A statement for Postgres.
pub(super) type PostgresQuery = sqlx::query::Query<'static, Postgres, PgArguments>;

/// A row of either database.
#[derive(Debug)]
pub(super) enum Row {
    /// Of SQLite.
    Sqlite(SqliteRow),
    /// Of Postgres.
    Postgres(PgRow),
}

impl Row {
    /// The value of a column, by its name or place.
    pub(super) fn try_get<'r, T, I>(&'r self, column: I) -> Result<T, sqlx::Error>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
        I: ColumnIndex<SqliteRow> + ColumnIndex<PgRow>,
    {
        match self {
            Self::Sqlite(row) => sqlx::Row::try_get(row, column),
            Self::Postgres(row) => sqlx::Row::try_get(row, column),
        }
    }
}

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
