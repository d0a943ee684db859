//! The `git` program: what is fetched over a network, or from another repo, goes through it, so that the user's ssh
//! settings, credential helpers and proxies work. Never asks, never runs hooks, tells its failures apart.

use std::io::ErrorKind;
use std::process::{Command, Stdio};

use git2::Oid;

use super::address::{Address, redact};
use super::mirror::Mirror;
use super::{SourceError, SourceSettings};

/// The program with the caller's variables.
pub(super) struct Git<'a> {
    settings: &'a SourceSettings,
}

/// One line of what a remote offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Advertised {
    /// Full name: `refs/heads/main`.
    pub(super) name: String,
    /// What it names; of an annotated tag the commit behind it.
    pub(super) id: Oid,
}

/// What a remote offers.
#[derive(Debug, Default)]
pub(super) struct Offer {
    /// The full name of the default branch, and its commit.
    pub(super) head: Option<(Option<String>, Oid)>,
    pub(super) refs: Vec<Advertised>,
}

impl<'a> Git<'a> {
    pub(super) fn new(settings: &'a SourceSettings) -> Self {
        Self { settings }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("git");
        command.env_clear().stdin(Stdio::null());
        // Inside a hook these point at the repo of the hook.
        let elsewhere = |name: &str| {
            matches!(
                name,
                "GIT_DIR"
                    | "GIT_WORK_TREE"
                    | "GIT_INDEX_FILE"
                    | "GIT_OBJECT_DIRECTORY"
                    | "GIT_ALTERNATE_OBJECT_DIRECTORIES"
                    | "GIT_COMMON_DIR"
                    | "GIT_NAMESPACE"
                    | "GIT_PREFIX"
                    | "GIT_QUARANTINE_PATH"
                    | "GIT_SHALLOW_FILE"
            )
        };
        let kept = self.settings.env.iter().filter(|(name, _)| !elsewhere(name));
        command.envs(kept.map(|(name, value)| (name, value)));
        command.env("GIT_ALLOW_PROTOCOL", "https:ssh:file").env("GIT_TERMINAL_PROMPT", "0");
        command.env("LC_ALL", "C").env("GIT_OPTIONAL_LOCKS", "0").env("GIT_LFS_SKIP_SMUDGE", "1");
        let own_ssh = self.settings.env.iter().any(|(name, _)| name.starts_with("GIT_SSH"))
            || git2::Config::open_default()
                .is_ok_and(|config| config.get_string("core.sshCommand").is_ok());
        if !own_ssh {
            command.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes");
        }
        command.args(["-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0"]);
        command.args(["-c", "maintenance.auto=false", "-c", "fetch.unpackLimit=1"]);
        command
    }

    fn run(mut command: Command, address: &Address) -> Result<String, SourceError> {
        let output = command.output().map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                SourceError::new("`git` is not installed, or not in `PATH`").help("install git")
            }
            _ => SourceError::new(format!("`git` cannot be started: {error}")),
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(explain(address, &String::from_utf8_lossy(&output.stderr)))
    }

    /// What the repo at `address` offers.
    pub(super) fn offer(&self, address: &Address) -> Result<Offer, SourceError> {
        let mut command = self.command();
        command.args(["ls-remote", "--symref", "--", address.for_git()]);
        Ok(parse_offer(&Self::run(command, address)?))
    }

    /// Fetches into the mirror. `deep` also brings the history.
    pub(super) fn fetch(
        &self,
        mirror: &Mirror,
        address: &Address,
        refspecs: &[String],
        deep: bool,
    ) -> Result<(), SourceError> {
        let mut command = self.command();
        command.arg("--git-dir").arg(&mirror.path);
        command.args(["fetch", "--quiet", "--force", "--no-tags", "--no-recurse-submodules"]);
        if !deep {
            command.arg("--depth=1");
        } else if mirror.repository.is_shallow() {
            command.arg("--unshallow");
        }
        command.arg("--").arg(address.for_git()).args(refspecs);
        Self::run(command, address)?;
        mirror.repository.odb()?.refresh()?;
        Ok(())
    }

    /// Whether `git lfs` is there.
    pub(super) fn has_lfs(&self) -> bool {
        let mut command = self.command();
        command.args(["lfs", "version"]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// Fetches the large files of a commit into the mirror's own LFS folder.
    pub(super) fn lfs_fetch(
        &self,
        mirror: &Mirror,
        address: &Address,
        commit: Oid,
    ) -> Result<(), SourceError> {
        let mut command = self.command();
        // The remote stands in no file of the mirror: its address may hold a password.
        command.arg("-c").arg(format!("remote.origin.url={}", address.for_git()));
        command.args(["-c", "remote.origin.fetch=+refs/heads/*:refs/remotes/origin/*"]);
        command.arg("--git-dir").arg(&mirror.path);
        command.args(["lfs", "fetch", "origin", &commit.to_string()]);
        Self::run(command, address).map(drop)
    }
}

fn parse_offer(text: &str) -> Offer {
    let mut offer = Offer::default();
    let mut branch = None;
    for (left, name) in text.lines().filter_map(|line| line.split_once('\t')) {
        if let Some(target) = left.strip_prefix("ref: ") {
            if name == "HEAD" {
                branch = Some(target.to_owned());
            }
            continue;
        }
        let Ok(id) = Oid::from_str(left) else { continue };
        if name == "HEAD" {
            offer.head = Some((branch.clone(), id));
        } else if let Some(tag) = name.strip_suffix("^{}") {
            if let Some(known) = offer.refs.iter_mut().find(|known| known.name == tag) {
                known.id = id;
            }
        } else {
            offer.refs.push(Advertised { name: name.to_owned(), id });
        }
    }
    offer
}

/// Makes git's own words into one of: no repo there, refused, not reachable, else those words.
fn explain(address: &Address, stderr: &str) -> SourceError {
    let clean = redact(&stderr.replace(address.for_git(), &address.to_string()));
    let text = clean.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    // ssh says what is wrong, then git only that it could not read.
    let telling = |line: &&str| {
        !line.is_empty()
            && !line.ends_with("Could not read from remote repository.")
            && !line.starts_with("Please make sure you have the correct access rights")
            && !line.starts_with("and the repository exists.")
            && !line.starts_with("warning: ")
    };
    let lines: Vec<&str> = clean.lines().map(str::trim).filter(telling).collect();
    let own = lines.iter().rfind(|line| line.starts_with("fatal: ") || line.starts_with("error: "));
    let last = own.or(lines.last()).copied().unwrap_or("git said nothing");
    let short = last.trim_start_matches("fatal: ").trim_start_matches("error: ");
    if says(&["host key verification failed"]) {
        return SourceError::new(format!("the host of `{address}` is not known to ssh"))
            .help("connect to it once with `ssh` and accept its key");
    }
    if says(&[
        "authentication failed",
        "could not read username",
        "could not read password",
        "terminal prompts disabled",
        "permission denied",
        "invalid username",
        "access denied",
        "error: 401",
        "error: 403",
        "http basic: ",
        "not authorized",
    ]) {
        return SourceError::new(format!("access to `{address}` was refused: {short}")).help(
            "check with `git ls-remote` that your credential helper or ssh key gives access to it",
        );
    }
    if says(&["dubious ownership"]) {
        return SourceError::new(format!("git does not trust the owner of `{address}`"))
            .help(format!("run `git config --global --add safe.directory {address}`"));
    }
    if says(&["is not a git command"]) {
        return SourceError::new(short.to_owned()).help("install `git-lfs`");
    }
    if says(&[
        "could not resolve",
        "could not connect",
        "couldn't connect",
        "connection refused",
        "connection timed out",
        "operation timed out",
        "timed out",
        "network is unreachable",
        "no route to host",
        "connection reset",
        "connection closed",
        "failed to connect",
        "ssl",
        "tls",
        "proxy",
        "early eof",
        "hung up unexpectedly",
        "error: 5",
    ]) && !says(&["does not appear to be a git repository", "repository not found"])
    {
        return SourceError::new(format!("`{address}` cannot be reached: {short}"))
            .help("check the network, the proxy settings and the address, then try again");
    }
    if says(&[
        "does not appear to be a git repository",
        "repository not found",
        "not found",
        "does not exist",
        "not valid: is this a git repository",
        "no such file or directory",
        "not a git repository",
    ]) {
        return SourceError::new(format!("there is no git repository at `{address}`"))
            .help("check the address; a private repo that you have no access to looks the same");
    }
    SourceError::new(format!("`{address}` cannot be fetched: {short}"))
        .help("try `git ls-remote` with the same address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotated_tag_is_its_commit() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let text = format!(
            "ref: refs/heads/main\tHEAD\n{a}\tHEAD\n{a}\trefs/heads/main\n{a}\trefs/tags/v1\n{b}\trefs/tags/v1^{{}}\n"
        );
        let offer = parse_offer(&text);
        assert_eq!(offer.head, Some((Some("refs/heads/main".into()), Oid::from_str(&a).unwrap())));
        assert_eq!(offer.refs.len(), 2);
        assert_eq!(offer.refs[1].id.to_string(), b);
    }

    #[test]
    fn failures_are_told_apart_without_passwords() {
        let address = Address::parse("https://me:pw@host/x.git").unwrap();
        let said = |text: &str| {
            let error = explain(&address, text);
            assert!(error.help.is_some());
            assert!(!error.message.contains("pw"), "{}", error.message);
            error.message
        };
        assert!(
            said(
                "fatal: unable to access 'https://me:pw@host/x.git/': Could not resolve host: host"
            )
            .contains("cannot be reached")
        );
        assert!(
            said("fatal: Authentication failed for 'https://me:pw@host/x.git/'")
                .contains("refused")
        );
        assert!(said("fatal: repository 'https://host/x.git/' not found").contains("no git repo"));
        let ssh = "git@host: Permission denied (publickey).\nfatal: Could not read from remote repository.";
        assert!(said(ssh).contains("refused: git@host: Permission denied (publickey)."));
    }
}
