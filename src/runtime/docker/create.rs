//! From a job to the request that makes its container. Pure.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, DeviceRequest, HealthConfig, HostConfig, HostConfigLogConfig,
    Mount as EngineMount, MountType, MountVolumeOptions,
};

use super::{INSTALLATION, secrets};
use crate::runtime::{
    Container, ContainerNetwork, ContainerUser, Job, LogKeep, Mount, MountSource,
};

/// The label with the attempt's folder, so that a job can be stopped by its name alone.
pub(super) const FOLDER: &str = "flowrun.folder";
/// The label with the names of the variables that hold secrets, or paths of files with secrets; never values.
pub(super) const SECRETS: &str = "flowrun.secrets";

/// Processes and threads of one container; a fork bomb ends here.
const MOST_PROCESSES: i64 = 4096;
/// `/dev/shm` has at least this, bytes; loaders of training data pass batches through it.
const LEAST_SHARED_MEMORY: u64 = 64 << 20;

/// Who runs containers for the caller, and on what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Surroundings {
    /// The id of the installation.
    pub(super) installation: String,
    /// `uid:gid` inside that is the caller outside.
    pub(super) user: String,
    /// The caller is the caller only outside of the users that the engine gives to containers.
    pub(super) host_users: bool,
    /// Memory of the engine's machine, bytes.
    pub(super) memory: u64,
}

/// What the engine is asked for. Files of secrets lie in `secrets_folder` of this machine by then, if there are any.
pub(super) fn request(
    job: &Job,
    container: &Container,
    around: &Surroundings,
    secrets_folder: Option<&Path>,
) -> ContainerCreateBody {
    let mut command = job.command.iter().cloned();
    let entrypoint = command.next().map(|program| vec![program]);
    let own_program = entrypoint.is_none();
    let as_caller = container.user == ContainerUser::Caller;
    let mut env: Vec<String> =
        job.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    env.extend(secrets::variables(&job.secrets));
    let mut mounts: Vec<EngineMount> =
        container.mounts.iter().map(|one| mount(one, around, &container.labels)).collect();
    if let Some(folder) = secrets_folder {
        mounts.push(EngineMount {
            typ: Some(MountType::BIND),
            source: Some(folder.to_string_lossy().into_owned()),
            target: Some(secrets::INSIDE.to_owned()),
            read_only: Some(true),
            ..EngineMount::default()
        });
    }
    let mut labels: HashMap<String, String> =
        container.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    labels.insert(INSTALLATION.to_owned(), around.installation.clone());
    labels.insert(FOLDER.to_owned(), job.folder.to_string_lossy().into_owned());
    if !job.secrets.is_empty() {
        labels.insert(SECRETS.to_owned(), secrets::names(&job.secrets));
    }
    let keeps_usual = own_program || container.user == ContainerUser::Image;
    let limit = job.memory_limit.map(bytes);
    let shared = job.memory_limit.unwrap_or(around.memory) / 2;
    ContainerCreateBody {
        image: Some(container.image.clone()),
        cmd: if own_program { container.args.clone() } else { Some(command.collect()) },
        entrypoint,
        working_dir: (!job.directory.as_os_str().is_empty())
            .then(|| job.directory.to_string_lossy().into_owned()),
        user: as_caller.then(|| around.user.clone()),
        env: Some(env),
        labels: Some(labels),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        // flowrun asks itself whether a service is ready; the image's own check would only cost.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }),
        host_config: Some(HostConfig {
            // A program of flowrun's gets an init, as it need not know that the first process of a container has duties. An image's
            // own program is made to be the first one, and some refuse to be anything else.
            init: Some(!own_program),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            cap_drop: (!keeps_usual).then(|| vec!["ALL".to_owned()]),
            cap_add: (!container.capabilities.is_empty()).then(|| container.capabilities.clone()),
            pids_limit: Some(MOST_PROCESSES),
            readonly_rootfs: Some(container.read_only_root),
            userns_mode: (as_caller && around.host_users).then(|| "host".to_owned()),
            nano_cpus: job.cpu_limit.map(nano),
            memory: limit,
            // No swap beside: what is over the limit ends, as on local.
            memory_swap: limit,
            shm_size: Some(bytes(shared.max(LEAST_SHARED_MEMORY))),
            device_requests: (container.gpus > 0).then(|| {
                vec![DeviceRequest {
                    count: Some(i64::from(container.gpus)),
                    capabilities: Some(vec![vec!["gpu".to_owned()]]),
                    ..DeviceRequest::default()
                }]
            }),
            network_mode: Some(match &container.network {
                ContainerNetwork::None => "none".to_owned(),
                ContainerNetwork::Default => "bridge".to_owned(),
                ContainerNetwork::Named(name) => name.clone(),
            }),
            extra_hosts: Some(
                container.hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect(),
            ),
            mounts: Some(mounts),
            log_config: Some(log(job.log_keep)),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// What the engine keeps of the output, in case flowrun is killed: all of what ends (one file, never compressed nor
/// cut), the newest of what stays up. The driver `local` keeps bytes as they are; `json-file` does not.
fn log(keep: LogKeep) -> HostConfigLogConfig {
    let (size, files) = match keep {
        LogKeep::First => ("1t", "1"),
        LogKeep::Latest => ("100m", "2"),
    };
    let options = [("max-size", size), ("max-file", files), ("compress", "false")];
    HostConfigLogConfig {
        typ: Some("local".to_owned()),
        config: Some(
            options.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        ),
    }
}

/// One mount; a volume that is made by it carries the labels of who asks for it.
pub(super) fn mount(
    mount: &Mount,
    around: &Surroundings,
    labels: &std::collections::BTreeMap<String, String>,
) -> EngineMount {
    let (typ, source, volume_options) = match &mount.source {
        MountSource::Path(path) => (MountType::BIND, path.to_string_lossy().into_owned(), None),
        MountSource::Volume(name) => {
            let pipeline = labels.get_key_value("flowrun.pipeline");
            let mut labels: HashMap<String, String> =
                pipeline.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            labels.insert(INSTALLATION.to_owned(), around.installation.clone());
            let options =
                MountVolumeOptions { labels: Some(labels), ..MountVolumeOptions::default() };
            (MountType::VOLUME, name.clone(), Some(options))
        }
    };
    EngineMount {
        typ: Some(typ),
        source: Some(source),
        target: Some(mount.target.to_string_lossy().into_owned()),
        read_only: Some(mount.read_only),
        volume_options,
        ..EngineMount::default()
    }
}

fn bytes(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The engine counts processors in billionths.
#[expect(clippy::cast_possible_truncation, reason = "a cast saturates")]
fn nano(processors: f64) -> i64 {
    (processors * 1e9) as i64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::names::{JobName, RunId};
    use crate::secret::{HandedSecret, SecretText};

    fn job(command: &[&str]) -> Job {
        Job {
            name: JobName::new(RunId::new(1, 1), 1, 1),
            folder: PathBuf::from("/home/me/run/1-1"),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            directory: PathBuf::from("/flowrun/work"),
            env: BTreeMap::from([("HOME".to_owned(), "/home/stage".to_owned())]),
            memory_limit: Some(1 << 30),
            cpu_limit: Some(1.5),
            timeout: None,
            grace: Duration::from_secs(10),
            log_cap: 1,
            log_keep: LogKeep::First,
            container: None,
            secrets: Vec::new(),
        }
    }

    fn container(user: ContainerUser) -> Container {
        Container {
            image: "sha256:1".to_owned(),
            args: None,
            user,
            read_only_root: user == ContainerUser::Caller,
            network: ContainerNetwork::Default,
            capabilities: Vec::new(),
            mounts: vec![Mount {
                source: MountSource::Volume("flowrun-v".to_owned()),
                target: PathBuf::from("/data"),
                read_only: false,
            }],
            gpus: 0,
            hosts: BTreeMap::from([("model-api".to_owned(), [172, 18, 0, 1].into())]),
            labels: BTreeMap::from([("flowrun.pipeline".to_owned(), "iris".to_owned())]),
        }
    }

    fn ask(job: &Job, container: &Container) -> (ContainerCreateBody, HostConfig) {
        let around = Surroundings {
            installation: "i".to_owned(),
            user: "1000:100".to_owned(),
            host_users: false,
            memory: 8 << 30,
        };
        let mut body = request(job, container, &around, Some(Path::new("/dev/shm/flowrun-i/j")));
        let host = body.host_config.take().unwrap();
        (body, host)
    }

    #[test]
    fn a_command_is_contained() {
        let (body, host) = ask(&job(&["sh", "-c", "true"]), &container(ContainerUser::Caller));
        assert_eq!(body.entrypoint.unwrap(), ["sh"]);
        assert_eq!(body.cmd.unwrap(), ["-c", "true"]);
        assert_eq!(body.user.unwrap(), "1000:100");
        assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
        assert_eq!(host.security_opt.unwrap(), ["no-new-privileges"]);
        assert_eq!((host.init, host.readonly_rootfs), (Some(true), Some(true)));
        assert_eq!((host.memory, host.memory_swap), (Some(1 << 30), Some(1 << 30)));
        assert_eq!(host.nano_cpus, Some(1_500_000_000));
        assert_eq!(host.shm_size, Some(1 << 29));
        assert_eq!(host.extra_hosts.unwrap(), ["model-api:172.18.0.1"]);
        assert_eq!(host.privileged, None);
    }

    #[test]
    fn an_image_keeps_its_own_program_user_and_rights() {
        let mut job = job(&[]);
        job.directory = PathBuf::new();
        let (body, host) = ask(&job, &container(ContainerUser::Image));
        assert_eq!(
            (body.entrypoint, body.cmd, body.user, body.working_dir),
            (None, None, None, None)
        );
        assert_eq!((host.init, host.readonly_rootfs), (Some(false), Some(false)));
        assert_eq!(host.cap_drop, None);
        let volume = host.mounts.unwrap().remove(0).volume_options.unwrap().labels.unwrap();
        assert_eq!(volume["flowrun.installation"], "i");
        assert_eq!(volume["flowrun.pipeline"], "iris");
    }

    #[test]
    fn labels_name_secrets_and_never_hold_them() {
        let secret = |variable: &str, file| HandedSecret {
            variable: variable.to_owned(),
            value: SecretText::new("hunter2".to_owned()),
            file,
        };
        let mut job = job(&["true"]);
        job.secrets = vec![secret("KEY", false), secret("CERT", true)];
        let (body, host) = ask(&job, &container(ContainerUser::Caller));
        let labels = body.labels.unwrap();
        assert_eq!(labels["flowrun.secrets"], "KEY,CERT");
        assert!(labels.values().all(|value| !value.contains("hunter2")));
        let env = body.env.unwrap();
        assert!(env.contains(&"KEY=hunter2".to_owned()));
        assert!(env.contains(&"CERT=/run/secrets/flowrun/CERT".to_owned()));
        let mounts = host.mounts.unwrap();
        let files = mounts.iter().find(|mount| mount.target.as_deref() == Some(secrets::INSIDE));
        assert_eq!(files.unwrap().read_only, Some(true));
    }
}
