//! Makes a run's projections anew from its journal.

use super::database::{Subject, Writer};
use super::project::{Step, steps};
use super::statement::{parse, statement, unsigned};
use super::write::apply;
use super::{State, StateError};
use crate::event::RunEvent;
use crate::names::RunId;

impl State {
    /// Makes the rows of a run in `task`, `attempt` and `metric`, and owner, epoch, outcome and end in `run`, anew from its
    /// events. Which tasks there are, the wish, and whether an unended run waits or is active are no events and stay.
    pub async fn rebuild(&self, run: RunId) -> Result<(), StateError> {
        let run = run.to_string();
        let again = || async {
            let mut writer = self.inner.database.writer().await?;
            rebuild(&mut writer, &run).await
        };
        self.insist(again).await
    }
}

async fn rebuild(writer: &mut Writer<'_>, run: &str) -> Result<(), sqlx::Error> {
    let mut transaction = writer.begin(Subject::Run(run)).await?;
    let rows = statement("SELECT at, body FROM event WHERE stream = $1 ORDER BY seq")
        .bind(run)
        .fetch_all(&mut transaction)
        .await?;
    let events = rows
        .iter()
        .map(|row| Ok((unsigned(row.try_get("at")?), parse::<RunEvent>(row.try_get("body")?)?)))
        .collect::<Result<Vec<_>, sqlx::Error>>()?;
    for sql in [
        "DELETE FROM metric WHERE run = $1",
        "DELETE FROM attempt WHERE run = $1",
        "UPDATE task SET state = 'waiting', reason = NULL, stage_key = NULL, reused_from = NULL, outputs = NULL, \
         \"values\" = NULL, attempts = 0, started_at = NULL, ended_at = NULL WHERE run = $1",
    ] {
        statement(sql).bind(run).execute(&mut transaction).await?;
    }
    let mut steps = steps(events.iter().map(|(at, event)| (*at, event)));
    // Only how the run stands in the end: on the way it may have been active while another one of its pipeline is now.
    let last = steps.iter().rposition(|step| matches!(step, Step::Active | Step::Ended { .. }));
    let mut place = 0;
    steps.retain(|step| {
        place += 1;
        !matches!(step, Step::Active | Step::Ended { .. }) || Some(place - 1) == last
    });
    apply(&mut transaction, run, &steps).await?;
    transaction.commit().await
}
