//! Makes the work folder of an attempt again whose own one is gone.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::CliError;
use super::find;
use super::ground::Reopen;
use super::home::make_private;
use super::kept;
use super::place::Place;
use super::prepare::Prepared;
use super::screen::Screen;
use crate::event::Outputs;
use crate::names::{InputName, StageName, TaskId};
use crate::runtime::{Job, MountSource};
use crate::spec::pipeline::{Input, Stage};
use crate::state::RunRow;
use crate::store::Traffic;
use crate::workspace::{self, InputPlace, WorkOrder};

/// Prepares the work folder in `runs/<run>/debug-<n>` and moves the job there.
pub(crate) async fn prepare(
    place: &Place,
    run: &RunRow,
    task: &TaskId,
    attempt: &Path,
    job: Job,
    screen: Screen,
) -> Result<Job, CliError> {
    let (prepared, _) = kept::reopen(place, run, Reopen::End, screen).await?;
    let stage = prepared.asked.pipeline.stages.get(&task.stage).ok_or_else(|| {
        CliError::missing(
            format!("the file of run {} has no stage `{}`", run.id, task.stage),
            "start a new run with `flowrun apply`",
        )
    })?;
    let (outputs, metrics, values) = match stage.batch() {
        Some(batch) => (
            batch.outputs.iter().map(|(name, path)| (name.clone(), path.clone())).collect(),
            batch.metrics.as_deref(),
            batch.values.as_deref(),
        ),
        None => (BTreeMap::new(), None, None),
    };
    let inputs = inputs(place, run, &prepared, stage).await?;
    let folder = fresh_folder(&place.home.run(run.id))?;
    let context = prepared.key_context(&run.id.to_string(), &run.created.snapshot);
    let files = context.stage_files(&prepared.asked.pipeline, &stage.name);
    let order = WorkOrder {
        attempt: &folder,
        snapshot: &prepared.asked.snapshot,
        files: &files,
        inputs: &inputs,
        outputs: &outputs,
        metrics,
        values,
        workdir: &stage.workdir,
        traffic: &Traffic::default(),
    };
    workspace::prepare(&order, &*place.store).await?.map_err(|failure| CliError::Failed {
        message: format!("the work folder cannot be made: {failure:?}"),
        help: None,
    })?;
    Ok(moved(job, attempt, &folder))
}

fn fresh_folder(run: &Path) -> Result<std::path::PathBuf, CliError> {
    for number in 1.. {
        let folder = run.join(format!("debug-{number}"));
        if !folder.exists() {
            make_private(&folder)?;
            return Ok(folder);
        }
    }
    Err(CliError::missing("no folder is free", "run `flowrun gc`"))
}

/// The artifacts that the stage's inputs were in this run.
async fn inputs(
    place: &Place,
    run: &RunRow,
    prepared: &Prepared,
    stage: &Stage,
) -> Result<BTreeMap<InputName, InputPlace>, CliError> {
    let given = outputs_of_stages(place, run).await?;
    let mut inputs = BTreeMap::new();
    for (name, input) in &stage.inputs {
        let Input::Output { stage: from, output, path } = input else { continue };
        let digest = given.get(from).and_then(|outputs| outputs.get(output)).ok_or_else(|| {
            CliError::missing(
                format!("run {} has no artifact `{from}.{output}`", run.id),
                "run the stage again with `flowrun apply --keep-work`",
            )
        })?;
        let written = prepared
            .asked
            .pipeline
            .stages
            .get(from)
            .and_then(Stage::batch)
            .and_then(|batch| batch.outputs.get(output));
        let file_name = written
            .and_then(|path| path.trim_end_matches('/').rsplit('/').next())
            .unwrap_or_else(|| output.as_str())
            .to_owned();
        inputs.insert(name.clone(), InputPlace { digest: *digest, path: path.clone(), file_name });
    }
    Ok(inputs)
}

/// What each stage gave in this run: of a stage with `pick`, the winner's outputs.
async fn outputs_of_stages(
    place: &Place,
    run: &RunRow,
) -> Result<BTreeMap<StageName, Outputs>, CliError> {
    let winners = find::winners(&place.state, run.id).await?;
    let mut given = BTreeMap::new();
    for row in place.state.tasks(run.id).await? {
        if winners.get(&row.task.stage).copied().unwrap_or(1) == row.task.copy {
            given.insert(row.task.stage, row.outputs);
        }
    }
    Ok(given)
}

/// The job with every path of the attempt's folder in the new one; the layout below is the same.
fn moved(mut job: Job, from: &Path, to: &Path) -> Job {
    let (from, to) = (from.display().to_string(), to.display().to_string());
    let replace = |text: &str| text.replace(&from, &to);
    // In a container the paths stay as they are; only what is seen there is elsewhere.
    if let Some(container) = &mut job.container {
        for mount in &mut container.mounts {
            if let MountSource::Path(path) = &mut mount.source {
                *path = replace(&path.display().to_string()).into();
            }
        }
        job.folder = to.into();
        return job;
    }
    job.directory = replace(&job.directory.display().to_string()).into();
    job.folder = to.clone().into();
    job.command = job.command.iter().map(|word| replace(word)).collect();
    job.env = job.env.iter().map(|(name, value)| (name.clone(), replace(value))).collect();
    job
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::names::{JobName, RunId};

    #[test]
    fn every_path_moves_with_the_folder() {
        let job = Job {
            name: JobName::new(RunId::new(0, 0), 3, 1),
            folder: "/h/runs/r/3-1".into(),
            command: vec!["cp".into(), "/h/runs/r/3-1/inputs/a/b".into()],
            directory: "/h/runs/r/3-1/work/sub".into(),
            env: BTreeMap::from([
                ("HOME".into(), "/h/runs/r/3-1/home".into()),
                ("PATH".into(), "/h/environments/e/bin:/bin".into()),
            ]),
            memory_limit: None,
            cpu_limit: None,
            timeout: None,
            grace: Duration::from_secs(10),
            log_cap: 1,
            log_keep: crate::runtime::LogKeep::First,
            container: None,
            secrets: Vec::new(),
        };
        let job = moved(job, Path::new("/h/runs/r/3-1"), Path::new("/h/runs/r/debug-1"));
        assert_eq!(job.directory, Path::new("/h/runs/r/debug-1/work/sub"));
        assert_eq!(job.command[1], "/h/runs/r/debug-1/inputs/a/b");
        assert_eq!(job.env["HOME"], "/h/runs/r/debug-1/home");
        assert_eq!(job.env["PATH"], "/h/environments/e/bin:/bin");
    }
}
