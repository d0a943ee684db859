//! What only an attempt has among its variables.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use crate::environment::Environment;
use crate::event::RunOutcome;
use crate::names::{JobName, StageName};
use crate::plan::KeyContext;
use crate::runtime::docker::image::Image;
use crate::spec::pipeline::Stage;
use crate::workspace::WorkFolder;
use crate::workspace::variables::{Contained, Variables};

use super::Attempts;

/// What they are made of.
pub(super) struct Facts<'a> {
    pub(super) attempts: &'a Attempts,
    pub(super) context: &'a KeyContext,
    /// The service that a `verify` stage tries.
    pub(super) candidate: Option<&'a StageName>,
    pub(super) stage: &'a Stage,
    pub(super) attempt: u32,
    pub(super) job: &'a JobName,
    pub(super) work: &'a WorkFolder,
    pub(super) environment: Option<&'a Environment>,
    pub(super) temporary: &'a Path,
    pub(super) gpus: &'a [u32],
    /// The image of its container.
    pub(super) image: Option<&'a Image>,
    pub(super) declared: &'a BTreeMap<String, String>,
    pub(super) outcome: Option<RunOutcome>,
}

/// All of them, and which files of this machine they name that a container has to see.
pub(super) fn of_attempt(facts: &Facts<'_>) -> Contained {
    let Facts { attempts, stage, work, .. } = facts;
    let own = |name: &str, value: String| (name.to_owned(), value);
    let mut flowruns = vec![
        own("FLOWRUN_RUN_ID", attempts.run.to_string()),
        own("FLOWRUN_STAGE", stage.name.to_string()),
        own("FLOWRUN_ATTEMPT", facts.attempt.to_string()),
        own("FLOWRUN_COMMIT", attempts.snapshot.id.commit.clone().unwrap_or_default()),
        own("FLOWRUN_PARAMS", params(attempts, stage)),
        own("FLOWRUN_JOB", facts.job.to_string()),
    ];
    flowruns.extend(services(facts).map(|(service, url)| {
        own(&format!("FLOWRUN_SERVICE_{}_URL", service.variable()), url.clone())
    }));
    flowruns.extend(facts.outcome.map(|outcome| own("FLOWRUN_OUTCOME", outcome.word().to_owned())));
    let variables = Variables {
        passed: &attempts.settings.pass_env,
        work,
        temporary: facts.temporary,
        environment: facts.environment,
        gpus: facts.gpus,
        declared: facts.declared,
        own: flowruns,
    };
    match facts.image {
        None => Contained { env: variables.all(), seen: Vec::new() },
        Some(image) => variables.contained(&image.env, stage.container.image_user),
    }
}

/// The services of the pipeline that the stage needs or tries, with their addresses.
fn services<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = (&'a StageName, &'a String)> {
    let reached = facts.stage.needs.iter().chain(facts.candidate);
    reached.filter_map(|name| facts.context.service_urls.get_key_value(name))
}

/// Paths by name, as expressions see them.
pub(super) fn texts<N: Display>(paths: &BTreeMap<N, PathBuf>) -> BTreeMap<String, String> {
    paths.iter().map(|(name, path)| (name.to_string(), text(path))).collect()
}

/// The named params as a JSON object.
fn params(attempts: &Attempts, stage: &Stage) -> String {
    let named = stage
        .params
        .iter()
        .filter_map(|name| Some((name.to_string(), attempts.context.params.get(name)?.to_json())));
    serde_json::Value::Object(named.collect()).to_string()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
