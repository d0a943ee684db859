//! Environments built with the tools of this machine; the tests that install need a package index.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;

use flowrun::environment::{
    Definition, Environment, EnvironmentError, EnvironmentSettings, build, build_locked,
};

struct Place {
    folder: tempfile::TempDir,
    settings: EnvironmentSettings,
    said: Mutex<Vec<String>>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        #[expect(
            clippy::disallowed_methods,
            reason = "builds run with the caller's tools and index settings"
        )]
        let env: BTreeMap<String, String> = std::env::vars().collect();
        let path = env["PATH"].clone();
        let settings =
            EnvironmentSettings { folder: folder.path().join("e"), path, env, docker: None };
        Self { folder, settings, said: Mutex::default() }
    }

    fn define(&self, requirements: &[&str]) -> Definition {
        let lines: Vec<String> = requirements.iter().map(|&line| line.to_owned()).collect();
        Definition::resolve(&self.settings, None, &lines, None, &|_| None).unwrap()
    }

    async fn build(&self, definition: &Definition) -> Result<Environment, EnvironmentError> {
        build(&self.settings, definition, &|text| self.said.lock().unwrap().push(text)).await
    }

    /// A `PATH` with `python3` and no uv.
    fn without_uv(&mut self) {
        let bin = self.folder.path().join("bin");
        fs_err::create_dir(&bin).unwrap();
        let python = self.define(&[]).interpreter;
        std::os::unix::fs::symlink(python, bin.join("python3")).unwrap();
        self.settings.path = format!("{}:/usr/bin:/bin", bin.display());
    }
}

fn python(environment: &Environment, code: &str) -> (bool, String) {
    let output = Command::new(environment.bin.join("python3")).args(["-c", code]).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

#[tokio::test]
async fn without_requirements_it_is_isolated_and_made_once() {
    let place = Place::new();
    let definition = place.define(&[]);
    let made = place.build(&definition).await.unwrap();
    assert_eq!(made.lock, "");
    let (ok, text) =
        python(&made, "import sys, platform; print(sys.prefix, platform.python_version())");
    assert!(ok);
    assert_eq!(text, format!("{} {}", made.root.display(), definition.python));
    let said = place.said.lock().unwrap().len();
    assert!(said > 0);
    assert_eq!(place.build(&definition).await.unwrap(), made);
    assert_eq!(place.said.lock().unwrap().len(), said, "nothing is made again");

    // What a killed builder left is not taken for whole.
    fs_err::remove_file(made.root.join("ready")).unwrap();
    fs_err::write(made.root.join("leftover"), "").unwrap();
    let again = place.build(&definition).await.unwrap();
    assert!(!again.root.join("leftover").exists());
    assert!(python(&again, "").0);
}

#[tokio::test]
async fn requirements_are_installed_and_their_versions_kept() {
    let place = Place::new();
    let definition = place.define(&["six", "--only-binary=:all:"]);
    let definition = Definition {
        requirements: definition
            .requirements
            .into_iter()
            .chain(["-c six==1.16.0".into()])
            .collect(),
        ..definition
    };
    let (one, two) = tokio::join!(place.build(&definition), place.build(&definition));
    let one = one.unwrap();
    assert_eq!(one, two.unwrap());
    assert_eq!(one.lock, "six==1.16.0\n");
    assert_eq!(python(&one, "import six; print(six.__version__)"), (true, "1.16.0".to_owned()));
    let left: Vec<String> = fs_err::read_dir(&place.settings.folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("requirements") || name.contains("constraints"))
        .collect();
    assert_eq!(left, [""; 0]);
}

#[tokio::test]
async fn one_that_is_gone_comes_back_with_the_versions_of_its_lock() {
    let place = Place::new();
    let definition = place.define(&["six", "--only-binary=:all:"]);
    let lock = "six==1.15.0\n";
    let made = build_locked(&place.settings, &definition, lock, &drop).await.unwrap();
    assert_eq!((made.lock.as_str(), made.digest), (lock, definition.digest()));
    assert_eq!(place.build(&definition).await.unwrap(), made, "it lies where it lay before");
}

#[tokio::test]
async fn without_uv_pip_does_it() {
    let mut place = Place::new();
    place.without_uv();
    let made = place.build(&place.define(&["six==1.16.0"])).await.unwrap();
    assert_eq!(made.lock, "six==1.16.0\n");
    assert!(
        place.said.lock().unwrap().iter().any(|text| text == "installing 1 requirement with pip")
    );
}

#[tokio::test]
async fn failures_are_told_apart() {
    let mut place = Place::new();
    let error = place.build(&place.define(&["six==99.99"])).await.unwrap_err();
    let EnvironmentError::Build { log } = error else { panic!("{error:?}") };
    assert!(log.contains("six"), "{log}");

    // Nothing listens on port 9, so the index cannot be reached.
    place.settings.env.insert("PIP_INDEX_URL".into(), "http://me:secret@127.0.0.1:9/simple".into());
    place.settings.env.insert("PIP_RETRIES".into(), "1".into());
    place.settings.env.insert("UV_HTTP_RETRIES".into(), "0".into());
    place.settings.env.retain(|name, _| !name.to_ascii_lowercase().ends_with("_proxy"));
    place.settings.env.insert("UV_NO_CACHE".into(), "1".into());
    for without_uv in [false, true] {
        if without_uv {
            place.without_uv();
        }
        let error = place.build(&place.define(&["six==1.15.0"])).await.unwrap_err();
        let EnvironmentError::Index { log } = error else { panic!("{error:?}") };
        assert!(!log.contains("secret"), "{log}");
    }
}

#[tokio::test]
async fn a_named_version_is_found_or_missing() {
    let place = Place::new();
    let here = place.define(&[]).python;
    let minor = here.rsplit_once('.').unwrap().0;
    let resolve = |python| Definition::resolve(&place.settings, Some(python), &[], None, &|_| None);
    assert!(resolve(minor).unwrap().python.starts_with(minor));
    let error = resolve("3.99").unwrap_err();
    assert!(
        matches!(&error, EnvironmentError::Definition { help, .. } if help.contains("3.99")),
        "{error:?}"
    );
}
