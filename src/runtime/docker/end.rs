//! From what the engine says of a container that has ended to how its job ended. Pure.

use crate::event::JobEnd;

/// What is known of a container that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    /// What flowrun wanted while it ran.
    pub(super) wanted: Option<JobEnd>,
    /// The exit code as the engine tells it.
    pub(super) code: i64,
    /// The kernel killed something of it for lack of memory.
    pub(super) out_of_memory: bool,
    /// Its limit, bytes.
    pub(super) limit: Option<u64>,
    /// The engine or the machine was restarted while it ran.
    pub(super) torn: Option<Torn>,
}

/// What a restart may have done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Torn {
    /// What was restarted, as a fragment.
    pub(super) why: String,
    /// It asked the program to end: one that ended well may have done so early.
    pub(super) asked: bool,
}

/// How the job ended, and what is worth a line.
///
/// Engines tell a signal as 128 + its number, as shells do, and nothing tells this from a program that returned such a code by itself
/// (`exit 137`): the first process of the container, which knew, is gone, and neither the engine nor what is below it keeps more than
/// that one number. So it is told as the code that it is; people read both of what it may mean.
pub(super) fn job_end(ending: Ending) -> (JobEnd, Vec<String>) {
    let code = i32::try_from(ending.code).unwrap_or(i32::MAX);
    if let Some(wanted) = ending.wanted {
        return (wanted, Vec::new());
    }
    if let Some(Torn { why, asked: true }) = &ending.torn {
        return (JobEnd::Lost { why: why.clone() }, Vec::new());
    }
    if code == 0 {
        let remark = "a process of it ran out of memory and got killed".to_owned();
        return (JobEnd::Exited(0), ending.out_of_memory.then_some(remark).into_iter().collect());
    }
    if ending.out_of_memory {
        return (JobEnd::OutOfMemory { limit: ending.limit.unwrap_or_default() }, Vec::new());
    }
    if let Some(Torn { why, .. }) = ending.torn {
        return (JobEnd::Lost { why }, Vec::new());
    }
    (JobEnd::Exited(code), Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(code: i64) -> Ending {
        Ending { wanted: None, code, out_of_memory: false, limit: Some(7), torn: None }
    }

    #[test]
    fn a_signal_is_the_code_that_the_engine_makes_of_it() {
        let end = |code| job_end(ending(code)).0;
        assert_eq!(end(0), JobEnd::Exited(0));
        assert_eq!(end(3), JobEnd::Exited(3));
        assert_eq!(end(137), JobEnd::Exited(137));
        assert_eq!(end(255), JobEnd::Exited(255));
    }

    #[test]
    fn what_flowrun_wanted_goes_first_and_a_good_end_stays_good() {
        let wanted = Ending { wanted: Some(JobEnd::Cancelled), out_of_memory: true, ..ending(143) };
        assert_eq!(job_end(wanted).0, JobEnd::Cancelled);
        let out = Ending { out_of_memory: true, ..ending(137) };
        assert_eq!(job_end(out).0, JobEnd::OutOfMemory { limit: 7 });
        let survivor = Ending { out_of_memory: true, ..ending(0) };
        assert_eq!(job_end(survivor).1.len(), 1);
    }

    #[test]
    fn a_restart_loses_what_it_may_have_ended() {
        let torn = |code, asked| Ending {
            torn: Some(Torn { why: "restarted".to_owned(), asked }),
            ..ending(code)
        };
        assert_eq!(job_end(torn(0, false)).0, JobEnd::Exited(0));
        assert!(matches!(job_end(torn(0, true)).0, JobEnd::Lost { .. }));
        assert!(matches!(job_end(torn(143, false)).0, JobEnd::Lost { .. }));
        let torn = Ending { wanted: Some(JobEnd::Cancelled), ..torn(143, true) };
        assert_eq!(job_end(torn).0, JobEnd::Cancelled);
    }
}
