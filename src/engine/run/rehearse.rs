//! A whole run with scripted answers: no disk, no process. What the machine itself costs, for the bench.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::event::{Created, JobEnd, Moved, NotCached, Reason, RunEvent, RunOutcome, Usage};
use crate::plan::Graph;
use crate::state::Recorded;

use super::vocabulary::{Circumstance, ClaimAnswer, Command, Input, Product, Resolution};
use super::{Contradiction, Facts, Run};

/// What a rehearsal did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rehearsal {
    /// How it ended; none: it got stuck.
    pub outcome: Option<RunOutcome>,
    /// Events that a journal would hold.
    pub events: usize,
    /// Attempts that were started.
    pub attempts: usize,
}

/// Does a new run in which every task runs once and ends well.
pub fn rehearse(
    graph: Arc<Graph>,
    facts: Facts,
    created: Created,
) -> Result<Rehearsal, Contradiction> {
    let event = RunEvent::Created(Box::new(created));
    let journal = [Recorded { seq: 1, at: facts.now, epoch: 1, event }];
    let (mut run, mut step) = Run::recover(graph, facts, &journal)?;
    let mut inputs = VecDeque::new();
    let mut told = Rehearsal { outcome: None, events: 0, attempts: 0 };
    loop {
        told.events += step.events.len();
        for command in step.commands {
            told.attempts += usize::from(matches!(command, Command::Start { .. }));
            inputs.extend(answer(&command));
        }
        let Some(input) = inputs.pop_front() else { break };
        step = run.step(input);
    }
    told.outcome = run.outcome();
    Ok(told)
}

fn answer(command: &Command) -> Option<Input> {
    Some(match *command {
        Command::Resolve { task } => Input::Resolved {
            task,
            resolution: Resolution::Miss {
                key: None,
                why: Reason::NotCached(NotCached::NoOutputs),
            },
            live: BTreeMap::new(),
        },
        Command::Claim { task, .. } => Input::Claimed { task, answer: ClaimAnswer::Ours },
        Command::AwaitClaim { task, .. } => Input::ClaimFree { task },
        Command::Start { task, attempt, .. } | Command::Adopt { task, attempt, .. } => {
            Input::JobEnded {
                task,
                attempt,
                end: JobEnd::Exited(0),
                usage: Usage::default(),
                at: 0,
                beside: Circumstance::Usual,
            }
        }
        Command::Collect { task, attempt, key, .. } => Input::Collected {
            task,
            attempt,
            result: Ok(Product {
                key,
                outputs: [].into(),
                metrics: [].into(),
                values: [].into(),
                moved: Moved::default(),
            }),
            at: 0,
        },
        Command::Sleep { task, .. } => Input::BackoffOver { task },
        // No task was said to be a service, so nothing asks for these.
        Command::Release { .. }
        | Command::Prepare { .. }
        | Command::Promote { .. }
        | Command::Abandon { .. }
        | Command::StopJob { .. }
        | Command::Tell { .. } => return None,
    })
}
