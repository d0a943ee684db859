//! Makes an environment with an interpreter of this machine: a virtual environment, and what uv or pip install into it.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::Path;

use fs_err as fs;

use super::lists::Lists;
use super::order::Order;
use super::outcome::{self, Failed};
use super::tool::Tools;
use super::whole::clear;
use super::{Definition, EnvironmentError, interpreter, variables};

/// Makes what is wanted. Gives the resolved versions.
pub(super) async fn make(order: &Order<'_>, lock: &File) -> Result<String, EnvironmentError> {
    let Order { settings, definition, requirements, root, progress } = *order;
    clear(root)?;
    let common = variables::for_tools(&settings.env, &settings.path, &settings.folder);
    let tools = Tools { folder: &settings.folder, variables: &common, lock, progress };
    if requirements.is_empty() {
        progress(format!("making an environment of python {}", definition.python));
        venv(&tools, definition, root).await?;
        return Ok(String::new());
    }
    let lists = Lists::write(requirements, root)?;
    install(order, &tools, &lists).await
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

/// Installs the requirements: with uv where there is one, else, or where uv does not do what is asked, with pip. Gives the resolved
/// versions.
async fn install(
    order: &Order<'_>,
    tools: &Tools<'_>,
    lists: &Lists,
) -> Result<String, EnvironmentError> {
    let Order { settings, definition, root, .. } = *order;
    let requirements = order.counted();
    let python = root.join("bin/python");
    if let Some(uv) = interpreter::programs(&settings.path, "uv").into_iter().next() {
        (tools.progress)(format!("installing {requirements} with uv"));
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
    (tools.progress)(format!("installing {requirements} with pip"));
    standard_venv(tools, definition, root, false).await?;
    let mut arguments = os(&["-m", "pip", "install", "--no-color", "--progress-bar", "off"]);
    arguments.extend(lists.arguments());
    if let Err(log) = tools.run(&python, arguments).await? {
        return Err(outcome::error(log));
    }
    tools.run(&python, os(&["-m", "pip", "freeze"])).await?.map_err(outcome::error)
}

fn os(words: &[&str]) -> Vec<OsString> {
    words.iter().map(Into::into).collect()
}
