//! A real registry on loopback, with or without logins.

use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::ports::free_port;

/// Who may use a registry with logins.
pub(crate) const USER: &str = "ada";
/// With what engines lose when a login is spelled wrongly: `?` and `~` at every place of three.
pub(crate) const PASSWORD: &str = "s???e~~~cret";

/// Debian's `docker-registry`, until it is dropped.
pub(crate) struct Registry {
    child: Child,
    folder: TempDir,
    port: u16,
}

impl Registry {
    /// Open to everybody.
    pub(crate) fn open() -> Self {
        Self::start("", tempfile::tempdir().unwrap(), free_port())
    }

    /// Only for [`USER`] with [`PASSWORD`].
    pub(crate) fn locked() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let logins = Command::new("htpasswd")
            .args(["-Bbn", USER, PASSWORD])
            .output()
            .expect("these tests need the program `htpasswd` (package `apache2-utils`)");
        let file = folder.path().join("logins");
        fs_err::write(&file, logins.stdout).unwrap();
        let auth = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", file.display());
        Self::start(&auth, folder, free_port())
    }

    fn start(auth: &str, folder: TempDir, port: u16) -> Self {
        let config = folder.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '127.0.0.1:{port}'}}\n{auth}",
            folder.path().join("data").display()
        );
        fs_err::write(&config, text).unwrap();
        let log = fs_err::File::create(folder.path().join("log")).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(log.into_file())
            .spawn()
            .expect("these tests need Debian's package `docker-registry`");
        let mut registry = Self { child, folder, port };
        let until = Instant::now() + Duration::from_mins(1);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = registry.child.try_wait().unwrap();
            let log = fs_err::read_to_string(registry.folder.path().join("log")).unwrap();
            assert!(
                ended.is_none() && Instant::now() < until,
                "the registry does not start: {log}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    /// `127.0.0.1:<port>`
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A name in it.
    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
