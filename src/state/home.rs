//! Which home this is: the id that stands on what it makes outside of itself, and the name under which it holds leases.

use std::io::Write;
use std::path::Path;

use sqlx::{AssertSqlSafe, ConnectOptions};

use super::database::Database;
use super::open::{installation, installation_id, private, text};
use super::patience::told;
use super::postgres::NOW;
use super::statement::{statement, unsigned};

/// Where the id of a home lies when its state lies elsewhere.
const FILE: &str = "installation";

/// This home, and this process of it.
#[derive(Debug)]
pub(super) struct ThisHome {
    /// A ULID.
    pub(super) id: String,
    /// This machine and this home, at the begin of the name of every holder of a lease that comes from here. The lock files of
    /// this home say of those whether they live.
    pub(super) place: String,
    /// The name of this process as the holder of leases.
    pub(super) holder: String,
    /// Of a state that homes share: its id.
    pub(super) shares: Option<String>,
}

impl ThisHome {
    /// For a state that nobody else has.
    pub(super) fn new(id: String, home: &Path) -> Self {
        Self::named(id, &folder(home), "", None)
    }

    fn named(id: String, folder: &str, nonce: &str, shares: Option<String>) -> Self {
        let place = format!("{id} {} {folder} ", host());
        let holder = format!("{place}{} {nonce}", std::process::id());
        Self { id, place, holder, shares }
    }
}

/// This home, as the shared state shall know it from now on; written again only when something is new, or once an hour.
pub(super) async fn remember(home: &Path, database: &Database) -> Result<ThisHome, String> {
    let why = |error: sqlx::Error| told(&error);
    let sql = format!(
        "SELECT {NOW}, md5(CAST(random() AS TEXT) || CAST(clock_timestamp() AS TEXT)), id FROM installation"
    );
    let rows = database.read(statement(AssertSqlSafe(sql))).await.map_err(why)?;
    let row = rows.first().ok_or("it does not tell the time")?;
    let now: i64 = row.try_get(0).map_err(why)?;
    let random: String = row.try_get(1).map_err(why)?;
    let shares: String = row.try_get(2).map_err(why)?;
    let chance = u128::from_str_radix(&random, 16).unwrap_or_default();
    let id = own_id(home, installation_id(unsigned(now), chance)).await?;
    let (host, folder) = (host(), folder(home));
    let mut writer = database.writer().await.map_err(why)?;
    statement(
        "INSERT INTO home (id, host, folder, seen_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (id) DO UPDATE SET host = excluded.host, folder = excluded.folder, seen_at = excluded.seen_at \
           WHERE home.host <> excluded.host OR home.folder <> excluded.folder OR home.seen_at < excluded.seen_at - 3600000",
    )
    .bind(&id)
    .bind(&host)
    .bind(&folder)
    .bind(now)
    .execute(&mut writer)
    .await
    .map_err(why)?;
    drop(writer);
    Ok(ThisHome::named(id, &folder, &random, Some(shares)))
}

/// The id of a home: what its file says; else the one of the state that it had for itself before, whose containers it still has;
/// else `fresh`. A crash leaves the file whole or not there.
async fn own_id(home: &Path, fresh: String) -> Result<String, String> {
    if let Some(id) = written_id(home)? {
        return Ok(id);
    }
    fs_err::create_dir_all(home).map_err(text)?;
    let guard = private(&home.join("state.lock")).map_err(text)?;
    let guard = tokio::task::spawn_blocking(move || guard.file().lock().map(|()| guard))
        .await
        .map_err(text)?
        .map_err(text)?;
    if let Some(id) = written_id(home)? {
        return Ok(id);
    }
    let id = before(home).await?.unwrap_or(fresh);
    let half = home.join("installation.new");
    let mut fresh_file = private(&half).map_err(text)?;
    fresh_file.set_len(0).map_err(text)?;
    fresh_file.write_all(format!("{id}\n").as_bytes()).map_err(text)?;
    // Else the power may leave a file without an id.
    fresh_file.sync_all().map_err(text)?;
    fs_err::rename(&half, home.join(FILE)).map_err(text)?;
    drop(guard);
    Ok(id)
}

/// The id that a home was given for a state that lies elsewhere; none when it has only had its own.
pub(super) fn written_id(home: &Path) -> Result<Option<String>, String> {
    let file = home.join(FILE);
    match fs_err::read_to_string(&file) {
        Ok(id) => match id.trim().parse::<ulid::Ulid>() {
            Ok(id) => Ok(Some(id.to_string())),
            Err(_) => Err(format!("{} holds no id of an installation", file.display())),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(text(error)),
    }
}

/// The id in the state that the home had for itself. One that cannot be read is an error: with another id, nobody would find what
/// it made outside of itself any more.
async fn before(home: &Path) -> Result<Option<String>, String> {
    let file = home.join("state.db");
    if !fs_err::metadata(&file).is_ok_and(|metadata| metadata.len() > 0) {
        return Ok(None);
    }
    let why = |error: sqlx::Error| format!("{} cannot be read: {error}", file.display());
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file).read_only(true);
    let mut connection = options.connect().await.map_err(why)?;
    installation(&mut connection).await.map(Some).map_err(why)
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn folder(home: &Path) -> String {
    let whole = fs_err::canonicalize(home).unwrap_or_else(|_| home.to_owned());
    whole.display().to_string()
}
