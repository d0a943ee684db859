//! Services: what is live and what shall be. Written with `synchronous=FULL`, one transaction each; every process of a home may call.

use sqlx::AssertSqlSafe;

use super::database::{Subject, Transaction, Writer};
use super::statement::{Row, integer, json, name, parse, small, statement, unsigned};
use super::{State, StateError};
use crate::names::{PipelineName, ReleaseId, RunId, ServiceId};
use crate::release::{Fate, Release};

/// A service as it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRow {
    /// Which.
    pub service: ServiceId,
    /// The home that keeps it up.
    pub home: ServiceHome,
    /// The live release.
    pub live: Option<ReleaseId>,
    /// The release that is being rolled out, and its run (none: a rollback).
    pub candidate: Option<(ReleaseId, Option<RunId>)>,
    /// How many replicas shall run.
    pub wanted: u32,
    /// Where it is reached.
    pub port: u16,
    /// The path of the gateway that leads to it.
    pub route: Option<String>,
    /// Raised with every change.
    pub generation: u64,
    /// Unix milliseconds.
    pub changed_at: u64,
}

/// The home that keeps a service up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceHome {
    /// The one that asks.
    This,
    /// Another one that shares the state: its id; its machine and folder when they are known.
    #[expect(missing_docs, reason = "the doc of a variant names its fields")]
    Other { id: String, host: String, folder: String },
}

impl std::fmt::Display for ServiceHome {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::This => formatter.write_str("this one"),
            Self::Other { id, host, .. } if host.is_empty() => formatter.write_str(id),
            Self::Other { host, folder, .. } => write!(formatter, "`{folder}` on {host}"),
        }
    }
}

/// What came of [`State::promote`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    /// It is live now; what was before.
    Done(Option<ReleaseId>),
    /// Another one is live; nothing changed.
    LiveIs(Option<ReleaseId>),
}

/// Whose row: binds `$1` and `$2`.
const ITS: &str = "pipeline = $1 AND target = '' AND stage = $2";

impl State {
    /// Services (of a pipeline) that this home keeps up, by name.
    pub async fn services_here(
        &self,
        pipeline: Option<&PipelineName>,
    ) -> Result<Vec<ServiceRow>, StateError> {
        let mut rows = self.services(pipeline).await?;
        rows.retain(|row| row.home == ServiceHome::This);
        Ok(rows)
    }

    /// Services (of a pipeline), by name; also those that other homes keep up.
    pub async fn services(
        &self,
        pipeline: Option<&PipelineName>,
    ) -> Result<Vec<ServiceRow>, StateError> {
        let rows = statement(
            "SELECT pipeline, stage, home, home.host, home.folder, live, candidate, candidate_run, wanted, port, route, \
               generation, changed_at \
             FROM service LEFT JOIN home ON home.id = service.home \
             WHERE $1 IS NULL OR pipeline = $1 ORDER BY pipeline, stage",
        )
        .bind(pipeline.map(PipelineName::as_str));
        self.values(rows, |row| service_row(row, self.installation())).await
    }

    /// Says that a release is being rolled out by a run (none: a rollback); makes the service's row (nothing live, `wanted`, `port`
    /// and `route` of the release) when it is the first. One that was abandoned is a candidate again; one that is or was live
    /// stays what it is until [`State::promote`]. An error when it was removed from the history meanwhile.
    pub async fn set_candidate(
        &self,
        release: &Release,
        run: Option<RunId>,
        now: u64,
    ) -> Result<(), StateError> {
        let home = self.installation();
        let set = || async {
            let mut writer = self.inner.database.durable().await?;
            let done = set_candidate(&mut writer, release, (run, home), now).await;
            writer.usual(done).await
        };
        match self.insist(set).await? {
            Offered::Done => Ok(()),
            Offered::Gone => Err(self.gone(release.id)),
            Offered::Elsewhere(id) => Err(self.elsewhere(&release.service, id).await),
        }
    }

    /// Makes a release live if the live one is `if_live_is` (or is it already): in one transaction the row, both fates, `port`, `route` and
    /// `wanted` of the release, and it is no candidate any more. The second time nothing changes, not even a `wanted` that was scaled.
    /// An error when it was removed from the history meanwhile.
    pub async fn promote(
        &self,
        release: &Release,
        if_live_is: Option<ReleaseId>,
        now: u64,
    ) -> Result<Swap, StateError> {
        let home = self.installation();
        let promote = || async {
            let mut writer = self.inner.database.durable().await?;
            let done = promote(&mut writer, (release, home), if_live_is, now).await;
            writer.usual(done).await
        };
        self.insist(promote).await?.ok_or_else(|| self.gone(release.id))
    }

    /// The release will not go live. One that is live or was live stays what it is. A service that never had a live release goes.
    pub async fn abandon(&self, id: ReleaseId, why: &str, now: u64) -> Result<(), StateError> {
        let abandon = || async {
            let mut writer = self.inner.database.durable().await?;
            let done = abandon(&mut writer, id, why, now).await;
            writer.usual(done).await
        };
        self.insist(abandon).await
    }

    /// Other replicas or route for the live release, also in its notes.
    pub async fn adjust_service(
        &self,
        service: &ServiceId,
        wanted: u32,
        route: Option<&str>,
        now: u64,
    ) -> Result<(), StateError> {
        let adjust = || async {
            let mut writer = self.inner.database.durable().await?;
            let done = adjust(&mut writer, service, wanted, route, now).await;
            writer.usual(done).await
        };
        self.insist(adjust).await
    }

    /// `scale`: only how many replicas run now; the release's notes stay.
    pub async fn scale_service(
        &self,
        service: &ServiceId,
        wanted: u32,
        now: u64,
    ) -> Result<(), StateError> {
        let sql = format!(
            "UPDATE service SET wanted = $3, generation = generation + 1, changed_at = $4 WHERE {ITS}"
        );
        let change = statement(AssertSqlSafe(sql))
            .bind(service.pipeline.as_str())
            .bind(service.stage.as_str())
            .bind(i64::from(wanted))
            .bind(integer(now));
        self.write_durably(change).await
    }

    /// The service is no more; its releases stay in the history, the live one as taken down, a candidate as abandoned.
    pub async fn remove_service(&self, service: &ServiceId, now: u64) -> Result<(), StateError> {
        let remove = || async {
            let mut writer = self.inner.database.durable().await?;
            let done = remove(&mut writer, service, now).await;
            writer.usual(done).await
        };
        self.insist(remove).await
    }

    async fn elsewhere(&self, service: &ServiceId, id: String) -> StateError {
        let rows = self.services(Some(&service.pipeline)).await.unwrap_or_default();
        let home = rows.into_iter().find(|row| row.service == *service).map(|row| row.home);
        let home = home.map_or(id, |home| home.to_string());
        StateError::ServedElsewhere { service: service.clone(), home }
    }

    fn gone(&self, release: ReleaseId) -> StateError {
        self.broken(format!("there is no release {release} any more"))
    }
}

/// Changes what became of a release; `false` when it is not in the history.
async fn set_fate(
    connection: &mut Transaction<'_>,
    id: ReleaseId,
    fate: &Fate,
    now: u64,
) -> Result<bool, sqlx::Error> {
    let done = statement("UPDATE release SET fate = $2, fate_at = $3 WHERE id = $1 AND pruned = 0")
        .bind(id.to_string())
        .bind(json(fate))
        .bind(integer(now))
        .execute(connection)
        .await?;
    Ok(done > 0)
}

async fn fate_of(
    connection: &mut Transaction<'_>,
    id: ReleaseId,
) -> Result<Option<Fate>, sqlx::Error> {
    let row = statement("SELECT fate FROM release WHERE id = $1 AND pruned = 0")
        .bind(id.to_string())
        .fetch_optional(connection)
        .await?;
    row.map(|row| parse(row.try_get(0)?)).transpose()
}

/// What the row of a service names: live and candidate; none when there is no row.
async fn named(
    connection: &mut Transaction<'_>,
    service: &ServiceId,
) -> Result<Option<(Option<ReleaseId>, Option<ReleaseId>)>, sqlx::Error> {
    let sql = format!("SELECT live, candidate FROM service WHERE {ITS}");
    let found = statement(AssertSqlSafe(sql))
        .bind(service.pipeline.as_str())
        .bind(service.stage.as_str())
        .fetch_optional(connection)
        .await?;
    let id =
        |row: &Row, column: usize| row.try_get::<Option<&str>, _>(column)?.map(name).transpose();
    found.map(|row| Ok((id(&row, 0)?, id(&row, 1)?))).transpose()
}

/// What came of naming a candidate.
enum Offered {
    Done,
    /// The release was removed from the history.
    Gone,
    /// The home with this id keeps the service up.
    Elsewhere(String),
}

async fn set_candidate(
    writer: &mut Writer<'_>,
    release: &Release,
    (run, home): (Option<RunId>, &str),
    now: u64,
) -> Result<Offered, sqlx::Error> {
    let mut transaction = writer.begin(Subject::Services).await?;
    let sql = format!("SELECT home FROM service WHERE {ITS}");
    let kept_by = statement(AssertSqlSafe(sql))
        .bind(release.service.pipeline.as_str())
        .bind(release.service.stage.as_str())
        .fetch_optional(&mut transaction)
        .await?;
    if let Some(row) = kept_by
        && row.try_get::<&str, _>(0)? != home
    {
        return Ok(Offered::Elsewhere(row.try_get(0)?));
    }
    match fate_of(&mut transaction, release.id).await? {
        None => return Ok(Offered::Gone),
        Some(Fate::Abandoned(_)) => {
            set_fate(&mut transaction, release.id, &Fate::Candidate, now).await?;
        }
        Some(Fate::Candidate | Fate::Live | Fate::Replaced | Fate::TakenDown) => {}
    }
    statement(
        "INSERT INTO service (pipeline, stage, home, candidate, candidate_run, wanted, port, route, generation, changed_at) \
         VALUES ($1, $2, $9, $3, $4, $5, $6, $7, 1, $8) \
         ON CONFLICT (pipeline, target, stage) DO UPDATE SET candidate = excluded.candidate, candidate_run = excluded.candidate_run, \
           generation = service.generation + 1, changed_at = excluded.changed_at",
    )
    .bind(release.service.pipeline.as_str())
    .bind(release.service.stage.as_str())
    .bind(release.id.to_string())
    .bind(run.map(|run| run.to_string()))
    .bind(i64::from(release.notes.replicas))
    .bind(i64::from(release.behaviour.serving.port))
    .bind(&release.notes.route)
    .bind(integer(now))
    .bind(home)
    .execute(&mut transaction)
    .await?;
    transaction.commit().await?;
    Ok(Offered::Done)
}

async fn promote(
    writer: &mut Writer<'_>,
    (release, home): (&Release, &str),
    if_live_is: Option<ReleaseId>,
    now: u64,
) -> Result<Option<Swap>, sqlx::Error> {
    let mut transaction = writer.begin(Subject::Services).await?;
    let live = named(&mut transaction, &release.service).await?.and_then(|(live, _)| live);
    if live == Some(release.id) {
        no_candidate(&mut transaction, release.id, now).await?;
        transaction.commit().await?;
        return Ok(Some(Swap::Done(if_live_is)));
    }
    if live != if_live_is {
        return Ok(Some(Swap::LiveIs(live)));
    }
    if !set_fate(&mut transaction, release.id, &Fate::Live, now).await? {
        return Ok(None);
    }
    if let Some(before) = live {
        set_fate(&mut transaction, before, &Fate::Replaced, now).await?;
    }
    statement(
        "INSERT INTO service (pipeline, stage, home, live, wanted, port, route, generation, changed_at) \
         VALUES ($1, $2, $8, $3, $4, $5, $6, 1, $7) \
         ON CONFLICT (pipeline, target, stage) DO UPDATE SET live = excluded.live, wanted = excluded.wanted, port = excluded.port, \
           route = excluded.route, generation = service.generation + 1, changed_at = excluded.changed_at",
    )
    .bind(release.service.pipeline.as_str())
    .bind(release.service.stage.as_str())
    .bind(release.id.to_string())
    .bind(i64::from(release.notes.replicas))
    .bind(i64::from(release.behaviour.serving.port))
    .bind(&release.notes.route)
    .bind(integer(now))
    .bind(home)
    .execute(&mut transaction)
    .await?;
    no_candidate(&mut transaction, release.id, now).await?;
    transaction.commit().await?;
    Ok(Some(Swap::Done(live)))
}

/// No service has this release as its candidate any more. Another one stays.
async fn no_candidate(
    connection: &mut Transaction<'_>,
    id: ReleaseId,
    now: u64,
) -> Result<(), sqlx::Error> {
    statement(
        "UPDATE service SET candidate = NULL, candidate_run = NULL, generation = generation + 1, changed_at = $2 WHERE candidate = $1",
    )
    .bind(id.to_string())
    .bind(integer(now))
    .execute(connection)
    .await?;
    Ok(())
}

async fn abandon(
    writer: &mut Writer<'_>,
    id: ReleaseId,
    why: &str,
    now: u64,
) -> Result<(), sqlx::Error> {
    let mut transaction = writer.begin(Subject::Services).await?;
    if fate_of(&mut transaction, id).await? == Some(Fate::Candidate) {
        set_fate(&mut transaction, id, &Fate::Abandoned(why.to_owned()), now).await?;
    }
    no_candidate(&mut transaction, id, now).await?;
    statement(
        "DELETE FROM service WHERE live IS NULL AND candidate IS NULL \
         AND EXISTS (SELECT 1 FROM release WHERE release.id = $1 AND release.pipeline = service.pipeline \
                     AND release.target = service.target AND release.stage = service.stage)",
    )
    .bind(id.to_string())
    .execute(&mut transaction)
    .await?;
    transaction.commit().await
}

async fn adjust(
    writer: &mut Writer<'_>,
    service: &ServiceId,
    wanted: u32,
    route: Option<&str>,
    now: u64,
) -> Result<(), sqlx::Error> {
    let mut transaction = writer.begin(Subject::Services).await?;
    let sql = format!(
        "UPDATE service SET wanted = $3, route = $4, generation = generation + 1, changed_at = $5 WHERE {ITS}"
    );
    statement(AssertSqlSafe(sql))
        .bind(service.pipeline.as_str())
        .bind(service.stage.as_str())
        .bind(i64::from(wanted))
        .bind(route)
        .bind(integer(now))
        .execute(&mut transaction)
        .await?;
    if let Some((Some(live), _)) = named(&mut transaction, service).await? {
        let id = live.to_string();
        let row = statement("SELECT body FROM release WHERE id = $1")
            .bind(&id)
            .fetch_one(&mut transaction)
            .await?;
        let mut release: Release = parse(row.try_get(0)?)?;
        release.notes.replicas = wanted;
        release.notes.route = route.map(str::to_owned);
        statement("UPDATE release SET body = $2 WHERE id = $1")
            .bind(&id)
            .bind(json(&release))
            .execute(&mut transaction)
            .await?;
    }
    transaction.commit().await
}

async fn remove(writer: &mut Writer<'_>, service: &ServiceId, now: u64) -> Result<(), sqlx::Error> {
    let mut transaction = writer.begin(Subject::Services).await?;
    let (live, candidate) = named(&mut transaction, service).await?.unwrap_or_default();
    if let Some(live) = live {
        set_fate(&mut transaction, live, &Fate::TakenDown, now).await?;
    }
    if let Some(candidate) = candidate
        && fate_of(&mut transaction, candidate).await? == Some(Fate::Candidate)
    {
        let why = Fate::Abandoned("the service was taken down".to_owned());
        set_fate(&mut transaction, candidate, &why, now).await?;
    }
    let sql = format!("DELETE FROM service WHERE {ITS}");
    statement(AssertSqlSafe(sql))
        .bind(service.pipeline.as_str())
        .bind(service.stage.as_str())
        .execute(&mut transaction)
        .await?;
    transaction.commit().await
}

fn service_row(row: &Row, this_home: &str) -> Result<ServiceRow, sqlx::Error> {
    let id = |column: &str| row.try_get::<Option<&str>, _>(column)?.map(name).transpose();
    let run = row.try_get::<Option<&str>, _>("candidate_run")?.map(name).transpose()?;
    Ok(ServiceRow {
        service: ServiceId {
            pipeline: name(row.try_get("pipeline")?)?,
            stage: name(row.try_get("stage")?)?,
        },
        home: match row.try_get::<&str, _>("home")? {
            home if home == this_home => ServiceHome::This,
            home => ServiceHome::Other {
                id: home.to_owned(),
                host: row.try_get::<Option<String>, _>("host")?.unwrap_or_default(),
                folder: row.try_get::<Option<String>, _>("folder")?.unwrap_or_default(),
            },
        },
        live: id("live")?,
        candidate: id("candidate")?.map(|candidate| (candidate, run)),
        wanted: small(row.try_get("wanted")?),
        port: u16::try_from(row.try_get::<i64, _>("port")?).unwrap_or(0),
        route: row.try_get("route")?,
        generation: unsigned(row.try_get("generation")?),
        changed_at: unsigned(row.try_get("changed_at")?),
    })
}
