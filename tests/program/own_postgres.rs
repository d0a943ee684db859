//! A Postgres of a test's own, which it may stop and start.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::ports::free_port;

/// Longer than any server takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// Removed with all it holds when it is dropped.
pub(crate) struct Postgres {
    folder: tempfile::TempDir,
    port: u16,
    /// Options of the server.
    options: Vec<&'static str>,
    running: Option<Child>,
}

/// As root it is the user of Debian's package, since the server refuses to be root's.
fn server_command(program: &str) -> Command {
    let installed = fs_err::read_dir("/usr/lib/postgresql").map(|versions| {
        versions.map(|version| version.unwrap().path().join("bin").join(program)).max().unwrap()
    });
    let program = installed.unwrap_or_else(|_| PathBuf::from(program));
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups"]).arg(program);
    command
}

impl Postgres {
    /// One that runs.
    pub(crate) fn start() -> Self {
        let mut postgres = Self::made();
        postgres.wake();
        postgres
    }

    /// One that does not run yet.
    pub(crate) fn made() -> Self {
        let folder = tempfile::Builder::new().prefix("flowrun-test-db.").tempdir().unwrap();
        fs_err::set_permissions(folder.path(), PermissionsExt::from_mode(0o711)).unwrap();
        let postgres = Self { folder, port: free_port(), options: Vec::new(), running: None };
        postgres.give("");
        let made = server_command("initdb")
            .current_dir(postgres.folder())
            .args(["-U", "flowrun", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(postgres.folder().join("data"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        postgres
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Gives a file of its folder to the user as whom the server runs, and to nobody else.
    pub(crate) fn give(&self, name: &str) {
        let path = self.folder().join(name);
        if !name.is_empty() {
            fs_err::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        }
        if rustix::process::geteuid().is_root() {
            let status = Command::new("chown").arg("postgres:").arg(path).status().unwrap();
            assert!(status.success());
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// An option of the server from its next start on.
    pub(crate) fn set(&mut self, option: &'static str) {
        self.options.push(option);
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://flowrun@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts it, at the place where it was before.
    pub(crate) fn wake(&mut self) {
        let log = fs_err::File::create(self.folder().join("log")).unwrap().into_parts().0;
        let mut command = server_command("postgres");
        command
            .current_dir(self.folder())
            .args(["-h", "127.0.0.1", "-c", "fsync=off", "-c", "shared_buffers=16MB", "-p"])
            .arg(self.port.to_string())
            .arg("-k")
            .arg(self.folder())
            .arg("-D")
            .arg(self.folder().join("data"));
        for option in &self.options {
            command.args(["-c", option]);
        }
        let mut server =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let start = Instant::now();
        while !self.answers() {
            let log = fs_err::read_to_string(self.folder().join("log")).unwrap();
            assert!(server.try_wait().unwrap().is_none(), "{log}");
            assert!(start.elapsed() < PATIENCE, "{log}");
            std::thread::sleep(Duration::from_millis(50));
        }
        self.running = Some(server);
    }

    fn answers(&self) -> bool {
        let mut command = server_command("pg_isready");
        command.args(["-q", "-h", "127.0.0.1", "-U", "flowrun", "-p"]).arg(self.port.to_string());
        command.current_dir(self.folder()).status().unwrap().success()
    }

    /// Ends it as a restart of its machine does: whoever is connected is cut off.
    pub(crate) fn sleep(&mut self) {
        let Some(mut server) = self.running.take() else { return };
        let pid = server.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        server.wait().unwrap();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.sleep();
    }
}
