//! `flowrun validate`: every problem of a file at once.

use serde_json::{Value, json};

use super::args::{Output, ValidateArgs};
use super::error::CliError;
use super::exit::Exit;
use super::home::Home;
use super::load::{self, PipelineFile};
use super::place;
use super::screen::Screen;
use super::settings::Settings;
use super::target::{self, Target};
use crate::spec::{Pipeline, Problem, Problems};
use crate::words::count;

/// Checks a file. Only a git target or `--ref` needs the home.
pub(crate) fn validate(
    args: &ValidateArgs,
    settings: &Settings,
    screen: Screen,
) -> Result<Exit, CliError> {
    let target = target::resolve(&args.target, &settings.caller.folder)?;
    let checked = if let Target::File { path, shown, reference: None } = &target {
        load::read(path, shown)
    } else {
        let home = Home::open(&settings.home)?;
        load::load(&place::source(&home, &settings.caller), &target)
            .map(|loaded| (loaded.file, (*loaded.pipeline).clone()))
    };
    let as_json = args.format == Output::Json;
    match checked {
        Ok((file, pipeline)) => {
            if as_json {
                screen.json(&object(&file, &pipeline))?;
            } else {
                told(&file, &pipeline, screen)?;
            }
            Ok(Exit::Done)
        }
        Err(CliError::Problems(problems)) if as_json => {
            screen.json(&json!({
                "valid": false,
                "file": problems.file,
                "problems": problems.to_json(),
            }))?;
            Ok(Exit::Invalid)
        }
        Err(error) => Err(error),
    }
}

fn told(file: &PipelineFile, pipeline: &Pipeline, screen: Screen) -> Result<(), CliError> {
    let notes: Vec<Problem> =
        pipeline.warnings.iter().chain(&pipeline.unavailable).cloned().collect();
    if !notes.is_empty() {
        let problems = problems(file, notes);
        screen.say(problems.render_warnings(screen.colour_err).trim_end());
    }
    let stages = count(pipeline.stages.len(), "stage");
    let later = match pipeline.unavailable.len() {
        0 => String::new(),
        number => format!("; {} of it cannot run yet", count(number, "part")),
    };
    screen.data(&format!(
        "{} is valid: pipeline `{}` with {stages}{later}",
        file.shown, pipeline.name
    ))
}

fn object(file: &PipelineFile, pipeline: &Pipeline) -> Value {
    let list = |list: &[Problem]| problems(file, list.to_vec()).to_json();
    json!({
        "valid": true,
        "file": file.shown,
        "pipeline": pipeline.name,
        "stages": pipeline.stages.keys().collect::<Vec<_>>(),
        "problems": [],
        "warnings": list(&pipeline.warnings),
        "not_available": list(&pipeline.unavailable),
    })
}

fn problems(file: &PipelineFile, list: Vec<Problem>) -> Problems {
    let text = String::from_utf8_lossy(&file.bytes).into_owned();
    Problems { file: file.shown.clone(), text, list }
}
