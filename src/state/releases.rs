//! Releases: made, read, pruned. Written with `synchronous=FULL`.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::AssertSqlSafe;

use super::database::{Subject, Writer};
use super::statement::{Row, integer, json, name, parse, statement, unsigned};
use super::{State, StateError};
use crate::names::{ReleaseId, ServiceId};
use crate::release::{Behaviour, Fate, Release, ReleaseNotes};

/// A release with what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ReleaseRow {
    /// It.
    pub release: Release,
    /// What became of it.
    pub fate: Fate,
    /// Since when, Unix milliseconds.
    pub fate_at: u64,
}

const RELEASE: &str = "SELECT body, fate, fate_at FROM release WHERE pruned = 0";

impl State {
    /// Makes a release with the next number of its service, fate `candidate`.
    pub async fn create_release(
        &self,
        id: ReleaseId,
        service: &ServiceId,
        behaviour: Behaviour,
        notes: ReleaseNotes,
        now: u64,
    ) -> Result<Release, StateError> {
        let service = service.clone();
        // The number is known inside the transaction only.
        let release = Release { id, service, number: 0, behaviour, notes, made_at: now };
        let make = || async {
            let mut writer = self.inner.database.durable().await?;
            let made = create(&mut writer, release.clone(), now).await;
            writer.usual(made).await
        };
        self.insist(make).await
    }

    /// A release.
    pub async fn release(&self, id: ReleaseId) -> Result<Option<ReleaseRow>, StateError> {
        let rows = statement(AssertSqlSafe(format!("{RELEASE} AND id = $1"))).bind(id.to_string());
        Ok(self.values(rows, release_row).await?.pop())
    }

    /// Releases of a service (none: of all), newest first.
    pub async fn releases(
        &self,
        service: Option<&ServiceId>,
    ) -> Result<Vec<ReleaseRow>, StateError> {
        let rows = if let Some(service) = service {
            let sql = format!(
                "{RELEASE} AND pipeline = $1 AND target = '' AND stage = $2 ORDER BY number DESC"
            );
            statement(AssertSqlSafe(sql))
                .bind(service.pipeline.as_str())
                .bind(service.stage.as_str())
        } else {
            let sql = format!("{RELEASE} ORDER BY made_at DESC, number DESC, id DESC");
            statement(AssertSqlSafe(sql))
        };
        self.values(rows, release_row).await
    }

    /// The live release of a service.
    pub async fn live_release(&self, service: &ServiceId) -> Result<Option<Release>, StateError> {
        let rows = statement(
            "SELECT release.body FROM service JOIN release ON release.id = service.live \
             WHERE service.pipeline = $1 AND service.target = '' AND service.stage = $2",
        )
        .bind(service.pipeline.as_str())
        .bind(service.stage.as_str());
        Ok(self.values(rows, |row| parse(row.try_get("body")?)).await?.pop())
    }

    /// The release that was live before the present one, or, when none is, the last one that was: what `rollback` goes back to.
    pub async fn live_before(&self, service: &ServiceId) -> Result<Option<ReleaseRow>, StateError> {
        let rows = self.releases(Some(service)).await?;
        let found = last_live(&rows);
        Ok(rows.into_iter().find(|row| Some(row.release.id) == found))
    }

    /// What [`State::prune_releases`] would remove.
    pub async fn releases_beyond(&self, keep: u32) -> Result<Vec<ReleaseRow>, StateError> {
        let rows = self.releases(None).await?;
        let mut named = BTreeSet::new();
        for row in self.services(None).await? {
            named.extend(row.live);
            named.extend(row.candidate.map(|(id, _)| id));
        }
        let beyond = beyond(&rows, &named, keep);
        Ok(rows.into_iter().filter(|row| beyond.contains(&row.release.id)).collect())
    }

    /// Takes all but the newest `keep` releases of each service out of the history, never one that is live, a candidate, the one
    /// that was live before, or the newest (so that no number comes twice). Says which, with those of a `gc` that was
    /// cut off. Nobody finds them any more; what they pinned is let go by the caller, and then [`State::forget_release`] ends it.
    pub async fn prune_releases(&self, keep: u32) -> Result<Vec<ReleaseRow>, StateError> {
        let prune = || async {
            let mut writer = self.inner.database.durable().await?;
            let pruned = prune(&mut writer, keep).await;
            writer.usual(pruned).await
        };
        self.insist(prune).await
    }

    /// Removes the row of a pruned release.
    pub async fn forget_release(&self, id: ReleaseId) -> Result<(), StateError> {
        let change =
            statement("DELETE FROM release WHERE id = $1 AND pruned = 1").bind(id.to_string());
        self.write_durably(change).await
    }
}

async fn create(
    writer: &mut Writer<'_>,
    mut release: Release,
    now: u64,
) -> Result<Release, sqlx::Error> {
    let mut transaction = writer.begin(Subject::Services).await?;
    // The newest release of a service is never removed, so this is also above every number that was.
    let last: i64 = statement(
        "SELECT COALESCE(MAX(number), 0) FROM release WHERE pipeline = $1 AND target = '' AND stage = $2",
    )
    .bind(release.service.pipeline.as_str())
    .bind(release.service.stage.as_str())
    .fetch_one(&mut transaction)
    .await?
    .try_get(0)?;
    release.number = unsigned(last) + 1;
    statement(
        "INSERT INTO release (id, pipeline, stage, number, digest, run, body, fate, fate_at, made_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)",
    )
    .bind(release.id.to_string())
    .bind(release.service.pipeline.as_str())
    .bind(release.service.stage.as_str())
    .bind(integer(release.number))
    .bind(release.behaviour.digest().to_string())
    .bind(release.notes.run.to_string())
    .bind(json(&release))
    .bind(json(&Fate::Candidate))
    .bind(integer(now))
    .execute(&mut transaction)
    .await?;
    transaction.commit().await?;
    Ok(release)
}

async fn prune(writer: &mut Writer<'_>, keep: u32) -> Result<Vec<ReleaseRow>, sqlx::Error> {
    let mut transaction = writer.begin(Subject::Services).await?;
    let rows = statement(RELEASE).fetch_all(&mut transaction).await?;
    let rows = rows.iter().map(release_row).collect::<Result<Vec<_>, _>>()?;
    let services =
        statement("SELECT live, candidate FROM service").fetch_all(&mut transaction).await?;
    let mut named: BTreeSet<ReleaseId> = BTreeSet::new();
    for (row, column) in services.iter().flat_map(|row| [(row, "live"), (row, "candidate")]) {
        named.extend(row.try_get::<Option<&str>, _>(column)?.map(name::<ReleaseId>).transpose()?);
    }
    for id in beyond(&rows, &named, keep) {
        statement("UPDATE release SET pruned = 1 WHERE id = $1")
            .bind(id.to_string())
            .execute(&mut transaction)
            .await?;
    }
    let gone = statement("SELECT body, fate, fate_at FROM release WHERE pruned = 1 ORDER BY id")
        .fetch_all(&mut transaction)
        .await?;
    let gone = gone.iter().map(release_row).collect::<Result<Vec<_>, _>>()?;
    transaction.commit().await?;
    Ok(gone)
}

/// Releases of any services that need not be kept. `named`: those that a service's row names.
fn beyond(rows: &[ReleaseRow], named: &BTreeSet<ReleaseId>, keep: u32) -> BTreeSet<ReleaseId> {
    let mut services: BTreeMap<&ServiceId, Vec<&ReleaseRow>> = BTreeMap::new();
    for row in rows {
        services.entry(&row.release.service).or_default().push(row);
    }
    let keep = usize::try_from(keep).unwrap_or(usize::MAX).max(1);
    let mut beyond = BTreeSet::new();
    for of_service in services.values_mut() {
        of_service.sort_by_key(|row| std::cmp::Reverse(row.release.number));
        let before = last_live(of_service.iter().copied());
        let rest = of_service.iter().skip(keep);
        let unneeded = rest.filter(|row| {
            !matches!(row.fate, Fate::Live | Fate::Candidate)
                && !named.contains(&row.release.id)
                && before != Some(row.release.id)
        });
        beyond.extend(unneeded.map(|row| row.release.id));
    }
    beyond
}

/// Among the releases of one service that are live no more, the one that was live last.
fn last_live<'r>(rows: impl IntoIterator<Item = &'r ReleaseRow>) -> Option<ReleaseId> {
    rows.into_iter()
        .filter(|row| matches!(row.fate, Fate::Replaced | Fate::TakenDown))
        .max_by_key(|row| (row.fate_at, row.release.number))
        .map(|row| row.release.id)
}

fn release_row(row: &Row) -> Result<ReleaseRow, sqlx::Error> {
    Ok(ReleaseRow {
        release: parse(row.try_get("body")?)?,
        fate: parse(row.try_get("fate")?)?,
        fate_at: unsigned(row.try_get("fate_at")?),
    })
}
