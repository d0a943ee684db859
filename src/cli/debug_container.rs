//! The shell of `flowrun debug` in a container of the same image, with the same mounts and variables as the attempt had.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::args::DebugArgs;
use super::debug_secrets::with_secrets;
use super::error::CliError;
use super::exit::Exit;
use super::question;
use super::screen::to_stderr;
use crate::runtime::docker::INSTALLATION;
use crate::runtime::{Container, ContainerNetwork, ContainerUser, Job, MountSource};
use crate::secret::HandedSecret;
use crate::words::shell_words;
use crate::workspace::inside::{HOME, TEMPORARY, WORK};

/// What a shell beside an attempt is made of.
pub(super) struct ContainerShell {
    /// The attempt's job.
    pub(super) job: Job,
    /// Its container.
    pub(super) container: Container,
    /// Seen as `/tmp`: the attempt's own one was removed with it.
    pub(super) scratch: PathBuf,
    /// The label by which `gc` finds it.
    pub(super) installation: String,
    /// Handed over by name: no command line holds them.
    pub(super) secrets: Vec<HandedSecret>,
}

impl ContainerShell {
    /// Becomes `docker run`; returns only with an error.
    pub(super) fn become_it(self, args: &DebugArgs) -> Result<Exit, CliError> {
        for mount in &self.container.mounts {
            if let (MountSource::Path(path), true) =
                (&mount.source, mount.target == Path::new(HOME))
            {
                fs_err::create_dir_all(path)?;
            }
        }
        let shell = args.shell.as_deref().unwrap_or("sh");
        let command =
            if args.command.is_empty() { vec![shell.to_owned()] } else { args.command.clone() };
        let ran = match self.job.command.as_slice() {
            [] => "the image's own program".to_owned(),
            words => shell_words(words),
        };
        to_stderr(&format!(
            "in    {} of a container of {}\nrun   {ran}\nleave with `exit`\n",
            self.directory().display(),
            self.container.image
        ));
        let mut docker = Command::new("docker");
        docker.args(self.arguments(&command, question::can_be_asked()));
        let refused = |error: std::io::Error| {
            CliError::missing(
                format!("`docker` cannot be started: {error}"),
                "install Docker's command-line client",
            )
        };
        if self.secrets.is_empty() {
            return Err(refused(docker.exec()));
        }
        let place = |name: &str| format!("{TEMPORARY}/{name}");
        with_secrets(&mut docker, &self.scratch, &self.secrets, &place).map_err(refused)
    }

    /// An image's own program ran in the image's folder; who looks at it wants to see the work folder.
    fn directory(&self) -> &Path {
        let own = &self.job.directory;
        if own.as_os_str().is_empty() { Path::new(WORK) } else { own }
    }

    fn arguments(&self, command: &[String], terminal: bool) -> Vec<OsString> {
        let Self { job, container, .. } = self;
        let mut all: Vec<OsString> = vec!["run".into(), "--rm".into(), "--interactive".into()];
        let mut add = |words: &[&str]| all.extend(words.iter().map(OsString::from));
        if terminal {
            add(&["--tty"]);
        }
        add(&["--init", "--security-opt", "no-new-privileges"]);
        add(&["--label", &format!("{INSTALLATION}={}", self.installation)]);
        if container.user == ContainerUser::Caller {
            let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
            add(&["--user", &format!("{}:{}", user.as_raw(), group.as_raw())]);
            add(&["--cap-drop", "ALL"]);
        }
        for capability in &container.capabilities {
            add(&["--cap-add", capability]);
        }
        if container.read_only_root {
            add(&["--read-only"]);
        }
        match &container.network {
            ContainerNetwork::None => add(&["--network", "none"]),
            ContainerNetwork::Default => {}
            ContainerNetwork::Named(name) => add(&["--network", name]),
        }
        for (name, address) in &container.hosts {
            add(&["--add-host", &format!("{name}:{address}")]);
        }
        if container.gpus > 0 {
            add(&["--gpus", &container.gpus.to_string()]);
        }
        for mount in &container.mounts {
            let source = match &mount.source {
                MountSource::Path(_) if mount.target == Path::new(TEMPORARY) => {
                    format!("type=bind,source={}", self.scratch.display())
                }
                MountSource::Path(path) => format!("type=bind,source={}", path.display()),
                MountSource::Volume(name) => format!("type=volume,source={name}"),
            };
            let end = if mount.read_only { ",readonly" } else { "" };
            add(&["--mount", &format!("{source},target={}{end}", mount.target.display())]);
        }
        for (name, value) in job.env.iter().filter(|(name, _)| *name != "FLOWRUN_JOB") {
            add(&["--env", &format!("{name}={value}")]);
        }
        for secret in &self.secrets {
            add(&["--env", &secret.variable]);
        }
        add(&["--workdir", &self.directory().to_string_lossy()]);
        let (program, rest) =
            command.split_first().map_or(("sh", &[][..]), |(first, rest)| (first.as_str(), rest));
        add(&["--entrypoint", program, &container.image]);
        all.extend(rest.iter().map(OsString::from));
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::names::{JobName, RunId};
    use crate::runtime::{LogKeep, Mount};

    #[test]
    fn the_shell_sees_what_the_attempt_saw() {
        let mount = |source: &str, target: &str, read_only| Mount {
            source: MountSource::Path(source.into()),
            target: target.into(),
            read_only,
        };
        let shell = ContainerShell {
            job: Job {
                name: JobName::new(RunId::new(0, 0), 3, 1),
                folder: "/h/3-1".into(),
                command: vec!["python".into()],
                directory: "/flowrun/work".into(),
                env: BTreeMap::from([
                    ("A".into(), "b c".into()),
                    ("FLOWRUN_JOB".into(), "j".into()),
                ]),
                memory_limit: None,
                cpu_limit: None,
                timeout: None,
                grace: Duration::from_secs(10),
                log_cap: 1,
                log_keep: LogKeep::First,
                container: None,
                secrets: Vec::new(),
            },
            container: Container {
                image: "sha256:1".into(),
                args: None,
                user: ContainerUser::Image,
                read_only_root: true,
                network: ContainerNetwork::None,
                capabilities: Vec::new(),
                mounts: vec![
                    mount("/h/3-1/work", "/flowrun/work", false),
                    mount("/h/3-1/inputs", "/flowrun/inputs", true),
                    mount("/tmp/gone", "/tmp", false),
                ],
                gpus: 0,
                hosts: BTreeMap::new(),
                labels: BTreeMap::new(),
            },
            scratch: "/h/tmp/debug-1".into(),
            installation: "i".into(),
            secrets: Vec::new(),
        };
        let words: Vec<String> = shell
            .arguments(&["ls".into(), "-l".into()], false)
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect();
        assert_eq!(
            words.join(" "),
            "run --rm --interactive --init --security-opt no-new-privileges --label flowrun.installation=i --read-only \
             --network none --mount type=bind,source=/h/3-1/work,target=/flowrun/work \
             --mount type=bind,source=/h/3-1/inputs,target=/flowrun/inputs,readonly \
             --mount type=bind,source=/h/tmp/debug-1,target=/tmp --env A=b c --workdir /flowrun/work --entrypoint ls sha256:1 -l"
        );
    }
}
