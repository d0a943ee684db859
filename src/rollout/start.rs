//! One start of a replica: environment, work folder, volumes and variables of a release → a job.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::contained::{Ground, contain, is_bare, mount};
use super::folders;
use super::machine::Slot;
use super::place::Place;
use super::probe::Question;
use crate::environment::{Definition, Environment, EnvironmentError, build_locked};
use crate::handover::{self, Hindrance};
use crate::names::{InputName, JobName, PortName, ServiceId};
use crate::plan::{marks, seen_files};
use crate::release::{Probe, Release};
use crate::runtime::{Beside, Job};
use crate::secret::HandedSecret;
use crate::source;
use crate::store::Traffic;
use crate::vault::VaultError;
use crate::workspace::variables::Variables;
use crate::workspace::{self, InputPlace, WorkFolder, WorkOrder, temporary};

/// TERM, then this long, then KILL.
const GRACE: Duration = Duration::from_secs(10);

/// Where a replica listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Addresses {
    /// `PORT`
    pub(super) port: u16,
    /// `PORT_<NAME>`
    pub(super) ports: BTreeMap<PortName, u16>,
}

/// What is started and how it is asked.
pub(super) struct Made {
    pub(super) job: Job,
    pub(super) ready: Question,
    /// This machine on the network of its container, if it is one.
    pub(super) gateway: Option<IpAddr>,
}

/// Which graphics processors a replica (from 1) of `each` gets as a process: those of a service in turns, so that they are spread over
/// all there are. Stages of runs and other services may use them too.
fn graphics(all: &[u32], each: u32, replica: u32) -> Vec<u32> {
    let before = u64::from(replica.saturating_sub(1)) * u64::from(each);
    let first = before.checked_rem(all.len() as u64).and_then(|first| usize::try_from(first).ok());
    let in_turn = all.iter().cycle().skip(first.unwrap_or_default());
    in_turn.take(all.len().min(each as usize)).copied().collect()
}

/// Makes the environment of a release, if it has one, unless it is there.
pub(super) async fn environment(
    place: &Place,
    release: &Release,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<Option<Environment>, String> {
    let Some(definition) = &release.notes.definition else { return Ok(None) };
    let definition: Definition = serde_json::from_str(definition)
        .map_err(|error| format!("its environment cannot be read: {error}"))?;
    let settings = &place.settings.environment;
    match build_locked(settings, &definition, &release.notes.lock, progress).await {
        Ok(environment) => Ok(Some(environment)),
        Err(EnvironmentError::Definition { message, help }) => Err(format!("{message}; {help}")),
        Err(error @ (EnvironmentError::Build { .. } | EnvironmentError::Index { .. })) => {
            let log = match &error {
                EnvironmentError::Build { log } | EnvironmentError::Index { log } => log.as_str(),
                _ => "",
            };
            let last = log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
            Err(format!("{error}: {}", last.trim()))
        }
        Err(error @ (EnvironmentError::Io(_) | EnvironmentError::Docker(_))) => {
            Err(error.to_string())
        }
    }
}

/// Makes the folder of the next start with all that the program needs. Blocks on the disk, so it belongs on a thread for that.
///
/// What is made stays when this fails; the start's folder is told to `folder` first.
pub(super) async fn make(
    place: Arc<Place>,
    release: Arc<Release>,
    slot: Slot,
    addresses: Addresses,
    environment: Option<Environment>,
    folder: impl FnOnce(&Path) + Send,
) -> Result<Made, String> {
    let services = &place.settings.services;
    let replica = folders::replica(services, &release.service, slot.release, slot.replica);
    let (start, path) = folders::make_next(&replica).map_err(text)?;
    folder(&path);
    let mut work = work_folder(&place, &release, &path).await?;
    let parent = release.notes.passed.get("TMPDIR").map_or("/tmp", String::as_str);
    let own = temporary::of_run(&replica, parent.as_ref()).map_err(text)?;
    let own = own.join(start.to_string());
    temporary::of_attempt(&own).map_err(text)?;
    let (mut container, mut gateway, mut of_image) = (None, None, BTreeMap::new());
    let volumes = match &release.behaviour.container {
        None => volumes(&place, &release, &work)?,
        Some(is) => {
            let ground = Ground {
                start: &path,
                work: &work,
                temporary: &own,
                environment: environment.as_ref(),
            };
            let inside = contain(&place, &release, is, &ground).await?;
            work = inside.work;
            gateway = Some(inside.gateway);
            of_image = inside.variables;
            container = Some(Box::new(inside.container));
            inside.volumes
        }
    };
    let job = JobName::of_replica(slot.release, slot.replica, start);
    let values = marks_of(&release, &work, &addresses);
    let fill = |text: &str| marks::fill(text, &values).map_err(|error| error.to_string());
    let command =
        |words: &[String]| marks::fill_command(words, &values).map_err(|error| error.to_string());
    let declared = release.behaviour.env.iter();
    let declared = declared
        .map(|(name, value)| Ok((name.clone(), fill(value)?)))
        .collect::<Result<BTreeMap<_, _>, String>>()?;
    let mut flowruns = own_variables(&release, &job, start, &addresses);
    flowruns.extend(volumes);
    let behaviour = &release.behaviour;
    let variables = Variables {
        passed: &release.notes.passed,
        work: &work,
        temporary: &own,
        environment: environment.as_ref(),
        gpus: &graphics(&place.settings.graphics, behaviour.gpu, slot.replica),
        declared: &declared,
        own: flowruns,
    };
    let env = match (&mut container, &behaviour.container) {
        (Some(container), Some(is)) => {
            container.args = is.args.as_deref().map(command).transpose()?;
            let inside = variables.contained(&of_image, is.image_user);
            container.mounts.extend(inside.seen.into_iter().map(mount));
            inside.env
        }
        _ => variables.all(),
    };
    let secrets = secrets(&place, &release).await?;
    // The image's own program begins where the image says.
    let is_own = container.is_some() && behaviour.command.is_empty();
    let directory = if is_own { PathBuf::new() } else { work.directory.clone() };
    let ready = match &behaviour.serving.ready.probe {
        Probe::Http(path) => Question::Http(path.clone()),
        Probe::Tcp => Question::Tcp,
        Probe::Run(words) => Question::Run(Beside {
            command: command(words)?,
            directory: directory.clone(),
            env: env.clone(),
        }),
    };
    let job = Job {
        name: job,
        folder: path,
        command: command(&behaviour.command)?,
        directory,
        env,
        memory_limit: behaviour.memory.filter(|_| behaviour.limit),
        cpu_limit: behaviour.cpu.filter(|_| behaviour.limit),
        timeout: None,
        grace: GRACE,
        log_cap: place.settings.log_cap,
        log_keep: crate::runtime::LogKeep::Latest,
        container,
        secrets,
    };
    Ok(Made { job, ready, gateway })
}

/// The question of a replica that an earlier server started.
pub(super) fn question(release: &Release, job: &Job, port: u16) -> Result<Question, String> {
    Ok(match &release.behaviour.serving.ready.probe {
        Probe::Http(path) => Question::Http(path.clone()),
        Probe::Tcp => Question::Tcp,
        Probe::Run(words) => {
            let mut values = identity(release, port);
            for name in release.behaviour.inputs.keys() {
                let variable = format!("FLOWRUN_INPUT_{}", name.variable());
                if let Some(path) = job.env.get(&variable) {
                    values.insert(format!("inputs.{name}"), path.clone());
                }
            }
            let command = marks::fill_command(words, &values).map_err(|error| error.to_string())?;
            let (directory, env) = (job.directory.clone(), job.env.clone());
            Question::Run(Beside { command, directory, env })
        }
    })
}

/// Removes what only a running replica needs; logs stay. Its replica may have been started anew.
pub(super) fn clean(place: &Place, service: &ServiceId, slot: Slot, start: &Path) {
    let replica = folders::replica(&place.settings.services, service, slot.release, slot.replica);
    let cleaned = folders::clean_start(&replica, start);
    let own = temporary::named(&replica).zip(start.file_name());
    let gone = own.map_or(Ok(()), |(own, start)| workspace::remove_folder(&own.join(start)));
    if let Err(error) = cleaned.and(gone) {
        tracing::warn!(%service, %error, "what a replica left cannot be removed");
    }
}

/// The same for a replica that is not started anew before this is over: nothing of it stays outside the home.
pub(super) fn clean_all(place: &Place, service: &ServiceId, slot: Slot, start: &Path) {
    clean(place, service, slot, start);
    let replica = folders::replica(&place.settings.services, service, slot.release, slot.replica);
    if let Err(error) = temporary::remove(&replica) {
        tracing::warn!(%service, %error, "the temporary folder of a replica cannot be removed");
    }
}

async fn work_folder(
    place: &Place,
    release: &Release,
    attempt: &Path,
) -> Result<WorkFolder, String> {
    let notes = &release.notes;
    let snapshot = source::open(&place.settings.source, &notes.snapshot).map_err(text)?;
    let base = &snapshot.id.base;
    let globs = if is_bare(release) { Some(&[][..]) } else { notes.files.as_deref() };
    let files = seen_files(&snapshot.files, base, &notes.file_name, globs);
    let inputs: BTreeMap<InputName, InputPlace> = release
        .behaviour
        .inputs
        .iter()
        .map(|(name, part)| {
            let placed = part.path.strip_prefix("./").map(str::to_owned);
            let file_name = part.path.rsplit('/').next().unwrap_or_default().to_owned();
            (name.clone(), InputPlace { digest: part.digest, path: placed, file_name })
        })
        .collect();
    let order = WorkOrder {
        attempt,
        snapshot: &snapshot,
        files: &files,
        inputs: &inputs,
        outputs: &BTreeMap::new(),
        metrics: None,
        values: None,
        workdir: &release.behaviour.workdir,
        traffic: &Traffic::default(),
    };
    match workspace::prepare(&order, &*place.store).await {
        Ok(Ok(work)) => Ok(work),
        Ok(Err(crate::event::Failure::WorkFolder { why })) => Err(why),
        Ok(Err(other)) => Err(format!("its work folder cannot be made: {other:?}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Today's values of its secrets.
async fn secrets(place: &Place, release: &Release) -> Result<Vec<HandedSecret>, String> {
    let uses = release.behaviour.secrets.iter();
    let uses = uses.map(|(variable, secret)| (variable, &secret.takes));
    let vault = place.settings.vault.as_deref();
    let opened = handover::open(&place.state, vault, uses).await.map_err(text)?;
    opened.map_err(|hindrance| {
        if matches!(&hindrance, Hindrance::Closed { why: VaultError::Absent { .. }, .. }) {
            return format!("{hindrance}; when you have `FLOWRUN_KEY`, stop the server with `flowrun server --stop` and apply again");
        }
        hindrance.with_help()
    })
}

/// Links each volume into the work folder; says the variables that name them.
fn volumes(
    place: &Place,
    release: &Release,
    work: &WorkFolder,
) -> Result<Vec<(String, String)>, String> {
    let mut variables = Vec::new();
    for (name, path) in &release.behaviour.volumes {
        if Path::new(path).is_absolute() {
            return Err(format!(
                "volume `{name}` has the absolute path `{path}`: here its path must be relative to the work folder"
            ));
        }
        let folder = volume(&place.settings.volumes, release, name.as_str());
        fs_err::create_dir_all(&folder).map_err(text)?;
        let link = work.base.join(path);
        if let Some(parent) = link.parent() {
            fs_err::create_dir_all(parent).map_err(text)?;
        }
        fs_err::os::unix::fs::symlink(&folder, &link).map_err(|error| {
            format!("volume `{name}` cannot lie at `{path}` in the work folder: {error}")
        })?;
        variables.push((format!("FLOWRUN_VOLUME_{}", name.variable()), shown(&folder)));
    }
    Ok(variables)
}

/// Where a volume lies: `volumes/<pipeline>/<name>`.
pub(super) fn volume(volumes: &Path, release: &Release, name: &str) -> PathBuf {
    volumes.join(release.service.pipeline.as_str()).join(name)
}

fn marks_of(
    release: &Release,
    work: &WorkFolder,
    addresses: &Addresses,
) -> BTreeMap<String, String> {
    let mut values = identity(release, addresses.port);
    for (name, path) in &work.inputs {
        values.insert(format!("inputs.{name}"), shown(path));
    }
    values
}

fn identity(release: &Release, port: u16) -> BTreeMap<String, String> {
    let commit = release.notes.snapshot.commit.clone().unwrap_or_default();
    BTreeMap::from([
        ("port".to_owned(), port.to_string()),
        ("run.id".to_owned(), release.notes.run.to_string()),
        ("run.commit".to_owned(), commit),
    ])
}

fn own_variables(
    release: &Release,
    job: &JobName,
    start: u32,
    addresses: &Addresses,
) -> Vec<(String, String)> {
    let own = |name: &str, value: String| (name.to_owned(), value);
    let named = release.behaviour.params.iter();
    let params = named.map(|(name, value)| (name.to_string(), value.to_json())).collect();
    let mut all = vec![
        own("FLOWRUN_RUN_ID", release.notes.run.to_string()),
        own("FLOWRUN_STAGE", release.service.stage.to_string()),
        own("FLOWRUN_ATTEMPT", start.to_string()),
        own("FLOWRUN_COMMIT", release.notes.snapshot.commit.clone().unwrap_or_default()),
        own("FLOWRUN_PARAMS", serde_json::Value::Object(params).to_string()),
        own("FLOWRUN_JOB", job.to_string()),
        own("FLOWRUN_RELEASE", release.number.to_string()),
        own("PORT", addresses.port.to_string()),
        own("FLOWRUN_LISTEN", listen(release).to_owned()),
    ];
    for (name, port) in &addresses.ports {
        all.push((format!("PORT_{}", name.variable()), port.to_string()));
    }
    for (stage, url) in &release.behaviour.services {
        all.push((format!("FLOWRUN_SERVICE_{}_URL", stage.variable()), url.clone()));
    }
    all
}

/// The address to listen at: a container is reached from outside of it, a process of this machine is nobody else's.
fn listen(release: &Release) -> &'static str {
    if release.behaviour.container.is_some() { "0.0.0.0" } else { "127.0.0.1" }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

pub(super) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graphics_processors_are_handed_out_in_turns() {
        let given = |all: &[u32], each| [1, 2, 3].map(|replica| graphics(all, each, replica));
        assert_eq!(given(&[4, 5, 6], 1), [[4], [5], [6]]);
        assert_eq!(given(&[4, 5, 6], 2), [[4, 5], [6, 4], [5, 6]]);
        assert_eq!(given(&[4], 2), [[4], [4], [4]]);
        assert_eq!(given(&[], 1), [[0_u32; 0]; 3]);
        assert_eq!(given(&[4, 5], 0), [[0_u32; 0]; 3]);
    }
}
