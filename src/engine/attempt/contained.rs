//! An attempt as a container: what it sees, under which paths, and what it reaches.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::engine::settings::DockerPlace;
use crate::environment::Environment;
use crate::plan::PlannedTask;
use crate::runtime::docker::image::Image;
use crate::runtime::{Container, ContainerNetwork, ContainerUser, Mount, MountSource};
use crate::spec::pipeline::Stage;
use crate::workspace::inside::{ENVIRONMENT, Seen};

use super::Attempts;

/// What a container is made of beside its stage.
pub(super) struct Parts<'a> {
    pub(super) place: &'a DockerPlace,
    pub(super) image: &'a Image,
    pub(super) task: &'a PlannedTask,
    pub(super) stage: &'a Stage,
    /// What it sees of this machine beside its environment.
    pub(super) seen: Vec<Seen>,
    /// On this machine.
    pub(super) environment: Option<&'a Environment>,
    /// Arguments of the image's own program, expanded.
    pub(super) args: Option<Vec<String>>,
    pub(super) gpus: u32,
}

impl Attempts {
    /// The container of an attempt.
    pub(super) fn contain(&self, parts: Parts<'_>) -> Container {
        let Parts { place, image, task, stage, seen, environment, args, gpus } = parts;
        let spec = &stage.container;
        let environment = environment.and_then(Environment::mounted);
        let mounts = seen
            .into_iter()
            .map(|one| mount(one.source, one.target, one.read_only))
            .chain(environment.map(|root| mount(root.to_owned(), ENVIRONMENT.into(), true)))
            .collect();
        let network = match &place.network {
            _ if spec.no_network => ContainerNetwork::None,
            Some(network) => ContainerNetwork::Named(network.name.clone()),
            None => ContainerNetwork::Default,
        };
        let labels = [
            ("flowrun.pipeline", self.pipeline.name.to_string()),
            ("flowrun.stage", stage.name.to_string()),
            ("flowrun.run", self.run.to_string()),
            ("flowrun.task", task.label.clone()),
        ];
        Container {
            image: image.id.clone(),
            args,
            user: if spec.image_user { ContainerUser::Image } else { ContainerUser::Caller },
            read_only_root: !spec.writable_root,
            network,
            capabilities: spec.capabilities.clone(),
            mounts,
            gpus,
            hosts: if spec.no_network { BTreeMap::new() } else { place.hosts.clone() },
            labels: labels.map(|(name, value)| (name.to_owned(), value)).into(),
        }
    }
}

/// Lets another user write where the stage may write: all folders of the work folder, its home and its `TMPDIR`. They lie in
/// folders that nobody but the caller can enter on this machine.
pub(super) fn open_to_all(seen: &[Seen]) -> io::Result<()> {
    let writable = seen.iter().filter(|one| !one.read_only);
    writable.into_iter().try_for_each(|one| open_folder(&one.source))
}

fn open_folder(folder: &Path) -> io::Result<()> {
    let is_folder = fs_err::symlink_metadata(folder)?.is_dir();
    if !is_folder {
        return Ok(());
    }
    fs_err::set_permissions(folder, std::fs::Permissions::from_mode(0o777))?;
    fs_err::read_dir(folder)?.try_for_each(|entry| open_folder(&entry?.path()))
}

fn mount(source: PathBuf, target: PathBuf, read_only: bool) -> Mount {
    Mount { source: MountSource::Path(source), target, read_only }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_user_may_write_where_the_stage_may() {
        let folder = tempfile::tempdir().unwrap();
        let (work, inputs) = (folder.path().join("work"), folder.path().join("inputs"));
        fs_err::create_dir_all(work.join("a/b")).unwrap();
        fs_err::create_dir(&inputs).unwrap();
        fs_err::write(work.join("a/file"), "").unwrap();
        fs_err::set_permissions(work.join("a/file"), std::fs::Permissions::from_mode(0o644))
            .unwrap();
        fs_err::set_permissions(&inputs, std::fs::Permissions::from_mode(0o755)).unwrap();
        let seen = |source: &Path, read_only| Seen {
            source: source.to_owned(),
            target: "/x".into(),
            read_only,
        };
        open_to_all(&[seen(&work, false), seen(&inputs, true)]).unwrap();
        let mode = |path: PathBuf| fs_err::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(work.join("a/b")), 0o777);
        assert_eq!(mode(work.join("a/file")), 0o644);
        assert_eq!(mode(inputs), 0o755);
    }
}
