//! Makes an environment for containers of an image: a container of it installs the requirements with the image's own interpreter into
//! a folder of this machine, which it sees where later containers see it. The image's own packages stay usable.

use std::path::{Path, PathBuf};

use fs_err as fs;

use super::container_variables::{CACHE, told};
use super::lists::Lists;
use super::order::Order;
use super::{Definition, Environment, EnvironmentError, INSIDE, outcome, whole};
use crate::runtime::docker::tool::{Tool, ToolEnd};
use crate::runtime::docker::{Docker, DockerError};
use crate::runtime::{Mount, MountSource};
use crate::source::redact;

const SCRIPT: &str = include_str!("in_image.py");
const REQUIREMENTS: &str = "/flowrun/requirements.txt";
const CONSTRAINTS: &str = "/flowrun/constraints.txt";
/// Lines of a failed build that are shown.
const SHOWN: usize = 40;

/// What the script says when it is the image that does not fit.
const REFUSED: i64 = 90;
/// What engines say of a program that is not there.
const NO_PROGRAM: [i64; 2] = [126, 127];

/// Whether a container of it needs nothing but its image.
pub(super) fn is_image_alone(definition: &Definition) -> bool {
    definition.python.is_empty() && definition.requirements.is_empty()
}

/// Makes what is wanted. Gives the resolved versions.
pub(super) async fn make(order: &Order<'_>, image: &str) -> Result<String, EnvironmentError> {
    let Order { settings, definition, requirements, root, progress } = *order;
    let docker = settings.docker.as_ref().ok_or_else(|| EnvironmentError::Definition {
        message: "this environment is one of an image, and there is no Docker here".to_owned(),
        help: "use `--runtime docker`".to_owned(),
    })?;
    // A build that was given up may go on: nothing may be written into the folder while it is cleared.
    docker.discard_tool(&tool_name(definition)).await?;
    whole::clear(root)?;
    fs::create_dir_all(root)?;
    let cache = settings.folder.join("cache-in-images");
    fs::create_dir_all(&cache)?;
    if requirements.is_empty() {
        progress(format!("asking the image for python {}", definition.python));
    } else {
        progress(format!("installing {} with the image's pip", order.counted()));
    }
    let lists = Lists::write(requirements, root)?;
    let end = run(docker, order, image, &lists).await;
    drop(lists);
    judge(&end?, &definition.python, root)?;
    let installed = root.join("installed");
    let list = if requirements.is_empty() {
        String::new()
    } else {
        let list = redact(&fs::read_to_string(&installed)?);
        fs::remove_file(installed)?;
        list
    };
    Ok(list)
}

async fn run(
    docker: &Docker,
    order: &Order<'_>,
    image: &str,
    lists: &Lists,
) -> Result<ToolEnd, EnvironmentError> {
    let Order { settings, definition, requirements, root, progress } = *order;
    let (env, given) = told(&settings.env);
    let mut mounts = vec![
        mount(root, INSIDE, false),
        mount(&settings.folder.join("cache-in-images"), CACHE, false),
    ];
    let (mut wanted, mut bounds) = ("", "");
    if !requirements.is_empty() {
        wanted = REQUIREMENTS;
        mounts.push(mount(&lists.requirements, wanted, true));
    }
    if let Some(constraints) = &lists.constraints {
        bounds = CONSTRAINTS;
        mounts.push(mount(constraints, bounds, true));
    }
    mounts.extend(given.iter().map(|(source, target)| mount(source, target, true)));
    let command = ["python3", "-I", "-c", SCRIPT, INSIDE, &definition.python, wanted, bounds];
    let tool = Tool {
        name: tool_name(definition),
        image: image.to_owned(),
        command: command.map(str::to_owned).to_vec(),
        directory: CACHE.into(),
        env,
        mounts,
    };
    let line = |line: String| {
        let line = redact(line.trim());
        if ["Collecting", "Downloading", "Building", "Installing"]
            .iter()
            .any(|word| line.starts_with(word))
        {
            progress(line.chars().take(120).collect());
        }
    };
    Ok(docker.run_tool(&tool, &line).await?)
}

fn tool_name(definition: &Definition) -> String {
    format!("environment-{}", &definition.digest().hex()[..32])
}

fn mount(source: &Path, target: impl Into<PathBuf>, read_only: bool) -> Mount {
    Mount { source: MountSource::Path(source.to_owned()), target: target.into(), read_only }
}

/// What an end of the container means.
fn judge(end: &ToolEnd, wanted: &str, root: &Path) -> Result<(), EnvironmentError> {
    let definition = |message: String, help: String| EnvironmentError::Definition { message, help };
    if end.code == 0 {
        return Ok(());
    }
    if NO_PROGRAM.contains(&end.code) {
        return Err(definition(
            "the image has no `python3`, which `requirements` and `python` need".to_owned(),
            "use an image with Python, or write `requirements: []` and no `python`".to_owned(),
        ));
    }
    let refused = fs::read_to_string(root.join("refused")).unwrap_or_default();
    if end.code == REFUSED {
        return Err(match refused.split_once(' ') {
            Some((_, version)) if wanted.is_empty() => definition(
                format!("the image has python {version}, and flowrun needs Python 3"),
                "use an image with Python 3".to_owned(),
            ),
            Some((_, version)) => definition(
                format!("the image has python {version}, and the stage asks for {wanted}"),
                "use an image with that version, or leave out `python`".to_owned(),
            ),
            None => definition(
                format!("the image's Python has no `{refused}`, which installs `requirements`"),
                "use an image with it (Debian: `python3-venv` or `python3-pip`), or build one with \
                 `build` that has the packages"
                    .to_owned(),
            ),
        });
    }
    let log = redact(end.log.trim_end());
    let lines: Vec<&str> = log.lines().collect();
    Err(outcome::error(lines[lines.len().saturating_sub(SHOWN)..].join("\n")))
}

/// The environment in `root`, which is whole. Its links lead to places of the image, so that its interpreter cannot be looked for here.
pub(super) fn ready(root: &Path, definition: &Definition, lock: String) -> Option<Environment> {
    let digest = definition.digest();
    let (bin, root) = if definition.requirements.is_empty() {
        (PathBuf::new(), PathBuf::new())
    } else {
        fs::symlink_metadata(root.join("bin/python")).ok()?;
        (Path::new(INSIDE).join("bin"), root.to_owned())
    };
    Some(Environment { digest, bin, root, inside: true, lock })
}

/// What an image alone is.
pub(super) fn alone(definition: &Definition) -> Environment {
    Environment {
        digest: definition.digest(),
        bin: PathBuf::new(),
        root: PathBuf::new(),
        inside: true,
        lock: String::new(),
    }
}

impl From<DockerError> for EnvironmentError {
    fn from(error: DockerError) -> Self {
        Self::Docker(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_does_not_fit_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let said = |code: i64, refused: &str, log: &str, wanted: &str| {
            fs::write(folder.path().join("refused"), refused).unwrap();
            match judge(&ToolEnd { code, log: log.to_owned() }, wanted, folder.path()) {
                Ok(()) => "fits".to_owned(),
                Err(EnvironmentError::Definition { message, .. }) => message,
                Err(EnvironmentError::Build { log }) => format!("build: {log}"),
                Err(EnvironmentError::Index { .. }) => "index".to_owned(),
                Err(other) => other.to_string(),
            }
        };
        assert_eq!(said(0, "", "", ""), "fits");
        assert!(said(127, "", "not found", "").starts_with("the image has no `python3`"));
        assert_eq!(
            said(90, "version 3.11.2", "", "3.12"),
            "the image has python 3.11.2, and the stage asks for 3.12"
        );
        assert!(said(90, "pip", "", "").contains("has no `pip`"));
        assert_eq!(
            said(91, "", "ERROR: No matching distribution", ""),
            "build: ERROR: No matching distribution"
        );
        assert_eq!(said(91, "", "NewConnectionError(", ""), "index");
    }
}
