//! What the image's own user made in folders of the caller becomes the caller's, who could else neither read nor remove it.

use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig};

use super::container::Begun;
use super::create::{Surroundings, mount};
use super::{Docker, DockerError, INSTALLATION};
use crate::runtime::{Container, ContainerUser, Job, Mount, MountSource};

/// What root may do there: give away what belongs to others, wherever it lies.
const RIGHTS: [&str; 3] = ["CHOWN", "DAC_OVERRIDE", "FOWNER"];

impl Docker {
    /// Gives it back, through a container of the same image that sees these folders and nothing else. Safe to be done twice.
    ///
    /// An inner error is a fragment for a person: why it stays as it is. A caller who is root needs none of it.
    pub(super) async fn give_back(&self, job: &Job) -> Result<Result<(), String>, DockerError> {
        let Some(container) = job.container.as_deref() else { return Ok(Ok(())) };
        let is_root = rustix::process::geteuid().is_root();
        let folders: Vec<&Mount> = writable_folders(container).collect();
        if container.user == ContainerUser::Caller || is_root || folders.is_empty() {
            return Ok(Ok(()));
        }
        let around = self.surroundings().await?;
        let name = format!("{}-owner", job.name);
        if self.find_job(&name).await?.is_some() {
            self.discard(&name).await?;
        }
        self.make(&name, request(container, &folders, &around)).await?;
        let given = match self.begin(&name).await? {
            Begun::NotStartable { .. } => Err("its image has no `chown`".to_owned()),
            Begun::Running(_) => {
                self.exit(&name).await?;
                let state = self.find_job(&name).await?.and_then(|found| found.0.state);
                match state.and_then(|state| state.exit_code) {
                    Some(0) => Ok(()),
                    _ => Err("`chown` of its image refused".to_owned()),
                }
            }
        };
        self.discard(&name).await?;
        Ok(given)
    }
}

/// Volumes of the image's user are the engine's, and stay as they are.
fn writable_folders(container: &Container) -> impl Iterator<Item = &Mount> {
    let is_folder = |mount: &&Mount| matches!(mount.source, MountSource::Path(_));
    container.mounts.iter().filter(|mount| !mount.read_only).filter(is_folder)
}

fn request(
    container: &Container,
    folders: &[&Mount],
    around: &Surroundings,
) -> ContainerCreateBody {
    let options = ["-h", "-R", &around.user].map(str::to_owned);
    let targets = folders.iter().map(|mount| mount.target.to_string_lossy().into_owned());
    let texts = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
    ContainerCreateBody {
        image: Some(container.image.clone()),
        entrypoint: Some(texts(&["chown"])),
        cmd: Some(options.into_iter().chain(targets).collect()),
        user: Some("0:0".to_owned()),
        labels: Some([(INSTALLATION.to_owned(), around.installation.clone())].into()),
        host_config: Some(HostConfig {
            security_opt: Some(texts(&["no-new-privileges"])),
            cap_drop: Some(texts(&["ALL"])),
            cap_add: Some(texts(&RIGHTS)),
            readonly_rootfs: Some(true),
            userns_mode: around.host_users.then(|| "host".to_owned()),
            network_mode: Some("none".to_owned()),
            mounts: Some(folders.iter().map(|one| mount(one, around, &container.labels)).collect()),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}
