//! Live releases as the tasks of a run see them: what is asked of the state, and what an earlier process had been told.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::engine::error::EngineError;
use crate::event::RunEvent;
use crate::names::{ServiceId, StageName};
use crate::plan::{Graph, TaskIndex};
use crate::release::Release;
use crate::spec::Pipeline;
use crate::spec::expression::{Expression, Piece, Template};
use crate::spec::pipeline::{Command, Input, ReadyProbe, Stage};
use crate::state::{Recorded, State};

use super::Attempts;

/// The services that a task names, with their live releases; none: nothing is live.
pub(in crate::engine) type LiveReleases = BTreeMap<StageName, Option<Release>>;

/// Those that are there.
pub(in crate::engine) fn known(live: &LiveReleases) -> BTreeMap<StageName, Release> {
    live.iter().filter_map(|(service, one)| Some((service.clone(), one.clone()?))).collect()
}

/// By stage: the services whose live releases it sees. A service sees its own, as it is compared with that. Stages that see
/// none are not in it.
pub(in crate::engine) fn who_sees_what(
    pipeline: &Pipeline,
) -> BTreeMap<StageName, BTreeSet<StageName>> {
    if pipeline.stages.values().all(|stage| stage.service().is_none()) {
        return BTreeMap::new();
    }
    let seen = pipeline.stages.values().map(|stage| (stage.name.clone(), seen_by(stage)));
    seen.filter(|(_, services)| !services.is_empty()).collect()
}

fn seen_by(stage: &Stage) -> BTreeSet<StageName> {
    let inputs = stage.inputs.values().filter_map(|input| match input {
        Input::Live { service, .. } => Some(service),
        Input::Output { .. } | Input::Outside { .. } | Input::Later => None,
    });
    let own = stage.service().map(|_| &stage.name);
    let named = expressions(stage).flat_map(|expression| &expression.references.live);
    inputs.chain(own).chain(named).cloned().collect()
}

fn expressions(stage: &Stage) -> impl Iterator<Item = &Expression> {
    let service = stage.service();
    let probe = service.and_then(|service| match &service.ready {
        ReadyProbe::Run(command) => Some(command),
        ReadyProbe::Http(_) | ReadyProbe::Tcp => None,
    });
    let commands = stage.run.iter().chain(probe).flat_map(|command| match command {
        Command::Shell(text) => std::slice::from_ref(text),
        Command::List(words) => words,
    });
    let written = commands
        .chain(stage.args.iter().flatten())
        .chain(stage.env.values())
        .flat_map(|Template(pieces)| pieces);
    let written = written.filter_map(|piece| match piece {
        Piece::Literal(_) => None,
        Piece::Expression(expression) => Some(expression),
    });
    let gate = service.map(|service| service.gate.as_slice()).unwrap_or_default();
    written.chain(&stage.when).chain(gate)
}

/// What the journal says each task saw, read from the state again: an attempt of an earlier process goes on with what it
/// was started with. A release that is gone meanwhile is like none.
pub(in crate::engine) async fn recall(
    graph: &Graph,
    journal: &[Recorded],
    state: &State,
) -> Result<HashMap<TaskIndex, BTreeMap<StageName, Release>>, EngineError> {
    let mut recalled = HashMap::new();
    for record in journal {
        let RunEvent::LiveSeen { task, live } = &record.event else { continue };
        let Some(task) = graph.find(task) else { continue };
        let mut releases = BTreeMap::new();
        for (service, id) in live {
            let row = match id {
                Some(id) => state.release(*id).await?,
                None => None,
            };
            releases.extend(row.map(|row| (service.clone(), row.release)));
        }
        recalled.insert(task, releases);
    }
    Ok(recalled)
}

impl Attempts {
    /// The live releases that a stage sees now.
    pub(super) async fn live_releases(
        &self,
        stage: &StageName,
    ) -> Result<LiveReleases, EngineError> {
        let mut live = LiveReleases::new();
        for service in self.sees.get(stage).into_iter().flatten() {
            let release = self.state.live_release(&self.service(service)).await?;
            live.insert(service.clone(), release);
        }
        Ok(live)
    }

    /// A service of this pipeline.
    pub(super) fn service(&self, stage: &StageName) -> ServiceId {
        ServiceId { pipeline: self.pipeline.name.clone(), stage: stage.clone() }
    }
}
