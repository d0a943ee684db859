//! `flowrun doctor`: checks this machine and this home on one screen.

mod disk;
mod tools;

use owo_colors::OwoColorize;
use serde_json::json;

use super::args::DoctorArgs;
use super::error::CliError;
use super::exit::Exit;
use super::home::Home;
use super::place::open_store;
use super::screen::{Screen, push_line};
use super::settings::Settings;
use crate::runtime::local::LocalRuntime;
use crate::state::State;

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
    mend: Option<&'static str>,
}

fn ok(what: &'static str, found: impl Into<String>) -> Finding {
    Finding { what, mark: Mark::Ok, found: found.into(), mend: None }
}

fn warn(what: &'static str, found: impl Into<String>, mend: &'static str) -> Finding {
    Finding { what, mark: Mark::Warn, found: found.into(), mend: Some(mend) }
}

fn fail(what: &'static str, found: impl Into<String>, mend: &'static str) -> Finding {
    Finding { what, mark: Mark::Fail, found: found.into(), mend: Some(mend) }
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
            findings.push(state(&home).await);
            findings.push(store(settings));
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

async fn state(home: &Home) -> Finding {
    let opened = match State::open(home.root()).await {
        Ok(state) => state.installation().await,
        Err(error) => Err(error),
    };
    match opened {
        Ok(id) => ok("state", format!("installation {id}")),
        Err(error) => {
            fail("state", error.to_string(), "restore `state.db` of the home, or move it away")
        }
    }
}

fn store(settings: &Settings) -> Finding {
    let shown = settings.store.display();
    match open_store(settings) {
        Ok(_) if settings.read_only_store => ok("store", format!("{shown}, read-only")),
        Ok(_) => ok("store", format!("{shown} (`flowrun store check` reads all of it)")),
        Err(error) => {
            fail("store", error.to_string(), "set `store` to a folder that can be written")
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
        if let Some(mend) = one.mend {
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
