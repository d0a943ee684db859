//! A Docker Engine of a test's own, which may be stopped and started again; the machine's own is left alone.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::container_shop::docker;
use crate::patience::await_that;

/// The image that it has.
pub(crate) const TINY: &str = "flowrun-test/tiny:1";

/// An engine with its own data, socket and networks. All its containers are gone afterwards.
pub(crate) struct OwnEngine {
    folder: tempfile::TempDir,
    bridge: String,
    keeps_containers: bool,
    process: Option<Child>,
}

impl OwnEngine {
    /// Nothing without root, which engines and their bridges need. `keeps_containers`: with `--live-restore`.
    pub(crate) fn start(keeps_containers: bool) -> Option<Self> {
        static ENGINES: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let folder = tempfile::Builder::new().prefix("flowrun-engine-").tempdir().unwrap();
        // Different ones for different processes, nearly always.
        let number = (std::process::id() % 60) * 4 + ENGINES.fetch_add(1, Ordering::Relaxed) % 4;
        let bridge = format!("frt-{}-{number}", std::process::id());
        ip(&["link", "add", &bridge, "type", "bridge"]);
        ip(&["address", "add", &format!("10.213.{number}.1/24"), "dev", &bridge]);
        ip(&["link", "set", &bridge, "up"]);
        let mut engine = Self { folder, bridge, keeps_containers, process: None };
        engine.begin();
        engine.load(TINY);
        Some(engine)
    }

    /// As `DOCKER_HOST` has it.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.path("socket").display())
    }

    /// What the program `docker` says of it.
    pub(crate) fn docker(&self, arguments: &[&str]) -> String {
        let host = self.host();
        docker(&[&["--host", &host], arguments].concat())
    }

    /// Starts it again; it answers afterwards.
    pub(crate) fn begin(&mut self) {
        let log = fs_err::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap()
            .into_file();
        let mut command = Command::new("dockerd");
        command
            .arg(format!("--host={}", self.host()))
            .arg(format!("--data-root={}", self.path("data").display()))
            .arg(format!("--exec-root={}", self.path("run").display()))
            .arg(format!("--pidfile={}", self.path("pid").display()))
            .arg(format!("--bridge={}", self.bridge))
            // What it would change for the whole machine. Without a bridge, or with pools of addresses, it would also remove that of
            // the machine's own engine.
            .args(["--iptables=false", "--ip-masq=false", "--ip-forward=false"])
            .arg("--userland-proxy=false");
        if self.keeps_containers {
            command.arg("--live-restore");
        }
        let process = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("`dockerd` is installed where there is an engine");
        let process = self.process.insert(process);
        let (host, log) = (
            format!("unix://{}", self.folder.path().join("socket").display()),
            self.folder.path().join("log"),
        );
        await_that("the engine answers", || {
            if let Some(status) = process.try_wait().unwrap() {
                panic!("{status}: {}", fs_err::read_to_string(&log).unwrap());
            }
            let info = Command::new("docker").args(["--host", &host, "info"]).output().unwrap();
            info.status.success().then_some(())
        });
    }

    /// Asks it to end, as a restart does, and waits for that.
    pub(crate) fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            let pid = process.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
            process.wait().unwrap();
        }
    }

    fn load(&self, image: &str) {
        let mut saved =
            Command::new("docker").args(["save", image]).stdout(Stdio::piped()).spawn().unwrap();
        let loaded = Command::new("docker")
            .args(["--host", &self.host(), "load", "--quiet"])
            .stdin(saved.stdout.take().unwrap())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(saved.wait().unwrap().success() && loaded.success(), "{image}");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        if self.process.is_none() && !std::thread::panicking() {
            self.begin();
        }
        let host = self.host();
        let sh = "docker ps -aq | xargs -r docker rm -f; docker network ls -qf label=flowrun.installation | xargs -r docker network rm";
        let quiet = |command: &mut Command| {
            drop(command.stdout(Stdio::null()).stderr(Stdio::null()).status());
        };
        quiet(Command::new("sh").args(["-c", sh]).env("DOCKER_HOST", &host));
        self.end();
        for mounted in mounts_below(self.folder.path()) {
            quiet(Command::new("umount").arg("-l").arg(mounted));
        }
        quiet(Command::new("ip").args(["link", "delete", &self.bridge]));
    }
}

fn ip(arguments: &[&str]) {
    assert!(Command::new("ip").args(arguments).status().expect("`ip` is installed").success());
}

/// The innermost ones first.
fn mounts_below(folder: &Path) -> Vec<String> {
    let mounts = fs_err::read_to_string("/proc/self/mounts").unwrap();
    let targets = mounts.lines().filter_map(|line| line.split(' ').nth(1).map(str::to_owned));
    let mut below: Vec<String> = targets.filter(|at| Path::new(at).starts_with(folder)).collect();
    below.reverse();
    below
}
