//! Makes an environment: `<folder>/<digest>/` is a virtual environment, whole once `ready` lies in it. Environments cannot be
//! moved, so it is made in place, under the lock `<folder>/<digest>.lock`; what has no `ready` is removed and made again.

use std::fs::{File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::outcome::{self, Failed};
use super::tool::Tools;
use super::{
    Definition, Environment, EnvironmentError, EnvironmentSettings, interpreter, variables,
};
use crate::digest::Digest;

/// First line of `ready`; the lock follows.
const READY: &str = "flowrun environment 1\n";

pub(super) async fn build(
    settings: &EnvironmentSettings,
    definition: &Definition,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<Environment, EnvironmentError> {
    let digest = definition.digest();
    let root = settings.folder.join(digest.hex());
    if let Some(environment) = ready(&root, digest) {
        return Ok(environment);
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&settings.folder)?;
    let lock = hold(root.with_extension("lock"), progress).await?;
    if let Some(environment) = ready(&root, digest) {
        return Ok(environment);
    }
    clear(&root)?;
    let common = variables::for_tools(&settings.env, &settings.path, &settings.folder);
    let tools = Tools { folder: &settings.folder, variables: &common, lock: &lock, progress };
    let list = if definition.requirements.is_empty() {
        progress(format!("making an environment of python {}", definition.python));
        venv(&tools, definition, &root).await?;
        String::new()
    } else {
        let files = Lists::write(definition, &root)?;
        let installed = install(settings, &tools, definition, &root, &files).await;
        files.remove()?;
        installed?
    };
    finish(&root, &list)?;
    ready(&root, digest).ok_or_else(|| {
        let python = root.join("bin/python").display().to_string();
        EnvironmentError::Build { log: format!("`{python}` is not there after the build") }
    })
}

/// The environment in `root`, if it is whole and its interpreter still there.
fn ready(root: &Path, digest: Digest) -> Option<Environment> {
    let text = fs::read_to_string(root.join("ready")).ok()?;
    let lock = text.strip_prefix(READY)?.to_owned();
    let bin = root.join("bin");
    bin.join("python").exists().then(|| Environment { digest, bin, root: root.to_owned(), lock })
}

async fn hold(
    path: PathBuf,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<File, EnvironmentError> {
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

/// Removes what an earlier builder left. The marker goes first, so that a crash here leaves nothing that looks whole.
fn clear(root: &Path) -> std::io::Result<()> {
    for result in [fs::remove_file(root.join("ready")), fs::remove_dir_all(root)] {
        match result {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Makes the files durable, then says that they are whole.
fn finish(root: &Path, lock: &str) -> Result<(), EnvironmentError> {
    let marker = root.join("ready.new");
    fs::write(&marker, format!("{READY}{lock}"))?;
    #[cfg(target_os = "linux")]
    rustix::fs::syncfs(fs::File::open(root)?).map_err(std::io::Error::from)?;
    #[cfg(not(target_os = "linux"))]
    rustix::fs::sync();
    fs::rename(marker, root.join("ready"))?;
    Ok(())
}

/// An environment without packages. The standard layout is a few links and one file: no process is needed to make it.
async fn venv(
    tools: &Tools<'_>,
    definition: &Definition,
    root: &Path,
) -> Result<(), EnvironmentError> {
    let numbers: Vec<&str> = definition.python.split('.').collect();
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (Some(home), [major, minor, patch]) = (definition.interpreter.parent(), &numbers[..])
    else {
        return standard_venv(tools, definition, root, true).await;
    };
    if !(number(major) && number(minor) && number(patch)) {
        return standard_venv(tools, definition, root, true).await;
    }
    let name = format!("python{major}.{minor}");
    fs::create_dir_all(root.join("bin"))?;
    fs::create_dir_all(root.join("lib").join(&name).join("site-packages"))?;
    #[cfg(target_os = "linux")]
    symlink("lib", root.join("lib64"))?;
    symlink(&definition.interpreter, root.join("bin/python"))?;
    symlink("python", root.join("bin/python3"))?;
    symlink("python", root.join("bin").join(&name))?;
    let text = format!(
        "home = {}\ninclude-system-site-packages = false\nversion = {}\n",
        home.display(),
        definition.python
    );
    fs::write(root.join("pyvenv.cfg"), text)?;
    let check = "import sys, encodings; sys.exit(sys.prefix == sys.base_prefix)";
    let python = root.join("bin/python");
    if tools.run(&python, ["-I", "-c", check]).await?.is_ok() {
        return Ok(());
    }
    clear(root)?;
    standard_venv(tools, definition, root, true).await
}

/// By the interpreter's own `venv`; slower, and right where the layout is another.
async fn standard_venv(
    tools: &Tools<'_>,
    definition: &Definition,
    root: &Path,
    without_pip: bool,
) -> Result<(), EnvironmentError> {
    let mut arguments = vec!["-I".into(), "-m".into(), "venv".into(), root.as_os_str().to_owned()];
    if without_pip {
        arguments.push("--without-pip".into());
    }
    match tools.run(&definition.interpreter, arguments).await? {
        Ok(_) => Ok(()),
        Err(log) => Err(EnvironmentError::Build { log }),
    }
}

/// Installs the requirements: with uv where there is one, else, or where uv does not do what is asked, with pip. Gives the
/// resolved versions.
async fn install(
    settings: &EnvironmentSettings,
    tools: &Tools<'_>,
    definition: &Definition,
    root: &Path,
    lists: &Lists,
) -> Result<String, EnvironmentError> {
    let count = definition.requirements.iter().filter(|line| !line.starts_with('-')).count();
    let noun = if count == 1 { "requirement" } else { "requirements" };
    let python = root.join("bin/python");
    if let Some(uv) = interpreter::programs(&settings.path, "uv").into_iter().next() {
        (tools.progress)(format!("installing {count} {noun} with uv"));
        let mut variables = tools.variables.clone();
        let flags = variables::for_uv(&mut variables);
        let tools = Tools { variables: &variables, ..*tools };
        venv(&tools, definition, root).await?;
        let mut arguments = os(&["pip", "install", "--python"]);
        arguments.push(python.clone().into());
        arguments.extend(flags.into_iter().map(Into::into));
        arguments.extend(lists.arguments());
        match tools.run(&uv, arguments).await? {
            Ok(_) => {
                let mut arguments = os(&["pip", "freeze", "--python"]);
                arguments.push(python.into());
                return tools.run(&uv, arguments).await?.map_err(outcome::error);
            }
            Err(log) if outcome::judge(&log) != Failed::Unsupported => {
                return Err(outcome::error(log));
            }
            Err(_) => clear(root)?,
        }
    }
    (tools.progress)(format!("installing {count} {noun} with pip"));
    standard_venv(tools, definition, root, false).await?;
    let mut arguments = os(&["-m", "pip", "install", "--no-color", "--progress-bar", "off"]);
    arguments.extend(lists.arguments());
    if let Err(log) = tools.run(&python, arguments).await? {
        return Err(outcome::error(log));
    }
    tools.run(&python, os(&["-m", "pip", "freeze"])).await?.map_err(outcome::error)
}

fn os(words: &[&str]) -> Vec<std::ffi::OsString> {
    words.iter().map(Into::into).collect()
}

/// The files that the tools read. They may hold passwords, so they are the owner's alone and go when the build ends; the
/// next builder removes what a crash left.
struct Lists {
    requirements: PathBuf,
    constraints: Option<PathBuf>,
}

impl Lists {
    fn write(definition: &Definition, root: &Path) -> std::io::Result<Self> {
        let (mut wanted, mut bounds) = (String::new(), String::new());
        for line in &definition.requirements {
            let (list, line) = match line.strip_prefix("-c ") {
                Some(line) => (&mut bounds, line),
                None => (&mut wanted, line.as_str()),
            };
            list.push_str(line);
            list.push('\n');
        }
        let requirements = root.with_extension("requirements.txt");
        own_file(&requirements, &wanted)?;
        let constraints = root.with_extension("constraints.txt");
        own_file(&constraints, &bounds)?;
        let constraints = if bounds.is_empty() {
            fs::remove_file(constraints)?;
            None
        } else {
            Some(constraints)
        };
        Ok(Self { requirements, constraints })
    }

    fn arguments(&self) -> Vec<std::ffi::OsString> {
        let mut arguments = vec!["-r".into(), self.requirements.clone().into()];
        if let Some(constraints) = &self.constraints {
            arguments.extend(["-c".into(), constraints.clone().into()]);
        }
        arguments
    }

    fn remove(&self) -> std::io::Result<()> {
        fs::remove_file(&self.requirements)?;
        self.constraints.as_ref().map_or(Ok(()), fs::remove_file)
    }
}

fn own_file(path: &Path, text: &str) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    std::io::Write::write_all(&mut file, text.as_bytes())
}
