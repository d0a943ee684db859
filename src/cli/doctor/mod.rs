//! `flowrun doctor`: checks this machine and this home on one screen.

mod disk;
mod docker;
mod key;
mod server;
mod store;
mod tools;

use owo_colors::OwoColorize;
use serde_json::json;

use super::args::DoctorArgs;
use super::error::CliError;
use super::exit::Exit;
use super::home::Home;
use super::screen::{Screen, push_line};
use super::settings::Settings;
use crate::runtime::local::LocalRuntime;
use crate::state::{State, StatePlace};

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Ok,
    Warn,
    Fail,
}

impl Mark {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One line of the screen.
#[derive(Debug, Clone)]
struct Finding {
    what: &'static str,
    mark: Mark,
    found: String,
    mend: Option<String>,
}

fn ok(what: &'static str, found: impl Into<String>) -> Finding {
    Finding { what, mark: Mark::Ok, found: found.into(), mend: None }
}

fn warn(what: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { what, mark: Mark::Warn, found: found.into(), mend: Some(mend.into()) }
}

fn fail(what: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { what, mark: Mark::Fail, found: found.into(), mend: Some(mend.into()) }
}

/// Checks everything, also after something failed.
pub(crate) async fn doctor(
    args: &DoctorArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    let mut findings = Vec::new();
    match Home::open(&settings.home) {
        Ok(home) => {
            findings.push(ok("home", home.root().display().to_string()));
            findings.extend(disk::check(&home, settings));
            let state = state(&home, &settings.state).await;
            let has_state = state.mark != Mark::Fail;
            findings.push(state);
            findings.push(store::check(settings).await);
            // Without a state nothing can be said of either, and its error is told already.
            if has_state {
                findings.push(key::check(&home, settings).await);
                findings.extend(server::check(settings).await);
            }
            findings.extend(docker::check(settings).await);
        }
        Err(error) => {
            let mend = "set `FLOWRUN_HOME` to a folder that can be written";
            findings.push(fail("home", error.to_string(), mend));
        }
    }
    findings.push(match LocalRuntime::limits_available() {
        Ok(()) => ok("cgroups", "limits can be set"),
        Err(why) => warn(
            "cgroups",
            format!("limits are requests only: {why}"),
            "run where a cgroup can be written (root, or systemd's `Delegate=yes`)",
        ),
    });
    findings.extend(tools::check(&settings.caller));

    if args.output.json() {
        let list: Vec<_> = findings
            .iter()
            .map(|one| json!({"check": one.what, "result": one.mark.word(), "found": one.found, "mend": one.mend}))
            .collect();
        screen.json(&json!({"checks": list}))?;
    } else {
        screen.data(&text(&findings, screen.colour_out))?;
    }
    let failed = findings.iter().any(|one| one.mark == Mark::Fail);
    Ok(if failed { Exit::Unreachable } else { Exit::Done })
}

async fn state(home: &Home, place: &StatePlace) -> Finding {
    match (State::open_at(home.root(), place).await, place) {
        (Ok(state), StatePlace::Home) => {
            ok("state", format!("installation {}", state.installation()))
        }
        (Ok(state), StatePlace::Postgres(place)) => {
            ok("state", format!("{place}, installation {}", state.installation()))
        }
        (Err(error), StatePlace::Home) => {
            fail("state", error.to_string(), "restore `state.db` of the home, or move it away")
        }
        (Err(error), StatePlace::Postgres(_)) => {
            let mend =
                "see to it that the database answers, and that `state` is right (docs/postgres.md)";
            fail("state", error.to_string(), mend)
        }
    }
}

fn text(findings: &[Finding], colour: bool) -> String {
    let mut text = String::new();
    for one in findings {
        let word = format!("{:<4}", one.mark.word());
        let word = match (colour, one.mark) {
            (false, _) => word,
            (true, Mark::Ok) => word.green().to_string(),
            (true, Mark::Warn) => word.yellow().to_string(),
            (true, Mark::Fail) => word.red().to_string(),
        };
        push_line(
            &mut text,
            &format!("{word}  {:<11} {}", one.what, crate::words::visible(&one.found)),
        );
        if let Some(mend) = &one.mend {
            push_line(&mut text, &format!("{:>19}{mend}", ""));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_is_a_line_and_its_mend_another() {
        let findings = [ok("git", "2.40"), warn("uv", "not found", "install uv")];
        assert_eq!(
            text(&findings, false),
            "ok    git         2.40\nwarn  uv          not found\n                   install uv\n"
        );
    }
}
