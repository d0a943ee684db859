//! Secrets of a container: variables, and files that are mounted read-only. Their values can be read back as long as the container is
//! there, so that a log is masked also by whoever adopts it.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use super::container::Found;
use super::create::{FOLDER, SECRETS};
use super::{Docker, DockerError, clock};
use crate::names::JobName;
use crate::runtime::job_folder::JobFolder;
use crate::runtime::log::Masks;
use crate::runtime::secret_files;
use crate::secret::{HandedSecret, SecretText};

/// Where files of secrets are seen.
pub(super) const INSIDE: &str = "/run/secrets/flowrun";

/// `NAME=value` for each secret; of a file its path.
pub(super) fn variables(secrets: &[HandedSecret]) -> impl Iterator<Item = String> {
    secrets.iter().map(|secret| {
        let variable = &secret.variable;
        if secret.file {
            format!("{variable}={INSIDE}/{variable}")
        } else {
            format!("{variable}={}", secret.value.reveal())
        }
    })
}

/// The names of the variables, for a label.
pub(super) fn names(secrets: &[HandedSecret]) -> String {
    let names: Vec<&str> = secrets.iter().map(|secret| secret.variable.as_str()).collect();
    names.join(",")
}

/// What can be had of the secrets of a container that another process made.
pub(super) struct ReadBack {
    pub(super) secrets: Vec<HandedSecret>,
    /// These are all.
    pub(super) is_whole: bool,
}

/// The secrets of a job's container: names from its label, values from its own variables and files.
pub(super) fn of_container(job: &JobName, found: &Found) -> ReadBack {
    let names = found.label(SECRETS).filter(|names| !names.is_empty());
    let attempt = found.label(FOLDER).map(String::as_str).unwrap_or_default();
    let folder = secret_files::folder(job, Path::new(attempt));
    let secrets = read_back(names, found.env(), &folder);
    let is_whole = names.map_or(0, |names| names.split(',').count()) == secrets.len();
    ReadBack { secrets, is_whole }
}

impl Docker {
    /// Masks for the secrets of a job's container; nothing when they cannot be had any more.
    pub(super) async fn masks(&self, job: &JobName) -> Result<Option<Masks>, DockerError> {
        let Some(found) = self.find_job(job.as_str()).await? else { return Ok(None) };
        let back = of_container(job, &found);
        Ok(if back.is_whole { Some(Masks::of(&back.secrets)?) } else { None })
    }
}

impl Docker {
    /// Removes the files of jobs in this folder that have no container (any more) and are older than `age`: a job gets its files before
    /// its container. How many jobs had some.
    pub async fn remove_left_secrets(
        &self,
        below: &Path,
        age: Duration,
    ) -> Result<usize, DockerError> {
        let mut removed = 0;
        for kept in secret_files::kept()? {
            let is_old = clock::since(kept.made).is_some_and(|passed| passed > age);
            let folder = JobFolder::new(&kept.attempt);
            let job = folder.job();
            // Somebody follows it, perhaps at another engine than this one.
            let is_followed = folder.was_ordered() && folder.try_lock()?.is_none();
            let in_container = job.is_some_and(|job| job.container.is_some());
            if is_old
                && in_container
                && !is_followed
                && kept.attempt.starts_with(below)
                && self.find_job(&kept.job).await?.is_none()
            {
                secret_files::remove_kept(&kept)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn read_back(label: Option<&String>, env: &[String], folder: &Path) -> Vec<HandedSecret> {
    let names = label.map(String::as_str).unwrap_or_default();
    let values: HashMap<&str, &str> = env.iter().filter_map(|line| line.split_once('=')).collect();
    names
        .split(',')
        .filter_map(|name| {
            let value = *values.get(name)?;
            let file = value == format!("{INSIDE}/{name}");
            let value = if file {
                fs_err::read_to_string(folder.join(name)).ok()?
            } else {
                value.to_owned()
            };
            Some(HandedSecret { variable: name.to_owned(), value: SecretText::new(value), file })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_handed_over_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let secret = |variable: &str, value: &str, file| HandedSecret {
            variable: variable.to_owned(),
            value: SecretText::new(value.to_owned()),
            file,
        };
        let secrets = [secret("KEY", "a=b", false), secret("CERT", "two\nlines", true)];
        fs_err::write(folder.path().join("CERT"), "two\nlines").unwrap();
        let env: Vec<String> = variables(&secrets).collect();
        assert_eq!(read_back(Some(&names(&secrets)), &env, folder.path()), secrets);
        assert_eq!(read_back(None, &env, folder.path()), []);
    }
}
