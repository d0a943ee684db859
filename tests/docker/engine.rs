//! A way to the engine for one test, and what the test's own `docker` does.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use flowrun::runtime::docker::image::Said;
use flowrun::runtime::docker::{Docker, DockerSettings};

/// Small, with a shell, and without anything that a registry would have to give.
pub(crate) const TINY: &str = "flowrun-test/tiny:1";

static TESTS: AtomicU32 = AtomicU32::new(0);

/// One user of the engine: an installation of its own, with a `config.json` of its own.
pub(crate) struct User {
    pub(crate) docker: Docker,
    pub(crate) config: tempfile::TempDir,
    /// What was made and has to go again, newest last.
    made: Mutex<Vec<[String; 2]>>,
}

impl User {
    /// Fails when no engine answers.
    pub(crate) async fn new() -> Self {
        let number = TESTS.fetch_add(1, Ordering::Relaxed);
        // The first eight letters stand in names.
        Self::of_installation(&format!("IMAGES{number:02}{:06x}", std::process::id() & 0xff_ffff))
            .await
    }

    pub(crate) async fn of_installation(installation: &str) -> Self {
        let config = tempfile::tempdir().unwrap();
        let docker = open(installation, config.path());
        if let Err(error) = docker.about().await {
            panic!("these tests need a Docker Engine, and {error}; start one (`dockerd`)");
        }
        let here = docker.local_image(TINY).await.unwrap();
        assert!(here.is_some(), "these tests need the image `{TINY}`: run `tests/images/make`");
        Self { docker, config, made: Mutex::default() }
    }

    /// Another process of the same installation, which has nothing in common with this one but the engine.
    pub(crate) fn again(&self) -> Docker {
        open(&self.docker.settings().installation, self.config.path())
    }

    /// The `docker` program with this user's logins; fails with what it said.
    pub(crate) fn docker(&self, args: &[&str]) -> String {
        self.docker_with(args, b"")
    }

    pub(crate) fn docker_with(&self, args: &[&str], stdin: &[u8]) -> String {
        use std::io::Write;
        let mut child = Command::new("docker")
            .arg("--config")
            .arg(self.config.path())
            .args(args)
            .env("DOCKER_BUILDKIT", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("these tests need the program `docker`");
        child.stdin.take().unwrap().write_all(stdin).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let aside = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {args:?}: {said}{aside}");
        said
    }

    /// An image under this name that no other test has: two layers, and `mark` in the second.
    pub(crate) fn make_image(&self, name: &str, mark: &str) -> String {
        let installation = &self.docker.settings().installation;
        let file = format!(
            "FROM {TINY}\nRUN echo {mark} {installation} > /mark\nCMD [\"cat\", \"/mark\"]\n"
        );
        self.will_remove("image", name);
        self.docker_with(&["build", "-q", "--network", "none", "-t", name, "-"], file.as_bytes());
        self.docker(&["image", "inspect", "--format", "{{.Id}}", name])
    }

    /// Notes what goes when the test ends, however it ends.
    pub(crate) fn will_remove(&self, kind: &str, name: &str) {
        self.made.lock().unwrap().push([kind.to_owned(), name.to_owned()]);
    }

    /// Whether the engine has it.
    #[expect(clippy::unused_self, reason = "it is asked beside what else a user does")]
    pub(crate) fn has(&self, kind: &str, name: &str) -> bool {
        let output = Command::new("docker").args([kind, "inspect", name]).output().unwrap();
        output.status.success()
    }
}

impl Drop for User {
    fn drop(&mut self) {
        for [kind, name] in self.made.lock().unwrap().iter().rev() {
            let mut remove = Command::new("docker");
            remove.args([kind, "rm"]);
            if kind != "network" {
                remove.arg("-f");
            }
            drop(remove.arg(name).output());
        }
    }
}

fn open(installation: &str, config: &Path) -> Docker {
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", config.display());
    Docker::open(DockerSettings {
        host: None,
        config: Some(config.to_owned()),
        env: BTreeMap::from([("PATH".to_owned(), path)]),
        installation: installation.to_owned(),
    })
    .unwrap()
}

/// Keeps what is said while an image is got.
#[derive(Default)]
pub(crate) struct Heard(Mutex<Vec<String>>);

impl Heard {
    pub(crate) fn hear(&self, said: Said) {
        self.0.lock().unwrap().extend(said.lasting());
    }

    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}
