//! What happens to a service outside of runs: the stream `service/<pipeline>/<stage>` of the journal.

use super::database::{Subject, Writer};
use super::statement::{Row, integer, json, parse, statement, unsigned};
use super::{State, StateError};
use crate::names::ServiceId;
use crate::release::ServiceEvent;

/// So many of the newest events of a service are kept: one that ends again and again must not fill the disk.
const KEPT: i64 = 1000;

impl State {
    /// Journals what happened to a service. Only the newest 1,000 are kept.
    pub async fn append_service(
        &self,
        service: &ServiceId,
        event: &ServiceEvent,
        now: u64,
    ) -> Result<(), StateError> {
        let stream = stream(service);
        let append = || async {
            let mut writer = self.inner.database.writer().await?;
            append(&mut writer, &stream, event, now).await
        };
        self.insist(append).await
    }

    /// The last `count` things that happened to a service, oldest first, each with Unix milliseconds.
    pub async fn service_events(
        &self,
        service: &ServiceId,
        count: u32,
    ) -> Result<Vec<(u64, ServiceEvent)>, StateError> {
        let rows =
            statement("SELECT at, body FROM event WHERE stream = $1 ORDER BY seq DESC LIMIT $2")
                .bind(stream(service))
                .bind(i64::from(count));
        let event = |row: &Row| Ok((unsigned(row.try_get("at")?), parse(row.try_get("body")?)?));
        let mut events = self.values(rows, event).await?;
        events.reverse();
        Ok(events)
    }
}

fn stream(service: &ServiceId) -> String {
    format!("service/{service}")
}

async fn append(
    writer: &mut Writer<'_>,
    stream: &str,
    event: &ServiceEvent,
    now: u64,
) -> Result<(), sqlx::Error> {
    let mut transaction = writer.begin(Subject::Stream(stream)).await?;
    let last: i64 = statement("SELECT COALESCE(MAX(seq), 0) FROM event WHERE stream = $1")
        .bind(stream)
        .fetch_one(&mut transaction)
        .await?
        .try_get(0)?;
    statement(
        "INSERT INTO event (stream, seq, at, epoch, kind, body) VALUES ($1, $2, $3, 0, $4, $5)",
    )
    .bind(stream)
    .bind(last + 1)
    .bind(integer(now))
    .bind(kind(event))
    .bind(json(event))
    .execute(&mut transaction)
    .await?;
    statement("DELETE FROM event WHERE stream = $1 AND seq <= $2")
        .bind(stream)
        .bind(last + 1 - KEPT)
        .execute(&mut transaction)
        .await?;
    transaction.commit().await
}

/// The column `event.kind`.
fn kind(event: &ServiceEvent) -> &'static str {
    match event {
        ServiceEvent::ReplicaEnded { .. } => "replica_ended",
        ServiceEvent::CrashLooping { .. } => "crash_looping",
        ServiceEvent::Recovered { .. } => "recovered",
        ServiceEvent::Promoted { .. } => "promoted",
        ServiceEvent::Scaled { .. } => "scaled",
        ServiceEvent::RolledBack { .. } => "rolled_back",
        ServiceEvent::Restarted { .. } => "restarted",
        ServiceEvent::TakenDown { .. } => "taken_down",
    }
}
