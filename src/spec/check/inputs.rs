//! What the inputs of a stage name.

use indexmap::IndexMap;

use super::super::draft::{DraftInput, DraftStage};
use super::super::pipeline::Input;
use super::super::problem::{Problem, Span, nearest};
use super::super::reader::Reader;
use super::super::yaml::short;
use super::names::{Named, Site, find_stage, many};
use crate::names::{InputName, OutputName, StageName};

/// The inputs, as far as what they name is there; the stages they need go into `named`.
pub(super) fn inputs(
    site: &Site<'_>,
    reader: &mut Reader<'_>,
    named: &mut Named,
) -> IndexMap<InputName, Input> {
    let mut inputs = IndexMap::new();
    for (name, input) in &site.stage.inputs {
        let span = input.span;
        let resolved = match &input.value {
            DraftInput::Outside { wanted, path } => {
                Some(Input::Outside { wanted: wanted.clone(), path: path.clone() })
            }
            DraftInput::Later => Some(Input::Later),
            DraftInput::Live { service, input, optional } => {
                // No need: it is the release that is live when the stage starts, and its service may well need this stage.
                let found = live_input(site, reader, service, input, span);
                found.map(|(service, input)| Input::Live { service, input, optional: *optional })
            }
            DraftInput::From { stage, output, path } => {
                let found = site.needed(reader, stage, span);
                found.and_then(|(needed, draft)| {
                    named.needs.push((needed.clone(), span));
                    let output = output_of(reader, needed, draft, output, span)?;
                    let path = path.as_ref().map(|path| path.value.clone());
                    Some(Input::Output { stage: needed.clone(), output, path })
                })
            }
        };
        inputs.extend(resolved.map(|input| (name.clone(), input)));
    }
    inputs
}

fn output_of(
    reader: &mut Reader<'_>,
    name: &StageName,
    stage: &DraftStage,
    output: &str,
    span: Span,
) -> Option<OutputName> {
    if let Some((output, _)) = stage.outputs.get_key_value(output) {
        if stage.is_many() {
            reader.report(many(name, span));
        }
        return Some(output.clone());
    }
    if stage.may_have(output) {
        return None;
    }
    let message = format!("stage `{name}` has no output `{}`", short(output));
    let problem = Problem::new("unknown-output", span, message)
        .suggest(nearest(output, stage.outputs.keys().map(OutputName::as_str)));
    reader.report(problem.help_else(if stage.service.is_some() {
        "a service has no outputs; name a stage that ends".to_owned()
    } else {
        format!("add it to the `outputs` of `{name}`: `{}: path`", short(output))
    }));
    None
}

fn live_input(
    site: &Site<'_>,
    reader: &mut Reader<'_>,
    service: &str,
    input: &str,
    span: Span,
) -> Option<(StageName, InputName)> {
    let (name, stage) = find_stage(site.draft, reader, service, span)?;
    if stage.broken {
        return None;
    }
    if stage.service.is_none() {
        reader.report(
            Problem::new("unknown-name", span, format!("stage `{name}` is no service"))
                .help("name a stage with a `service` key"),
        );
        return None;
    }
    if let Some((input, _)) = stage.inputs.get_key_value(input) {
        return Some((name.clone(), input.clone()));
    }
    if !stage.may_have(input) {
        let message = format!("service `{name}` has no input `{}`", short(input));
        let near = nearest(input, stage.inputs.keys().map(InputName::as_str));
        reader.report(
            Problem::new("unknown-name", span, message)
                .suggest(near)
                .help_else("name an input of the service"),
        );
    }
    None
}
