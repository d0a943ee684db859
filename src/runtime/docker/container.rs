//! The few things that are asked of one container, by its name.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, EventsOptionsBuilder,
    KillContainerOptionsBuilder, RemoveContainerOptionsBuilder, WaitContainerOptionsBuilder,
};
use futures_util::StreamExt;

use super::output::Output;
use super::{Docker, DockerError, INSTALLATION, clock, error};

/// So long an engine has to give the events that it kept.
const UNTIL_SAID: Duration = Duration::from_secs(5);

/// A container of this installation, as the engine shows it.
pub(super) struct Found(pub(super) ContainerInspectResponse);

impl Found {
    /// It was made and never started.
    pub(super) fn is_new(&self) -> bool {
        use bollard::models::ContainerStateStatusEnum;
        let state = self.0.state.as_ref();
        state.and_then(|state| state.status) == Some(ContainerStateStatusEnum::CREATED)
    }

    /// It runs now.
    pub(super) fn is_running(&self) -> bool {
        self.0.state.as_ref().and_then(|state| state.running) == Some(true)
    }

    /// The value of a label.
    pub(super) fn label(&self, name: &str) -> Option<&String> {
        self.0.config.as_ref()?.labels.as_ref()?.get(name)
    }

    /// Its variables.
    pub(super) fn env(&self) -> &[String] {
        let config = self.0.config.as_ref();
        config.and_then(|config| config.env.as_deref()).unwrap_or_default()
    }
}

/// What became of a start.
pub(super) enum Begun {
    /// It runs, or did; all it writes comes here.
    Running(Output),
    /// The program of the image cannot be started: a code as shells have it, and why.
    NotStartable { code: i32, why: String },
}

impl Docker {
    /// The container of this name; nothing when there is none. One that is not flowrun's own is an error.
    pub(super) async fn find_job(&self, name: &str) -> Result<Option<Found>, DockerError> {
        let found = match self.engine().await?.inspect_container(name, None).await {
            Ok(found) => Found(found),
            Err(error) if error::status(&error) == Some(404) => return Ok(None),
            Err(error) => {
                return Err(DockerError::of(format!("look at container `{name}`"), &error));
            }
        };
        if found.label(INSTALLATION) != Some(&self.settings().installation) {
            return Err(DockerError::Refused {
                what: format!("use the name `{name}`"),
                why: "a container that flowrun did not make has it".to_owned(),
            });
        }
        Ok(Some(found))
    }

    /// Whether the engine has told since then (Unix milliseconds) that the kernel killed something of a container for lack of memory.
    /// It keeps its last events; nobody waits for new ones.
    pub(super) async fn told_out_of_memory(&self, name: &str, since: Option<u64>) -> bool {
        let (Some(since), Ok(engine)) = (since, self.engine().await) else { return false };
        let wanted = [("type", "container"), ("container", name), ("event", "oom")];
        let filters: HashMap<&str, Vec<&str>> =
            wanted.into_iter().map(|(kind, value)| (kind, vec![value])).collect();
        let time = |ms: u64| format!("{}.{:03}000000", ms / 1000, ms % 1000);
        let options = EventsOptionsBuilder::default()
            .since(&time(since))
            .until(&time(clock::now()))
            .filters(&filters)
            .build();
        let events = engine.events(Some(options));
        tokio::pin!(events);
        let told = tokio::time::timeout(UNTIL_SAID, events.next()).await;
        told.is_ok_and(|event| event.is_some_and(|event| event.is_ok()))
    }

    /// Makes a container; whether there was none of this name.
    pub(super) async fn make(
        &self,
        name: &str,
        body: ContainerCreateBody,
    ) -> Result<bool, DockerError> {
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        match self.engine().await?.create_container(Some(options), body).await {
            Ok(_) => Ok(true),
            Err(error) if error::status(&error) == Some(409) => Ok(false),
            Err(error) => Err(DockerError::of(format!("make container `{name}`"), &error)),
        }
    }

    /// Starts a container that was made. Attached first, so that nothing of one that dies at once is missed.
    pub(super) async fn begin(&self, name: &str) -> Result<Begun, DockerError> {
        let options =
            AttachContainerOptionsBuilder::default().stdout(true).stderr(true).stream(true).build();
        let engine = self.engine().await?;
        let attached = engine.attach_container(name, Some(options)).await;
        let attached =
            attached.map_err(|error| DockerError::of(format!("attach to `{name}`"), &error))?;
        match engine.start_container(name, None).await {
            Ok(()) => Ok(Begun::Running(attached.output)),
            Err(error) => {
                let told = DockerError::of(format!("start container `{name}`"), &error);
                match &told {
                    DockerError::Refused { why, .. } => match not_startable(why) {
                        Some(code) => Ok(Begun::NotStartable { code, why: why.clone() }),
                        None => Err(told),
                    },
                    _ => Err(told),
                }
            }
        }
    }

    /// Waits until a container that was started does not run. `Err` is that the engine went away or the container is gone.
    pub(super) async fn exit(&self, name: &str) -> Result<(), DockerError> {
        let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
        let waited = self.engine().await?.wait_container(name, Some(options)).boxed().next().await;
        match waited {
            // The client makes an error of every code but 0.
            Some(Ok(_) | Err(bollard::errors::Error::DockerContainerWaitError { .. })) => Ok(()),
            Some(Err(error)) => Err(DockerError::of(format!("wait for `{name}`"), &error)),
            None => Err(DockerError::absent("it went away")),
        }
    }

    /// Sends a signal to a container's first process; nothing happens when it does not run.
    pub(super) async fn signal(&self, name: &str, signal: &str) -> Result<(), DockerError> {
        let options = KillContainerOptionsBuilder::default().signal(signal).build();
        match self.engine().await?.kill_container(name, Some(options)).await {
            Err(error) if !matches!(error::status(&error), Some(404 | 409)) => {
                Err(DockerError::of(format!("stop container `{name}`"), &error))
            }
            _ => Ok(()),
        }
    }

    /// Removes a container and its nameless volumes, running or not; nothing happens when there is none.
    pub(super) async fn discard(&self, name: &str) -> Result<(), DockerError> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match self.engine().await?.remove_container(name, Some(options)).await {
            // 409: somebody else removes it just now.
            Err(error) if !matches!(error::status(&error), Some(404 | 409)) => {
                Err(DockerError::of(format!("remove container `{name}`"), &error))
            }
            _ => Ok(()),
        }
    }
}

/// Whether the engine says that the program itself cannot be started, and the code for it. Only the words tell it from
/// what is wrong with the machine.
fn not_startable(why: &str) -> Option<i32> {
    if !why.contains("exec: ") && !why.contains("chdir to cwd") {
        return None;
    }
    if why.contains("not found") || why.contains("no such file or directory") {
        return Some(127);
    }
    let refused = ["permission denied", "exec format error", "is a directory", "not a directory"];
    refused.iter().any(|words| why.contains(words)).then_some(126)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_is_told_from_a_broken_machine() {
        let missing = "OCI runtime create failed: runc create failed: unable to start container process: \
                       exec: \"x\": executable file not found in $PATH: unknown";
        assert_eq!(not_startable(missing), Some(127));
        assert_eq!(not_startable("exec: \"/x\": permission denied: unknown"), Some(126));
        assert_eq!(not_startable("failed to create endpoint x: could not find bridge"), None);
        assert_eq!(not_startable("error mounting \"/x\": no such file or directory"), None);
    }
}
