//! Exit codes as a type (DESIGN §4).

use std::process::ExitCode;

use crate::engine::drive::Stop;
use crate::event::RunOutcome;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Exit {
    /// Done; also `--overlap skip`.
    Done,
    /// A bug in flowrun, also a panic.
    Bug,
    /// Wrong usage, or a question that nobody is there to answer.
    Usage,
    /// The file is not valid, or uses what is not available yet.
    Invalid,
    /// A stage, build, environment or rollout failed, or the run timed out.
    Failed,
    /// A runtime, store, index, disk, secret or source is missing or cannot be reached, or a check found damage.
    Unreachable,
    /// The gate kept the old release.
    Kept,
    /// `plan --exit-code`: something would run.
    WouldRun,
    /// Interrupted or cancelled.
    Interrupted,
}

impl Exit {
    /// That of a run that ended so, and was told to stop or not.
    pub(crate) fn of_run(outcome: RunOutcome, stop: Stop) -> Self {
        let exit = match outcome {
            RunOutcome::Done => return Self::Done,
            RunOutcome::Failed => Self::Failed,
            RunOutcome::Kept => Self::Kept,
            RunOutcome::Cancelled => Self::Interrupted,
        };
        if stop == Stop::No { exit } else { exit.or(Self::Interrupted) }
    }

    /// The number that the shell sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Bug => 1,
            Self::Usage => 2,
            Self::Invalid => 3,
            Self::Failed => 4,
            Self::Unreachable => 5,
            Self::Kept => 6,
            Self::WouldRun => 10,
            Self::Interrupted => 130,
        }
    }

    /// Which one counts when several hold: 130, 5, 4, 6, then the others.
    pub(crate) fn or(self, other: Self) -> Self {
        let rank = |exit: Self| match exit {
            Self::Interrupted => 8,
            Self::Unreachable => 7,
            Self::Failed => 6,
            Self::Kept => 5,
            Self::Bug => 4,
            Self::Invalid => 3,
            Self::Usage => 2,
            Self::WouldRun => 1,
            Self::Done => 0,
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_design() {
        let all = [
            (Exit::Done, 0),
            (Exit::Bug, 1),
            (Exit::Usage, 2),
            (Exit::Invalid, 3),
            (Exit::Failed, 4),
            (Exit::Unreachable, 5),
            (Exit::Kept, 6),
            (Exit::WouldRun, 10),
            (Exit::Interrupted, 130),
        ];
        for (exit, code) in all {
            assert_eq!(exit.code(), code);
        }
    }

    #[test]
    fn a_run_that_failed_while_it_was_stopped_was_interrupted() {
        assert_eq!(Exit::of_run(RunOutcome::Failed, Stop::No), Exit::Failed);
        assert_eq!(Exit::of_run(RunOutcome::Failed, Stop::Gently), Exit::Interrupted);
        assert_eq!(Exit::of_run(RunOutcome::Done, Stop::Gently), Exit::Done);
        assert_eq!(Exit::of_run(RunOutcome::Kept, Stop::No), Exit::Kept);
    }

    #[test]
    fn several_at_once_follow_the_order() {
        let order = [Exit::Interrupted, Exit::Unreachable, Exit::Failed, Exit::Kept, Exit::Done];
        for (place, first) in order.iter().enumerate() {
            for second in &order[place..] {
                assert_eq!(first.or(*second), *first);
                assert_eq!(second.or(*first), *first);
            }
        }
    }
}
