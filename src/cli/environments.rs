//! The definitions of the environments that stages run in.

use std::collections::BTreeMap;

use super::asked::Asked;
use super::error::CliError;
use super::ground::Containers;
use crate::environment::{Definition, EnvironmentSettings};
use crate::names::StageName;
use crate::source::Snapshot;
use crate::spec::pipeline::EnvironmentSpec;

/// The environments of all stages that may run, of interpreters of this machine.
pub(super) fn local(
    asked: &Asked,
    settings: &EnvironmentSettings,
) -> Result<BTreeMap<StageName, Definition>, CliError> {
    let read = |path: &str| read(&asked.snapshot, path);
    let mut known: Vec<(&EnvironmentSpec, Definition)> = Vec::new();
    let mut environments = BTreeMap::new();
    for stage in asked.pipeline.stages.values() {
        if stage.run.is_none() || !asked.may_run(stage) {
            continue;
        }
        let spec = &stage.environment;
        let definition = if let Some((_, one)) = known.iter().find(|(seen, _)| *seen == spec) {
            one.clone()
        } else {
            let one = Definition::resolve(
                settings,
                spec.python.as_deref(),
                &spec.requirements,
                spec.requirements_file.as_deref(),
                &read,
            )
            .map_err(|error| CliError::Environment { stage: stage.name.clone(), error })?;
            known.push((spec, one.clone()));
            one
        };
        environments.insert(stage.name.clone(), definition);
    }
    Ok(environments)
}

/// The environments of all stages that may run, of interpreters of their images. A stage that asks for nothing has none.
pub(super) fn in_images(
    asked: &Asked,
    containers: &Containers,
) -> Result<BTreeMap<StageName, Definition>, CliError> {
    let read = |path: &str| read(&asked.snapshot, path);
    let mut environments = BTreeMap::new();
    for (name, image) in &containers.images {
        let Some(stage) = asked.pipeline.stages.get(name).filter(|stage| stage.run.is_some())
        else {
            continue;
        };
        let spec = &stage.environment;
        let definition = Definition::in_image(
            &image.id,
            spec.python.as_deref(),
            &spec.requirements,
            spec.requirements_file.as_deref(),
            &read,
        )
        .map_err(|error| CliError::Environment { stage: name.clone(), error })?;
        if spec.python.is_some() || !definition.requirements.is_empty() {
            environments.insert(name.clone(), definition);
        }
    }
    Ok(environments)
}

/// The text of a file below the base.
fn read(snapshot: &Snapshot, path: &str) -> Option<String> {
    let base = &snapshot.id.base;
    let path = if base.is_empty() { path.to_owned() } else { format!("{base}/{path}") };
    String::from_utf8(snapshot.read(&path).ok()??).ok()
}
