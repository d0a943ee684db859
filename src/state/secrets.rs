//! Sealed secrets and their versions. Written with `synchronous=FULL`, one transaction each; every process of a home may call.

use super::database::{Subject, Writer};
use super::statement::{Row, integer, statement, unsigned};
use super::{State, StateError};
use crate::secret::SecretId;

/// An entry of a secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRow {
    /// Which.
    pub id: SecretId,
    /// From 1, raised with every new value, also after it was removed.
    pub version: u64,
    /// Unix milliseconds.
    pub changed_at: u64,
}

impl State {
    /// All entries that are there, by group, name and entry.
    pub async fn secrets(&self) -> Result<Vec<SecretRow>, StateError> {
        let rows = statement(
            "SELECT grp, name, entry, version, changed_at FROM secret WHERE sealed <> '' ORDER BY grp, name, entry",
        );
        self.values(rows, secret_row).await
    }

    /// An entry with its sealed value; none when it is not there.
    pub async fn sealed_secret(
        &self,
        id: &SecretId,
    ) -> Result<Option<(SecretRow, String)>, StateError> {
        let rows = statement(
            "SELECT grp, name, entry, version, changed_at, sealed FROM secret \
             WHERE grp = $1 AND name = $2 AND entry = $3 AND sealed <> ''",
        )
        .bind(&id.group)
        .bind(&id.name)
        .bind(&id.entry);
        let sealed = |row: &Row| Ok((secret_row(row)?, row.try_get("sealed")?));
        Ok(self.values(rows, sealed).await?.pop())
    }

    /// Keeps sealed values, all or none. Says their versions, in the same order.
    pub async fn set_secrets(
        &self,
        sealed: &[(SecretId, String)],
        now: u64,
    ) -> Result<Vec<u64>, StateError> {
        let set = || async {
            let mut writer = self.inner.database.durable().await?;
            let done = set(&mut writer, sealed, now).await;
            writer.usual(done).await
        };
        self.insist(set).await
    }

    /// Removes a secret, or one entry of it. Says how many entries are gone; their versions are remembered.
    pub async fn remove_secret(
        &self,
        group: &str,
        secret: &str,
        entry: Option<&str>,
        now: u64,
    ) -> Result<u64, StateError> {
        let remove = || async {
            let mut writer = self.inner.database.durable().await?;
            let done = remove(&mut writer, (group, secret, entry), now).await;
            writer.usual(done).await
        };
        self.insist(remove).await
    }
}

async fn remove(
    writer: &mut Writer<'_>,
    (group, secret, entry): (&str, &str, Option<&str>),
    now: u64,
) -> Result<u64, sqlx::Error> {
    let mut transaction = writer.begin(Subject::Secrets).await?;
    let gone = statement(
        "UPDATE secret SET sealed = '', changed_at = $4 \
         WHERE grp = $1 AND name = $2 AND ($3 IS NULL OR entry = $3) AND sealed <> ''",
    )
    .bind(group)
    .bind(secret)
    .bind(entry)
    .bind(integer(now))
    .execute(&mut transaction)
    .await?;
    transaction.commit().await?;
    Ok(gone)
}

async fn set(
    writer: &mut Writer<'_>,
    sealed: &[(SecretId, String)],
    now: u64,
) -> Result<Vec<u64>, sqlx::Error> {
    let mut transaction = writer.begin(Subject::Secrets).await?;
    let mut versions = Vec::with_capacity(sealed.len());
    for (id, sealed) in sealed {
        let version: i64 = statement(
            "INSERT INTO secret (grp, name, entry, version, sealed, changed_at) VALUES ($1, $2, $3, 1, $4, $5) \
             ON CONFLICT (grp, name, entry) DO UPDATE SET version = secret.version + 1, sealed = excluded.sealed, \
               changed_at = excluded.changed_at RETURNING version",
        )
        .bind(&id.group)
        .bind(&id.name)
        .bind(&id.entry)
        .bind(sealed)
        .bind(integer(now))
        .fetch_one(&mut transaction)
        .await?
        .try_get(0)?;
        versions.push(unsigned(version));
    }
    transaction.commit().await?;
    Ok(versions)
}

fn secret_row(row: &Row) -> Result<SecretRow, sqlx::Error> {
    Ok(SecretRow {
        id: SecretId {
            group: row.try_get("grp")?,
            name: row.try_get("name")?,
            entry: row.try_get("entry")?,
        },
        version: unsigned(row.try_get("version")?),
        changed_at: unsigned(row.try_get("changed_at")?),
    })
}

#[cfg(test)]
mod tests {
    use sqlx::Connection;

    use super::*;

    fn id(text: &str) -> SecretId {
        let (rest, entry) = text.split_once('#').unwrap();
        let (group, name) = rest.split_once('/').unwrap_or(("", rest));
        SecretId { group: group.into(), name: name.into(), entry: entry.into() }
    }

    async fn shown(state: &State) -> Vec<String> {
        let rows = state.secrets().await.unwrap();
        rows.iter().map(|row| format!("{} {} @{}", row.id, row.version, row.changed_at)).collect()
    }

    #[tokio::test]
    async fn versions_count_up_and_are_never_used_again() {
        let home = tempfile::tempdir().unwrap();
        let state = State::open(home.path()).await.unwrap();
        let (key, other) = (id("aws#KEY"), id("team/aws#KEY"));
        let both = [(key.clone(), "s1".into()), (other.clone(), "s2".into())];
        assert_eq!(state.set_secrets(&both, 10).await.unwrap(), [1, 1]);
        assert_eq!(state.set_secrets(&[(key.clone(), "s3".into())], 20).await.unwrap(), [2]);
        assert_eq!(shown(&state).await, ["aws#KEY 2 @20", "team/aws#KEY 1 @10"]);
        let (row, sealed) = state.sealed_secret(&key).await.unwrap().unwrap();
        assert_eq!((row.version, sealed.as_str()), (2, "s3"));

        assert_eq!(state.remove_secret("", "aws", None, 30).await.unwrap(), 1);
        assert_eq!(state.remove_secret("", "aws", None, 31).await.unwrap(), 0);
        assert_eq!(state.sealed_secret(&key).await.unwrap(), None);
        assert_eq!(shown(&state).await, ["team/aws#KEY 1 @10"]);
        assert_eq!(state.set_secrets(&[(key, "s4".into())], 40).await.unwrap(), [3]);
        assert_eq!(state.sealed_secret(&id("aws#NONE")).await.unwrap(), None);
    }

    #[tokio::test]
    async fn one_entry_goes_and_the_others_stay() {
        let home = tempfile::tempdir().unwrap();
        let state = State::open(home.path()).await.unwrap();
        let all = ["db#A", "db#B", "dbx#A"].map(|text| (id(text), "sealed".to_owned()));
        state.set_secrets(&all, 1).await.unwrap();
        assert_eq!(state.remove_secret("", "db", Some("A"), 2).await.unwrap(), 1);
        assert_eq!(shown(&state).await, ["db#B 1 @1", "dbx#A 1 @1"]);
        assert_eq!(state.remove_secret("", "db", None, 3).await.unwrap(), 1);
        assert_eq!(shown(&state).await, ["dbx#A 1 @1"]);
    }

    #[tokio::test]
    async fn a_home_of_an_earlier_version_gets_the_table() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("state.db");
        let options =
            sqlx::sqlite::SqliteConnectOptions::new().filename(&file).create_if_missing(true);
        let mut old = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
        for sql in [
            include_str!("migrations/0001_batch.sql"),
            include_str!("migrations/0002_services.sql"),
            "INSERT INTO installation VALUES (1, '01JD0000000000000000000000', 0)",
            "PRAGMA user_version = 2",
        ] {
            sqlx::raw_sql(sql).execute(&mut old).await.unwrap();
        }
        old.close().await.unwrap();
        let state = State::open(home.path()).await.unwrap();
        assert_eq!(state.set_secrets(&[(id("a#b"), "s".into())], 1).await.unwrap(), [1]);
    }
}
