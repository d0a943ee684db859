//! Ends, failures and reasons as words: a lower-case fragment, and where there is a mend, one imperative sentence.

use crate::event::{Failure, JobEnd, Maker, Reason, Skip};
use crate::names::RunId;
use crate::words::{age, bytes, duration, millis, visible};

/// Names of the signals that end programs, by number (the same on Linux and macOS).
const SIGNALS: [(i32, &str); 11] = [
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (4, "ILL"),
    (5, "TRAP"),
    (6, "ABRT"),
    (8, "FPE"),
    (9, "KILL"),
    (11, "SEGV"),
    (13, "PIPE"),
    (15, "TERM"),
];

fn signal(number: i32) -> String {
    SIGNALS
        .iter()
        .find(|(of, _)| *of == number)
        .map_or_else(|| format!("signal {number}"), |(_, name)| format!("signal {number} ({name})"))
}

/// Where a reused result comes from: `from run 01K… by ann@here, 2 h ago`. `now` in Unix milliseconds; without it no age is told.
pub fn from_words(run: RunId, made: Option<&Maker>, now: Option<u64>) -> String {
    match made.map(|made| made_words(made, now)) {
        Some(made) if !made.is_empty() => format!("from run {run} {made}"),
        _ => format!("from run {run}"),
    }
}

/// Who made a result: `by ann@here, 2 h ago`; empty where nothing is known.
pub fn made_words(made: &Maker, now: Option<u64>) -> String {
    let by = made.on.as_deref().map(|on| format!("by {}", visible(on)));
    let when = now.map(|now| age(now, made.at));
    by.into_iter().chain(when).collect::<Vec<_>>().join(", ")
}

/// How a job ended: `exit code 1`, `killed by signal 9 (KILL)`.
pub fn end_words(end: &JobEnd) -> String {
    match end {
        JobEnd::Exited(126) => "exit code 126 (the program cannot be executed)".to_owned(),
        JobEnd::Exited(127) => "exit code 127 (no such program)".to_owned(),
        // A shell says so of a command that a signal ended, and an engine of a container.
        JobEnd::Exited(code @ 129..=159) => {
            format!("exit code {code} ({}, or the program's own code)", signal(code - 128))
        }
        JobEnd::Exited(code) => format!("exit code {code}"),
        JobEnd::Signalled(number) => format!("killed by {}", signal(*number)),
        JobEnd::OutOfMemory { limit: 0 } => "out of memory".to_owned(),
        JobEnd::OutOfMemory { limit } => format!("out of memory (limit {})", bytes(*limit)),
        JobEnd::TimedOut { after } => format!("timed out after {}", duration(millis(*after))),
        JobEnd::Cancelled => "cancelled".to_owned(),
        JobEnd::Lost { why } => format!("lost: {}", visible(why)),
    }
}

/// What to do about a release that did not go live; `why` is the sentence of `rollout`.
fn rollout_help(why: &str) -> &'static str {
    let says = |words: &str| why.contains(words);
    if says("nothing listens") {
        "let it listen on 127.0.0.1:$PORT, or name its own port with `listen`; raise `ready.within` if it needs longer"
    } else if says("is taken by another program") {
        "end that program, or give the service another `port`"
    } else if says("belongs to service") {
        "take that service down with `flowrun down`, or choose another `port` or `route`"
    } else if says("the gateway itself") {
        "give the service another `port`, or the setting `gateway` another one"
    } else if says("not `alive`") {
        "check the path in `alive.http`, or remove `alive`"
    } else if says("a redirect to") {
        "name a path in `ready.http` that answers 2xx itself"
    } else if says("answered") {
        "check the path in `ready.http`, and what the service needs to be ready"
    } else if says("exited with code 0") {
        "keep the program in the foreground: a service must not end"
    } else {
        "mend the service and apply again"
    }
}

/// Why a task failed, and what to do about it where that is known.
pub fn failure_words(failure: &Failure) -> (String, Option<String>) {
    let (message, help) = match failure {
        Failure::Job(end) => (end_words(end), end_help(end).map(str::to_owned)),
        Failure::Rollout { why, .. } => {
            (visible(why).into_owned(), Some(rollout_help(why).to_owned()))
        }
        Failure::ServedElsewhere { home } => (
            format!("it is kept up by the home {}, and can only change there", visible(home)),
            Some(
                "apply on that machine, or take the service down there first; `--until` ends a run before it"
                    .to_owned(),
            ),
        ),
        Failure::LiveChanged { service } => (
            format!(
                "another release of `{service}` went live meanwhile, so what was judged is not what is live"
            ),
            Some("apply again: the judgement is made anew".to_owned()),
        ),
        Failure::Environment { .. } => (
            "its environment could not be built".to_owned(),
            Some(
                "read the build tool's own message and mend the stage's `requirements` or `python`"
                    .to_owned(),
            ),
        ),
        Failure::OutputMissing { output, path } => (
            format!("its output `{output}` is missing: nothing is at `{}`", visible(path)),
            Some(format!(
                "write it to the path in `$FLOWRUN_OUTPUT_{}`, or change `outputs.{output}`",
                output.variable()
            )),
        ),
        Failure::OutputRefused { output, path, why } => (
            format!("its output `{output}` cannot be stored: `{}` {}", visible(path), visible(why)),
            Some("leave only files, folders and links that stay inside the output".to_owned()),
        ),
        Failure::MetricsInvalid { why } => (
            format!("its metrics are not valid: {}", visible(why)),
            Some("write one flat JSON object of finite numbers".to_owned()),
        ),
        Failure::ValuesInvalid { why } => (
            format!("its values are not valid: {}", visible(why)),
            Some("write one flat JSON object of strings, numbers and booleans".to_owned()),
        ),
        Failure::InputChanged { input } => (
            format!("stage wrote into its input `{input}`"),
            Some("copy an input before changing it".to_owned()),
        ),
        Failure::Expression { why } | Failure::WorkFolder { why } => {
            (visible(why).into_owned(), None)
        }
        Failure::Secret { why, .. } => (
            visible(why).into_owned(),
            Some("mend it, then go on with `flowrun resume`".to_owned()),
        ),
        Failure::NotReusable { why } => (
            visible(why).into_owned(),
            Some("run it once without `--only` or `cache: only`".to_owned()),
        ),
        Failure::Resources { why } => (
            visible(why).into_owned(),
            Some("lower the stage's `resources`, or use a larger machine".to_owned()),
        ),
        Failure::PickImpossible { metric } => (
            format!("no copy reported the metric `{metric}`"),
            Some("write the metric of `pick` into the stage's `metrics` file".to_owned()),
        ),
        Failure::RunTimedOut => (
            "the run's `timeout` was over".to_owned(),
            Some("raise `timeout` at the top of the file, or resume the run".to_owned()),
        ),
    };
    (message, help)
}

fn end_help(end: &JobEnd) -> Option<&'static str> {
    match end {
        JobEnd::Exited(126 | 127) => {
            Some("name a program of the stage's environment, or add it to `requirements`")
        }
        JobEnd::OutOfMemory { .. } => {
            Some("raise `resources.memory`, or set `retries: {on_oom: {memory: 2x}}`")
        }
        JobEnd::TimedOut { .. } => Some("raise the stage's `timeout`"),
        JobEnd::Exited(_) | JobEnd::Signalled(_) | JobEnd::Cancelled | JobEnd::Lost { .. } => None,
    }
}

/// The tool's own words that a failure carries, raw.
pub fn failure_log(failure: &Failure) -> Option<&str> {
    match failure {
        Failure::Environment { log } => Some(log),
        _ => None,
    }
}

/// Why a task was skipped; `label` names tasks.
pub fn skip_words(skip: &Skip, label: &dyn Fn(&crate::names::TaskId) -> String) -> String {
    match skip {
        Skip::When(expression) => format!("its `when` is false: {}", visible(expression)),
        Skip::Needs(task) => format!("it needs `{}`, which was skipped", label(task)),
    }
}

/// Why a task runs: `params.seed: 7 → 8`.
pub fn reason_words(reason: &Reason) -> String {
    visible(&super::why::words(reason)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_apart() {
        let told = |end: JobEnd| end_words(&end);
        assert_eq!(told(JobEnd::Exited(3)), "exit code 3");
        assert_eq!(
            told(JobEnd::Exited(137)),
            "exit code 137 (signal 9 (KILL), or the program's own code)"
        );
        assert_eq!(told(JobEnd::Signalled(9)), "killed by signal 9 (KILL)");
        assert_eq!(told(JobEnd::Signalled(40)), "killed by signal 40");
        assert_eq!(told(JobEnd::OutOfMemory { limit: 4 << 30 }), "out of memory (limit 4 GiB)");
        let after = std::time::Duration::from_secs(90);
        assert_eq!(told(JobEnd::TimedOut { after }), "timed out after 1m 30s");
    }

    #[test]
    fn failures_name_the_mend_and_hide_no_escapes() {
        let missing = Failure::OutputMissing {
            output: "best_model".parse().unwrap(),
            path: "a\x1b[2J".to_owned(),
        };
        let (message, help) = failure_words(&missing);
        assert_eq!(message, "its output `best_model` is missing: nothing is at `a␛[2J`");
        assert_eq!(
            help.unwrap(),
            "write it to the path in `$FLOWRUN_OUTPUT_BEST_MODEL`, or change `outputs.best_model`"
        );
    }
}
