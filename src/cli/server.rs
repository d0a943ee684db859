//! `flowrun server`: is the server of this home, or says whether one runs, or stops it.

use std::path::Path;

use serde_json::json;
use tokio::sync::mpsc::unbounded_channel;

use super::args::ServerArgs;
use super::clock;
use super::error::CliError;
use super::exit::Exit;
use super::home::{Home, make_private};
use super::place::Place;
use super::screen::{Screen, push_line};
use super::settings::Settings;
use crate::runtime::docker::Docker;
use crate::server::client::log_of;
use crate::server::{About, Birth, BirthError, Parts, serve};
use crate::words::{age, bytes, visible};

/// Does what the flags say.
pub(crate) async fn server(
    args: ServerArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    if args.status {
        return status(args.output.json(), settings, screen).await;
    }
    if args.stop {
        return stop(args.output.json(), settings, screen).await;
    }
    let home = Home::open(&settings.home)?;
    // First of all, so that whoever started this process learns of whatever goes wrong from here on.
    let birth = Birth::take(home.root()).await.map_err(|error| match error {
        BirthError::Taken(_) => CliError::usage(
            error.to_string(),
            "see it with `flowrun server --status`, or stop it with `flowrun server --stop`",
        ),
        BirthError::Io(error) => CliError::Io(error),
    })?;
    match parts(settings).await {
        Ok(parts) => serve(birth, parts).await?,
        Err(error) => {
            // Said while the lock is still held: who waits for it reads the log as soon as it is free.
            screen.error(&error);
            drop(birth);
            return Ok(error.exit());
        }
    }
    Ok(Exit::Done)
}

async fn parts(settings: &Settings) -> Result<Parts, CliError> {
    let place = Place::open(settings).await?;
    for folder in [place.home.services(), place.home.volumes()] {
        make_private(&folder)?;
    }
    let mut supervisor = place.supervisor();
    supervisor.docker = engine(&place);
    supervisor.environment.docker.clone_from(&supervisor.docker);
    Ok(Parts {
        settings: supervisor,
        program: super::place::program()?,
        since: clock::now(),
        works_with: place.works_with(),
        state: place.state,
        store: place.store,
    })
}

/// The way to the engine for releases that are containers. Without one all others are served, and those say why they are not.
fn engine(place: &Place) -> Option<Docker> {
    let docker = place.docker();
    if let Err(error) = &docker {
        tracing::warn!(%error, "releases that are containers cannot be started");
    }
    docker.ok()
}

async fn status(as_json: bool, settings: &Settings, screen: Screen) -> Result<Exit, CliError> {
    let place = Place::open(settings).await?;
    let (told, _) = unbounded_channel();
    let about = place.client(told)?.about_if_running().await?;
    let log = log_of(place.home.root());
    if as_json {
        screen.json(&status_json(about.as_ref(), &log))?;
    } else {
        screen.data(&status_text(clock::now(), about.as_ref(), &log))?;
    }
    Ok(if about.is_some() { Exit::Done } else { Exit::Unreachable })
}

async fn stop(as_json: bool, settings: &Settings, screen: Screen) -> Result<Exit, CliError> {
    let place = Place::open(settings).await?;
    let (told, _) = unbounded_channel();
    let stopped = place.client(told)?.stop().await?;
    if as_json {
        screen.json(&json!({"stopped": stopped}))?;
    } else {
        screen.say(&match stopped {
            Some(pid) => format!("stopped the server (process {pid}); replicas run on"),
            None => "no server runs".to_owned(),
        });
    }
    Ok(Exit::Done)
}

fn status_json(about: Option<&About>, log: &Path) -> serde_json::Value {
    let Some(about) = about else { return json!({"running": false, "log": log}) };
    json!({
        "running": true,
        "pid": about.pid,
        "version": about.version,
        "since": about.since,
        "gateway": about.gateway,
        "gateway_problem": about.gateway_problem,
        "services": about.services,
        "memory": about.memory,
        "state": about.works_with.as_ref().map(|with| &with.state),
        "store": about.works_with.as_ref().map(|with| &with.store),
        "log": log,
    })
}

fn status_text(now: u64, about: Option<&About>, log: &Path) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| push_line(&mut text, &format!("{name:<9} {value}"));
    let log = log.display().to_string();
    let Some(about) = about else {
        line("server", "does not run; `flowrun apply` starts it when a service needs it");
        return text;
    };
    let since = age(now, about.since);
    let (pid, version) = (about.pid, visible(&about.version));
    line("server", &format!("process {pid}, flowrun {version}, started {since}"));
    line(
        "gateway",
        &match &about.gateway_problem {
            None => format!("http://{}", about.gateway),
            Some(why) => format!("none: {why}"),
        },
    );
    line("services", &about.services.to_string());
    line("memory", &bytes(about.memory));
    if let Some(with) = &about.works_with {
        line("state", &visible(&with.state));
        line("store", &visible(&with.store));
    }
    line("log", &visible(&log));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::WorksWith;

    fn about() -> About {
        About {
            pid: 12,
            version: "0.1.0".into(),
            since: 1000,
            gateway: "127.0.0.1:8080".into(),
            gateway_problem: None,
            services: 2,
            memory: 12 << 20,
            works_with: Some(WorksWith { state: "sqlite".into(), store: "/h/store".into() }),
        }
    }

    #[test]
    fn the_status_is_one_screen() {
        let log = Path::new("/h/server.log");
        assert_eq!(
            status_text(301_000, Some(&about()), log),
            "server    process 12, flowrun 0.1.0, started 5 min ago\n\
             gateway   http://127.0.0.1:8080\n\
             services  2\n\
             memory    12 MiB\n\
             state     sqlite\n\
             store     /h/store\n\
             log       /h/server.log\n"
        );
        let why = Some("port 8080 is taken by another program".into());
        let taken = About { gateway_problem: why, ..about() };
        let text = status_text(301_000, Some(&taken), log);
        assert!(text.contains("gateway   none: port 8080 is taken by another program\n"), "{text}");
        assert!(status_text(0, None, log).starts_with("server    does not run"));
        assert_eq!(status_json(None, log)["running"], false);
        assert_eq!(status_json(Some(&about()), log)["memory"], 12 << 20);
    }
}
