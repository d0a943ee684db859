//! Which Python: found by name in the caller's `PATH`, asked once for its version, then known by what it is on disk.
//!
//! The answer is kept in `interpreters.json` beside the environments and holds while the command, and the interpreter that
//! it led to, have the same size, times and inode. A command that leads elsewhere (a shim of pyenv, asdf or mise) decides
//! by version files, from the current folder upwards and in its own root; then those that exist belong to what must be equal.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::{EnvironmentError, EnvironmentSettings};

/// More commands than a machine has. Beyond it the file is begun afresh.
const KEPT: usize = 200;

const QUESTION: &str = r#"
import json, os, sys
base = getattr(sys, "_base_executable", None) or sys.executable
if sys.prefix != sys.base_prefix:
    name = os.path.join(sys.base_prefix, "bin", "python%d.%d" % sys.version_info[:2])
    base = name if os.path.exists(name) else base
print(json.dumps({"name": sys.implementation.name, "version": sys.version.split()[0],
    "flags": getattr(sys, "abiflags", ""), "base": base, "executable": sys.executable}))
"#;

/// A Python to build environments with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Interpreter {
    /// As in [`super::Definition::python`].
    pub(super) version: String,
    /// The interpreter itself, also when the caller's is one of a virtual environment.
    pub(super) base: PathBuf,
}

#[derive(Deserialize)]
struct Answer {
    name: String,
    version: String,
    flags: String,
    base: PathBuf,
    executable: PathBuf,
}

/// Size, times and inode of a file.
type Stamp = (u64, i64, i64, i64, i64, u64);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Known {
    command: Stamp,
    /// None: it does not run, or is no Python 3.
    found: Option<(Interpreter, Stamp)>,
    /// For a command that leads elsewhere or nowhere.
    version_files: Option<Vec<(PathBuf, Stamp)>>,
}

/// The interpreter for `python` ("3", "3.12", "3.12.1"; none: the first `python3`). One look per process: a run does not
/// change its mind midway.
pub(super) fn find(
    settings: &EnvironmentSettings,
    python: Option<&str>,
) -> Result<Interpreter, EnvironmentError> {
    type Asked = (PathBuf, String, Option<String>);
    static FOUND: Mutex<BTreeMap<Asked, Interpreter>> = Mutex::new(BTreeMap::new());
    let asked = (settings.folder.clone(), settings.path.clone(), python.map(str::to_owned));
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(interpreter) = found.get(&asked) {
        return Ok(interpreter.clone());
    }
    let interpreter = look(settings, python)?;
    found.insert(asked, interpreter.clone());
    Ok(interpreter)
}

fn look(
    settings: &EnvironmentSettings,
    python: Option<&str>,
) -> Result<Interpreter, EnvironmentError> {
    let names = match python {
        None => vec!["python3".to_owned(), "python".to_owned()],
        Some(wanted) => {
            let numbers: Vec<&str> = wanted.split('.').collect();
            let number = |n: &&str| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit());
            if numbers.len() > 3 || !numbers.iter().all(number) {
                return Err(EnvironmentError::Definition {
                    message: format!("`{wanted}` is no Python version"),
                    help: "write it like \"3.12\", in quotes".to_owned(),
                });
            }
            let mut names = vec!["python3".to_owned(), "python".to_owned()];
            if let [major, minor, ..] = numbers[..] {
                names.insert(0, format!("python{major}.{minor}"));
            }
            names
        }
    };
    let mut cache = Cache::open(settings);
    let mut others = Vec::new();
    let mut chosen = None;
    // Folder by folder, as a shell looks: the first folder that has a fitting one is the one the caller put in front.
    for command in settings
        .path
        .split(':')
        .flat_map(|folder| names.iter().flat_map(move |name| programs(folder, name)))
    {
        match cache.ask(&command) {
            Some(one) if python.is_none_or(|wanted| matches(&one.version, wanted)) => {
                chosen = Some(one);
                break;
            }
            Some(one) => others.push(one.version),
            None => {}
        }
    }
    if let (None, Some(wanted)) = (&chosen, python) {
        let fits = |one: &Interpreter| matches(&one.version, wanted);
        chosen = installed(&settings.path, wanted)
            .into_iter()
            .find_map(|command| cache.ask(&command).filter(fits))
            .or_else(|| cache.ask(&uv_knows(settings, wanted)?).filter(fits));
    }
    cache.close();
    chosen.ok_or_else(|| missing(python, &mut others))
}

fn missing(python: Option<&str>, others: &mut Vec<String>) -> EnvironmentError {
    let Some(wanted) = python else {
        return EnvironmentError::Definition {
            message: "there is no `python3` in `PATH`".to_owned(),
            help: "install Python 3, or name a version with `python:` that `uv` has".to_owned(),
        };
    };
    others.sort();
    others.dedup();
    let message = format!("python {wanted} is not on this machine");
    let install = format!("install it, for instance with `uv python install {wanted}`");
    let help = match others.as_slice() {
        [] => install,
        here => format!("{install}, or use one that is here: {}", here.join(", ")),
    };
    EnvironmentError::Definition { message, help }
}

/// Whether a full version is the wanted one: "3.12" is 3.12.1, not 3.1. Other implementations and builds must be the
/// caller's `python3`.
fn matches(version: &str, wanted: &str) -> bool {
    version.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Every executable file of this name in `path`, in order.
pub(super) fn programs(path: &str, name: &str) -> Vec<PathBuf> {
    path.split(':')
        .filter(|folder| folder.starts_with('/'))
        .map(|folder| Path::new(folder).join(name))
        .filter(|command| {
            fs::metadata(command).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        })
        .collect()
}

/// What the version managers behind the shims of `path` have installed of this version, newest first, though they may not
/// have it switched on here.
fn installed(path: &str, wanted: &str) -> Vec<PathBuf> {
    let roots = path.split(':').filter_map(|folder| folder.strip_suffix("/shims"));
    let mut found: Vec<(Vec<u32>, PathBuf)> = roots
        .flat_map(|root| ["versions", "installs/python"].map(|below| Path::new(root).join(below)))
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            let numbers = name.split('.').map(|number| number.parse().unwrap_or(0)).collect();
            matches(&name, wanted).then(|| (numbers, entry.path().join("bin/python3")))
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, command)| command).collect()
}

fn uv_knows(settings: &EnvironmentSettings, wanted: &str) -> Option<PathBuf> {
    let uv = programs(&settings.path, "uv").into_iter().next()?;
    let mut command = Command::new(uv);
    command.args(["python", "find", "--no-python-downloads", "--no-project", wanted]);
    let output = quiet(&mut command, settings).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| PathBuf::from(text.trim()))
}

fn quiet<'a>(command: &'a mut Command, settings: &EnvironmentSettings) -> &'a mut Command {
    command.env_clear().envs(&settings.env).env("PATH", &settings.path).stdin(Stdio::null())
}

struct Cache<'a> {
    settings: &'a EnvironmentSettings,
    known: BTreeMap<PathBuf, Known>,
    changed: bool,
}

impl<'a> Cache<'a> {
    fn open(settings: &'a EnvironmentSettings) -> Self {
        let known = fs::read(settings.folder.join("interpreters.json"))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        Self { settings, known, changed: false }
    }

    /// Writes what is new. A cache that cannot be written costs time, so that is no error.
    fn close(self) {
        if !self.changed {
            return;
        }
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(&self.settings.folder)?;
            let file = tempfile::NamedTempFile::new_in(&self.settings.folder)?;
            serde_json::to_writer(file.as_file(), &self.known)?;
            file.persist(self.settings.folder.join("interpreters.json"))?;
            Ok(())
        };
        drop(write());
    }

    /// What this command runs; none when that is no Python 3. What could not even be started is asked again next time.
    fn ask(&mut self, command: &Path) -> Option<Interpreter> {
        let here = stamp(command)?;
        if let Some(known) = self.known.get(command)
            && known.command == here
            && known.found.as_ref().is_none_or(|(found, then)| stamp(&found.base) == Some(*then))
            && known.version_files.as_ref().is_none_or(|then| *then == self.version_files(command))
        {
            return known.found.clone().map(|(found, _)| found);
        }
        let version_files = self.version_files(command);
        // One that was killed said nothing of what it is.
        let output = self.run(command).filter(|output| output.status.code().is_some())?;
        let answer: Option<Answer> =
            serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success());
        let direct = answer.as_ref().is_some_and(|answer| {
            fs::canonicalize(&answer.executable).ok() == fs::canonicalize(command).ok()
        });
        let found = answer.and_then(|answer| {
            let version = match answer.name.as_str() {
                "cpython" if answer.flags.contains('t') => format!("{}t", answer.version),
                "cpython" => answer.version,
                other => format!("{other}-{}", answer.version),
            };
            let then = stamp(&answer.base)?;
            Some((Interpreter { version, base: answer.base }, then))
        });
        if self.known.len() >= KEPT {
            self.known.clear();
        }
        let version_files = (!direct).then_some(version_files);
        let known = Known { command: here, found: found.clone(), version_files };
        self.known.insert(command.to_owned(), known);
        self.changed = true;
        found.map(|(found, _)| found)
    }

    fn run(&self, command: &Path) -> Option<std::process::Output> {
        let mut command = Command::new(command);
        command.args(["-E", "-s", "-c", QUESTION]).stderr(Stdio::null());
        quiet(&mut command, self.settings).output().ok()
    }

    /// The files by which version managers decide, as far as they exist. Their variables reach no interpreter here.
    fn version_files(&self, command: &Path) -> Vec<(PathBuf, Stamp)> {
        let mut files = Vec::new();
        if let Ok(folder) = std::env::current_dir() {
            for above in folder.ancestors() {
                let names = [".python-version", ".tool-versions", "mise.toml", ".mise.toml"];
                files.extend(names.map(|name| above.join(name)));
            }
        }
        if let Some(root) = command.parent().and_then(Path::parent) {
            files.extend([root.join("version"), root.join("versions")]);
        }
        if let Some(home) = self.settings.env.get("HOME").map(Path::new) {
            files
                .extend([".tool-versions", ".config/mise/config.toml"].map(|name| home.join(name)));
        }
        files.into_iter().filter_map(|file| stamp(&file).map(|stamp| (file, stamp))).collect()
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let m = fs::metadata(path).ok()?;
    Some((m.size(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec(), m.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_match_by_their_numbers() {
        assert!(matches("3.12.1", "3.12") && matches("3.12.1", "3.12.1") && matches("3.9.1", "3"));
        assert!(!matches("3.12.1", "3.1") && !matches("3.12.10", "3.12.1"));
        assert!(!matches("pypy-3.10.1", "3.10"));
    }

    /// A command that counts how often it runs and answers as a Python would.
    fn fake(folder: &Path, name: &str, version: &str) {
        let count = folder.join("count");
        let base = folder.join("base");
        fs::write(&base, "").unwrap();
        let text = format!(
            "#!/bin/sh\necho >> {count}\necho '{{\"name\": \"cpython\", \"version\": \"{version}\", \"flags\": \"\", \
             \"base\": \"{base}\", \"executable\": \"{base}\"}}'\n",
            count = count.display(),
            base = base.display()
        );
        // Written by another process: a file that this one has open for writing cannot be run (other tests fork too).
        let place = folder.join(name);
        let script = "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\"";
        let made = Command::new("sh").arg("-c").arg(script).arg(place).arg(text).status().unwrap();
        assert!(made.success());
    }

    #[test]
    fn an_interpreter_is_run_again_only_when_it_changed() {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).unwrap();
        fake(&bin, "python3", "3.11.7");
        let settings = EnvironmentSettings {
            folder: folder.path().join("environments"),
            path: format!("{}:/usr/bin:/bin", bin.display()),
            env: BTreeMap::new(),
            docker: None,
        };
        let runs = || fs::read_to_string(bin.join("count")).unwrap().len();
        assert_eq!(look(&settings, None).unwrap().version, "3.11.7");
        assert_eq!(look(&settings, Some("3.11")).unwrap().version, "3.11.7");
        assert_eq!(runs(), 1);
        // A shim's answer may change with its version files.
        fs::write(folder.path().join("version"), "3.12").unwrap();
        fs::remove_file(bin.join("python3")).unwrap();
        fake(&bin, "python3", "3.12.10");
        assert_eq!(look(&settings, None).unwrap().version, "3.12.10");
        fs::write(folder.path().join("version"), "3.12.10").unwrap();
        assert_eq!(look(&settings, None).unwrap().version, "3.12.10");
        assert_eq!(runs(), 3);
    }

    #[test]
    fn a_version_that_is_not_switched_on_is_found() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("shims")).unwrap();
        for version in ["3.12.9", "3.12.10", "3.1.2"] {
            let bin = folder.path().join("versions").join(version).join("bin");
            fs::create_dir_all(&bin).unwrap();
            fake(&bin, "python3", version);
        }
        let settings = EnvironmentSettings {
            folder: folder.path().join("environments"),
            path: folder.path().join("shims").display().to_string(),
            env: BTreeMap::from([("PATH".to_owned(), "/bin:/usr/bin".to_owned())]),
            docker: None,
        };
        assert_eq!(look(&settings, Some("3.12")).unwrap().version, "3.12.10");
    }

    #[test]
    fn what_is_missing_is_said() {
        let settings = EnvironmentSettings {
            folder: PathBuf::from("/nonexistent"),
            path: "/nonexistent".to_owned(),
            env: BTreeMap::new(),
            docker: None,
        };
        for python in [None, Some("3.12"), Some("latest"), Some("3.")] {
            let error = look(&settings, python).unwrap_err();
            assert!(matches!(error, EnvironmentError::Definition { .. }), "{python:?}");
        }
    }
}
