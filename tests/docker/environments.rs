//! Environments of images: installed by the image's own interpreter into a folder of this machine.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::Mutex;

use flowrun::environment::{
    Definition, Environment, EnvironmentError, EnvironmentSettings, INSIDE, build, build_locked,
};

use super::engine::{TINY, User};

/// Debian with Python, venv and pip.
const PYTHON: &str = "flowrun-test/python:bookworm";

struct Place {
    user: User,
    settings: EnvironmentSettings,
    folder: tempfile::TempDir,
    said: Mutex<Vec<String>>,
}

impl Place {
    async fn new() -> Self {
        let user = User::new().await;
        let folder = tempfile::tempdir().unwrap();
        #[expect(
            clippy::disallowed_methods,
            reason = "builds run with the caller's index settings"
        )]
        let env: BTreeMap<String, String> = std::env::vars().collect();
        let settings = EnvironmentSettings {
            folder: folder.path().join("environments"),
            path: env["PATH"].clone(),
            env,
            docker: Some(user.docker.clone()),
        };
        Self { user, settings, folder, said: Mutex::default() }
    }

    async fn define(&self, image: &str, python: Option<&str>, lines: &[&str]) -> Definition {
        let image = self.user.docker.local_image(image).await.unwrap();
        let image = image.expect("the image: run `tests/images/make`");
        let lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        Definition::in_image(&image.id, python, &lines, None, &|_| None).unwrap()
    }

    async fn build(&self, definition: &Definition) -> Result<Environment, EnvironmentError> {
        build(&self.settings, definition, &|text| self.said.lock().unwrap().push(text)).await
    }

    /// What a container of the image says that sees the environment as stages do.
    fn python(environment: &Environment, code: &str) -> String {
        let mount = format!("{}:{INSIDE}:ro", environment.mounted().unwrap().display());
        let python = environment.bin.join("python3");
        let mut command = Command::new("docker");
        command.args(["run", "--rm", "-v", &mount, PYTHON]).arg(python).args(["-c", code]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

#[tokio::test]
async fn requirements_are_installed_once_by_the_image() {
    let mut place = Place::new().await;
    let definition = place.define(PYTHON, None, &["six==1.16.0"]).await;
    let (one, two) = tokio::join!(place.build(&definition), place.build(&definition));
    let made = one.unwrap();
    assert_eq!(made, two.unwrap());
    assert_eq!(made.lock, "six==1.16.0\n");
    let code = "import six, sys; print(six.__version__, sys.prefix)";
    assert_eq!(Place::python(&made, code), format!("1.16.0 {INSIDE}"));

    let us = fs_err::metadata(place.folder.path()).unwrap();
    for entry in walkdir::WalkDir::new(&place.settings.folder) {
        let entry = entry.unwrap();
        let there = entry.metadata().unwrap();
        assert_eq!((there.uid(), there.gid()), (us.uid(), us.gid()), "{}", entry.path().display());
    }

    // Nobody is asked for what is there.
    let said = place.said.lock().unwrap().len();
    place.settings.docker = None;
    assert_eq!(place.build(&definition).await.unwrap(), made);
    assert_eq!(place.said.lock().unwrap().len(), said);
}

#[tokio::test]
async fn two_homes_at_one_engine_make_the_same_at_once() {
    let (one, two) = (Place::new().await, Place::new().await);
    let definition = one.define(PYTHON, None, &["six==1.17.0"]).await;
    let (one, two) = tokio::join!(one.build(&definition), two.build(&definition));
    assert_eq!(one.unwrap().lock, two.unwrap().lock);
}

#[tokio::test]
async fn one_that_is_gone_comes_back_with_the_versions_of_its_lock() {
    let place = Place::new().await;
    let definition = place.define(PYTHON, None, &["six"]).await;
    let written = serde_json::to_string(&definition).unwrap();
    let kept: Definition = serde_json::from_str(&written).unwrap();
    let lock = "six==1.15.0\n";
    let made = build_locked(&place.settings, &kept, lock, &drop).await.unwrap();
    assert_eq!((made.lock.as_str(), made.digest), (lock, definition.digest()));
    assert_eq!(Place::python(&made, "import six; print(six.__version__)"), "1.15.0");
}

#[tokio::test]
async fn without_requirements_no_container_is_started() {
    let mut place = Place::new().await;
    let definition = place.define(TINY, None, &[]).await;
    place.settings.docker = None;
    let made = place.build(&definition).await.unwrap();
    assert_eq!((made.mounted(), made.lock.as_str()), (None, ""));
    assert!(!place.settings.folder.exists());
}

#[tokio::test]
async fn an_image_that_does_not_fit_is_named() {
    let place = Place::new().await;
    let said = async |image: &str, python: Option<&str>, lines: &[&str]| match place
        .build(&place.define(image, python, lines).await)
        .await
    {
        Ok(made) => format!("made {:?}", made.mounted()),
        Err(EnvironmentError::Definition { message, .. }) => message,
        Err(other) => format!("{other:?}"),
    };
    let lines = &["six"];
    let no_python = "the image has no `python3`, which `requirements` and `python` need";
    assert_eq!(said(TINY, None, lines).await, no_python);
    assert_eq!(said(TINY, Some("3.11"), &[]).await, no_python);
    assert_eq!(said(PYTHON, Some("3.11"), &[]).await, "made None");
    let other = said(PYTHON, Some("3.9"), lines).await;
    assert!(other.starts_with("the image has python 3.11."), "{other}");
    assert!(other.ends_with(", and the stage asks for 3.9"), "{other}");
}

#[tokio::test]
async fn failures_are_told_apart() {
    let mut place = Place::new().await;
    let definition = place.define(PYTHON, None, &["six==99.99"]).await;
    let error = place.build(&definition).await.unwrap_err();
    assert!(
        matches!(&error, EnvironmentError::Build { log } if log.contains("six==99.99")),
        "{error:?}"
    );

    // Port 9 is where nobody listens.
    for (name, value) in [("PIP_INDEX_URL", "http://127.0.0.1:9/simple"), ("PIP_RETRIES", "1")] {
        place.settings.env.insert(name.to_owned(), value.to_owned());
    }
    place.settings.env.retain(|name, _| {
        let upper = name.to_ascii_uppercase();
        !upper.ends_with("_PROXY") && upper != "PIP_EXTRA_INDEX_URL"
    });
    let definition = place.define(PYTHON, None, &["six==1.16.0"]).await;
    let error = place.build(&definition).await.unwrap_err();
    assert!(matches!(error, EnvironmentError::Index { .. }), "{error:?}");
}
