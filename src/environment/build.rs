//! Builds an environment once: `<folder>/<digest>/` is whole once `ready` lies in it. Environments cannot be moved, so it is made in
//! place, under the lock `<folder>/<digest>.lock`; what has no `ready` is removed and made again.

use std::fs::{File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::order::{Order, Progress};
use super::{
    Definition, Environment, EnvironmentError, EnvironmentSettings, in_image, on_machine, whole,
};

pub(super) async fn build(
    settings: &EnvironmentSettings,
    definition: &Definition,
    requirements: &[String],
    progress: Progress<'_>,
) -> Result<Environment, EnvironmentError> {
    if definition.image.is_some() && in_image::is_image_alone(definition) {
        return Ok(in_image::alone(definition));
    }
    let root = settings.folder.join(definition.digest().hex());
    if let Some(environment) = ready(&root, definition) {
        return Ok(environment);
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&settings.folder)?;
    let lock = hold(root.with_extension("lock"), progress).await?;
    if let Some(environment) = ready(&root, definition) {
        return Ok(environment);
    }
    let order = Order { settings, definition, requirements, root: &root, progress };
    let list = match &definition.image {
        Some(image) => in_image::make(&order, image).await?,
        None => on_machine::make(&order, &lock).await?,
    };
    whole::finish(&root, &list)?;
    ready(&root, definition).ok_or_else(|| {
        let python = root.join("bin/python").display().to_string();
        EnvironmentError::Build { log: format!("`{python}` is not there after the build") }
    })
}

/// The environment in `root`, if it is whole and its interpreter still there.
fn ready(root: &Path, definition: &Definition) -> Option<Environment> {
    let lock = whole::lock(root)?;
    if definition.image.is_some() {
        return in_image::ready(root, definition, lock);
    }
    let digest = definition.digest();
    let bin = root.join("bin");
    bin.join("python").exists().then(|| Environment {
        digest,
        bin,
        root: root.to_owned(),
        inside: false,
        lock,
    })
}

async fn hold(path: PathBuf, progress: Progress<'_>) -> Result<File, EnvironmentError> {
    let file =
        fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
    let (file, _) = file.into_parts();
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    progress("waiting for the same environment, which is being built elsewhere".to_owned());
    let held = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await;
    Ok(held.map_err(std::io::Error::other)??)
}
