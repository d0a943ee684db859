//! Runs a command beside a process of this machine, for as long as somebody waits for its answer.

use std::ffi::OsString;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::ExitStatus;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use super::Beside;
use super::heard::Heard;
use crate::words;

/// Why the answer is no.
#[derive(Debug)]
pub(super) struct No {
    /// A fragment for a person.
    pub(super) ended: String,
    /// What the command said.
    pub(super) heard: Heard,
}

/// Runs it to its end, with its variables and these alone.
pub(super) async fn run(beside: &Beside, secrets: Vec<(String, OsString)>) -> Result<(), No> {
    let no = |ended| No { ended, heard: Heard::default() };
    let Some((program, arguments)) = beside.command.split_first() else {
        return Err(no("the probe has no command".to_owned()));
    };
    let name = words::shell_words(&beside.command);
    let not_started = |error| no(format!("`{name}` cannot be started: {error}"));
    let (reading, writing) = std::io::pipe().map_err(not_started)?;
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .current_dir(&beside.directory)
        .env_clear()
        .envs(&beside.env)
        .envs(secrets)
        .stdin(std::process::Stdio::null())
        .stdout(writing.try_clone().map_err(not_started)?)
        .stderr(writing)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(not_started)?;
    let group = Group(child.id());
    let (status, heard) = listen(&mut child, reading.into(), group).await;
    let status = status.map_err(|error| no(format!("`{name}` was lost: {error}")))?;
    let ended = match (status.code(), std::os::unix::process::ExitStatusExt::signal(&status)) {
        (Some(0), _) => return Ok(()),
        (Some(code), _) => format!("`{name}` exited with code {code}"),
        (None, signal) => format!("`{name}` was ended by signal {}", signal.unwrap_or_default()),
    };
    Err(No { ended, heard })
}

/// Waits for its end and takes what it says meanwhile, so that it never stands still over a full pipe.
async fn listen(
    child: &mut tokio::process::Child,
    reading: OwnedFd,
    group: Group,
) -> (std::io::Result<ExitStatus>, Heard) {
    let mut heard = Heard::default();
    let mut reading = match Receiver::from_owned_fd(reading) {
        Ok(reading) => reading,
        Err(error) => return (Err(error), heard),
    };
    let mut buffer = vec![0; 8192];
    let mut is_open = true;
    let status = loop {
        tokio::select! {
            read = reading.read(&mut buffer), if is_open => match read {
                Ok(0) | Err(_) => is_open = false,
                Ok(count) => drop(heard.add(&buffer[..count])),
            },
            status = child.wait() => break status,
        }
    };
    // Who it left behind may hold the pipe open for ever.
    drop(group);
    if let Ok(rest) = reading.into_nonblocking_fd() {
        let mut rest = fs_err::File::from_parts(rest.into(), "the output of a probe");
        while let Ok(count @ 1..) = rest.read(&mut buffer) {
            if !heard.add(&buffer[..count]) {
                break;
            }
        }
    }
    (status, heard)
}

/// Ends what the command left behind, also when it hangs.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let group = self.0.and_then(|pid| i32::try_from(pid).ok());
        if let Some(group) = group.and_then(rustix::process::Pid::from_raw) {
            // Fails only when nothing is left of it.
            rustix::process::kill_process_group(group, rustix::process::Signal::KILL)
                .unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_command_says_it_by_its_code_and_has_only_its_variables() {
        let beside = |text: &str| Beside {
            command: ["sh", "-c", text].map(str::to_owned).to_vec(),
            directory: "/".into(),
            env: [("PORT", "7"), ("PATH", "/usr/bin:/bin")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        };
        let all = beside("test \"$PORT\" = 7 && test \"$KEY\" = hunter22 && test -z \"$HOME\"");
        run(&all, vec![("KEY".to_owned(), "hunter22".into())]).await.unwrap();
        let no = run(&beside("exit 3"), Vec::new()).await.unwrap_err();
        assert_eq!(no.ended, "`sh -c 'exit 3'` exited with code 3");
        assert!(no.heard.is_empty());
        let no = run(&beside("kill -9 $$"), Vec::new()).await.unwrap_err();
        assert!(no.ended.ends_with("was ended by signal 9"), "{}", no.ended);
    }

    #[tokio::test]
    async fn what_it_says_is_heard_and_never_keeps_it() {
        let beside = |text: &str| Beside {
            command: ["sh", "-c", text].map(str::to_owned).to_vec(),
            directory: "/".into(),
            env: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
        };
        let said = async |text: &str| {
            let no = run(&beside(text), Vec::new()).await.unwrap_err();
            no.heard.told("no", &crate::runtime::log::Masks::default())
        };
        assert_eq!(said("echo out; echo err >&2; exit 1").await, "no: out err");
        let much = said("head -c 1000000 /dev/zero | tr '\\0' x; exit 1").await;
        assert!(much.starts_with("no: x") && much.len() < 1100);
        // One that it left behind holds its output open.
        assert_eq!(said("echo gone; sleep 1000 & exit 1").await, "no: gone");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let begun = folder.path().join("begun");
        let text = "echo $$ > new && mv new begun; sleep 1000; true";
        let beside = Beside {
            command: ["sh", "-c", text].map(str::to_owned).to_vec(),
            directory: folder.path().to_owned(),
            env: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
        };
        let waiting = async {
            while !begun.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            answer = run(&beside, Vec::new()) => panic!("{answer:?}"),
            () = waiting => {}
        }
        let pid: i32 = fs_err::read_to_string(&begun).unwrap().trim().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        while rustix::process::test_kill_process_group(pid).is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
