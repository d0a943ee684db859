//! The variables of an attempt: exactly these, whatever flowrun itself was started with (ARCHITECTURE §11).

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use crate::environment::Environment;
use crate::event::RunOutcome;
use crate::names::JobName;
use crate::spec::pipeline::Stage;
use crate::workspace::WorkFolder;

use super::Attempts;

/// What they are made of.
pub(super) struct Facts<'a> {
    pub(super) attempts: &'a Attempts,
    pub(super) stage: &'a Stage,
    pub(super) attempt: u32,
    pub(super) job: &'a JobName,
    pub(super) work: &'a WorkFolder,
    pub(super) environment: Option<&'a Environment>,
    pub(super) temporary: &'a Path,
    pub(super) gpus: &'a [u32],
    pub(super) declared: &'a BTreeMap<String, String>,
    pub(super) outcome: Option<RunOutcome>,
}

/// What is passed through, then flowrun's own over it, then what the stage declares; nobody can replace `FLOWRUN_*`.
pub(super) fn of_attempt(facts: &Facts<'_>) -> BTreeMap<String, String> {
    let Facts { attempts, stage, work, .. } = facts;
    let mut env = attempts.settings.pass_env.clone();
    env.remove("TMPDIR");
    env.retain(|name, _| !name.starts_with("FLOWRUN_"));
    let callers_path = env.remove("PATH").unwrap_or_else(|| "/usr/bin:/bin".to_owned());
    let mut set = |name: &str, value: String| {
        env.insert(name.to_owned(), value);
    };
    set("HOME", text(&work.home));
    set("TMPDIR", text(facts.temporary));
    set("LANG", "C.UTF-8".to_owned());
    match facts.environment {
        Some(environment) => {
            set("PATH", format!("{}:{callers_path}", environment.bin.display()));
            set("VIRTUAL_ENV", text(&environment.root));
        }
        None => set("PATH", callers_path),
    }
    if !facts.gpus.is_empty() {
        set("CUDA_VISIBLE_DEVICES", list(facts.gpus));
    }
    env.extend(facts.declared.iter().map(|(name, value)| (name.clone(), value.clone())));

    let mut set = |name: String, value: String| {
        env.insert(name, value);
    };
    for (name, path) in &work.inputs {
        set(format!("FLOWRUN_INPUT_{}", name.variable()), text(path));
    }
    for (name, path) in &work.outputs {
        set(format!("FLOWRUN_OUTPUT_{}", name.variable()), text(path));
    }
    let mut set = |name: &str, value: String| set(name.to_owned(), value);
    set("FLOWRUN_RUN_ID", attempts.run.to_string());
    set("FLOWRUN_STAGE", stage.name.to_string());
    set("FLOWRUN_ATTEMPT", facts.attempt.to_string());
    set("FLOWRUN_COMMIT", attempts.snapshot.id.commit.clone().unwrap_or_default());
    set("FLOWRUN_PARAMS", params(attempts, stage));
    set("FLOWRUN_JOB", facts.job.to_string());
    if let Some(outcome) = facts.outcome {
        set("FLOWRUN_OUTCOME", word(outcome).to_owned());
    }
    env
}

/// Paths by name, as expressions see them.
pub(super) fn texts<N: Display>(paths: &BTreeMap<N, PathBuf>) -> BTreeMap<String, String> {
    paths.iter().map(|(name, path)| (name.to_string(), text(path))).collect()
}

/// `0,1`
pub(super) fn list(numbers: &[u32]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The named params as a JSON object.
fn params(attempts: &Attempts, stage: &Stage) -> String {
    let named = stage
        .params
        .iter()
        .filter_map(|name| Some((name.to_string(), attempts.context.params.get(name)?.to_json())));
    serde_json::Value::Object(named.collect()).to_string()
}

fn word(outcome: RunOutcome) -> &'static str {
    match outcome {
        RunOutcome::Done => "done",
        RunOutcome::Failed => "failed",
        RunOutcome::Kept => "kept",
        RunOutcome::Cancelled => "cancelled",
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
