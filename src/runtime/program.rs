//! Finds the program of a job in the job's own `PATH`, so that one that cannot be started is told in words.

use std::path::{Path, PathBuf};

use super::Job;

/// What a shell searches when `PATH` is not set.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Why a job cannot start through no fault of flowrun's; it ends with `code`, and its `stderr` says `why`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotStartable {
    /// As shells have it: 127 not found, 126 found and not executable.
    pub(super) code: i32,
    /// One line.
    pub(super) why: String,
}

/// The absolute path of the job's program; its directory is known to exist after.
pub(super) fn find(job: &Job) -> Result<PathBuf, NotStartable> {
    let refuse = |code, why| Err(NotStartable { code, why });
    let Some(program) = job.command.first().filter(|program| !program.is_empty()) else {
        return refuse(127, "there is no command".to_owned());
    };
    if !job.directory.is_dir() {
        return refuse(127, format!("there is no folder `{}` to run in", job.directory.display()));
    }
    if job.command.iter().any(|word| word.contains('\0')) {
        return refuse(126, "the command holds a NUL character".to_owned());
    }
    if program.contains('/') {
        let path = job.directory.join(program);
        return match look(&path) {
            Look::Good => Ok(path),
            Look::NotExecutable => refuse(126, format!("`{program}` is not an executable file")),
            Look::Missing => refuse(127, format!("`{program}` does not exist")),
        };
    }
    let places = job.env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
    let mut seen = None;
    for place in places.split(':') {
        let path = job.directory.join(place).join(program);
        match look(&path) {
            Look::Good => return Ok(path),
            Look::NotExecutable => seen = seen.or(Some(path)),
            Look::Missing => {}
        }
    }
    match seen {
        Some(path) => refuse(126, format!("`{}` is not an executable file", path.display())),
        None => refuse(127, format!("`{program}` was not found in PATH ({places})")),
    }
}

enum Look {
    Good,
    NotExecutable,
    Missing,
}

fn look(path: &Path) -> Look {
    match fs_err::metadata(path) {
        Err(_) => Look::Missing,
        Ok(about) if !about.is_file() => Look::NotExecutable,
        Ok(_) if rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_err() => {
            Look::NotExecutable
        }
        Ok(_) => Look::Good,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::names::{JobName, RunId};

    fn job(directory: &Path, path: &str, program: &str) -> Job {
        Job {
            name: JobName::new(RunId::new(1, 1), 1, 1),
            folder: directory.to_owned(),
            command: vec![program.to_owned()],
            directory: directory.to_owned(),
            env: BTreeMap::from([("PATH".to_owned(), path.to_owned())]),
            memory_limit: None,
            cpu_limit: None,
            timeout: None,
            grace: Duration::from_secs(1),
            log_cap: 1,
            log_keep: crate::runtime::LogKeep::First,
            container: None,
            secrets: Vec::new(),
        }
    }

    #[test]
    fn programs_are_found_as_a_shell_would() {
        let here = tempfile::tempdir().unwrap();
        fs_err::write(here.path().join("plain"), "").unwrap();
        let find = |path: &str, program: &str| find(&job(here.path(), path, program));
        assert!(find("/nowhere:/bin", "sh").is_ok());
        assert_eq!(find("/nowhere", "sh").unwrap_err().code, 127);
        assert_eq!(find(".", "plain").unwrap_err().code, 126);
        assert_eq!(find(".", "./plain").unwrap_err().code, 126);
        assert_eq!(find(".", "./missing").unwrap_err().code, 127);
        assert_eq!(find(".", "").unwrap_err().code, 127);
    }
}
