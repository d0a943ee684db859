//! What names mean: stages, and everything an expression can name.

use indexmap::{IndexMap, IndexSet};

use super::super::draft::{Draft, DraftCommand, DraftStage};
use super::super::expression::References;
use super::super::expression::token::Path;
use super::super::pipeline::Command;
use super::super::problem::{Problem, Span, nearest};
use super::super::reader::{Reader, Spanned};
use super::super::template::{DraftExpression, DraftPiece, DraftTemplate};
use super::super::yaml::short;
use super::super::{Expression, Template};
use super::hooks::Role;
use crate::names::{ParamName, StageName};

/// Where an expression stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// `run`, `args`, `env`, `ready.run`: expanded when an attempt starts.
    Command,
    /// `when`: asked once for the stage, before any copy.
    When,
    /// `gate`
    Gate,
}

/// A stage whose names are resolved.
#[derive(Debug, Clone, Copy)]
pub(super) struct Site<'a> {
    pub(super) draft: &'a Draft,
    pub(super) hooks: &'a IndexMap<StageName, Role>,
    pub(super) name: &'a StageName,
    pub(super) stage: &'a DraftStage,
}

/// What an expression was found to name, beside its value.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// Stages it needs, and the place that says so.
    pub(super) needs: Vec<(StageName, Span)>,
    /// Where `run.id` and `run.commit` stand.
    pub(super) run_identity: Vec<Spanned<String>>,
}

const RUN: [&str; 5] = ["id", "commit", "ref", "dirty", "base"];
const ROOTS: [&str; 9] =
    ["params", "matrix", "live", "run", "inputs", "outputs", "port", "target", "services"];

/// The stage of this name, or a problem (none for a name that was refused already).
pub(super) fn find_stage<'d>(
    draft: &'d Draft,
    reader: &mut Reader<'_>,
    name: &str,
    span: Span,
) -> Option<(&'d StageName, &'d DraftStage)> {
    if let Some(found) = draft.stages.get_key_value(name) {
        return Some(found);
    }
    if reader.is_full() || draft.refused_names.contains(name) {
        return None;
    }
    let problem =
        Problem::new("unknown-stage", span, format!("there is no stage `{}`", short(name)))
            .suggest(nearest(name, draft.stages.keys().map(StageName::as_str)))
            .label("no stage has this name");
    reader.report(problem.help_else("name a stage of this file, or add one under `stages`"));
    None
}

impl<'a> Site<'a> {
    /// A stage that another one can need: it exists and stands in the DAG.
    pub(super) fn needed(
        &self,
        reader: &mut Reader<'_>,
        name: &str,
        span: Span,
    ) -> Option<(&'a StageName, &'a DraftStage)> {
        let found = find_stage(self.draft, reader, name, span)?;
        if let Some(role) = self.hooks.get(found.0) {
            let key = role.key();
            let message = format!("stage `{name}` is named by `{key}`, so nothing can need it");
            reader.report(
                Problem::new("needs-hook", span, message)
                    .help(format!("name another stage, or write one of its own for `{key}`")),
            );
            return None;
        }
        Some(found)
    }

    /// The text with its names resolved.
    pub(super) fn template(
        &self,
        reader: &mut Reader<'_>,
        draft: &DraftTemplate,
        named: &mut Named,
    ) -> Template {
        use super::super::expression::Piece;
        let pieces = draft.iter().map(|piece| match piece {
            DraftPiece::Literal(text) => Piece::Literal(text.clone()),
            DraftPiece::Expression(expression) => {
                Piece::Expression(self.expression(reader, expression, Place::Command, named))
            }
        });
        Template(pieces.collect())
    }

    /// The command with its names resolved.
    pub(super) fn command(
        &self,
        reader: &mut Reader<'_>,
        draft: &DraftCommand,
        named: &mut Named,
    ) -> Command {
        let mut resolve = |text: &DraftTemplate| self.template(reader, text, named);
        match draft {
            DraftCommand::Shell(text) => Command::Shell(resolve(text)),
            DraftCommand::List(list) => Command::List(list.iter().map(resolve).collect()),
        }
    }

    /// The expression with its names resolved.
    pub(super) fn expression(
        &self,
        reader: &mut Reader<'_>,
        draft: &DraftExpression,
        place: Place,
        named: &mut Named,
    ) -> Expression {
        let mut references = References::default();
        for path in &draft.paths {
            if reader.is_full() {
                break;
            }
            let mut found = References::default();
            if let Err(problem) = self.path(reader, path, place, &mut found, named) {
                reader.report(*problem);
            }
            references.add(&found);
        }
        Expression { source: draft.source.clone(), references }
    }

    fn path(
        &self,
        reader: &mut Reader<'_>,
        path: &Spanned<Path>,
        place: Place,
        found: &mut References,
        named: &mut Named,
    ) -> Result<(), Box<Problem>> {
        let span = path.span;
        let parts: Vec<&str> = path.value.parts.iter().map(String::as_str).collect();
        let wrong = |message: String, help: &str| {
            Box::new(Problem::new("unknown-name", span, message).help(help))
        };
        let stage_name = self.name;
        let not_here = |help: &str| {
            let place = if place == Place::When { "when" } else { "gate" };
            wrong(format!("`{}` is not known in `{place}`", path.value.dotted()), help)
        };
        match (parts[0], &parts[1..]) {
            ("params", [name]) => match self.draft.params.get_key_value(*name) {
                Some((name, _)) => found.params.push(name.clone()),
                None => reader.unknown_param(self.draft, name, span),
            },
            ("params", [name, ..]) => {
                return Err(wrong(
                    format!("`params.{name}` is a single value"),
                    "leave out what follows it",
                ));
            }
            ("matrix", [axis]) if place == Place::Command => {
                let matrix = &self.stage.matrix;
                if !matrix.contains_key(*axis) && !self.stage.may_have(axis) {
                    let near = nearest(axis, matrix.keys().map(crate::names::AxisName::as_str));
                    let message = if matrix.is_empty() {
                        format!("stage `{stage_name}` has no matrix")
                    } else {
                        format!("the matrix of `{stage_name}` has no axis `{axis}`")
                    };
                    let problem = Problem::new("unknown-axis", span, message).suggest(near);
                    return Err(Box::new(
                        problem.help_else(format!("add `matrix: {{{axis}: […]}}` to the stage")),
                    ));
                }
            }
            ("matrix" | "inputs" | "outputs", _) if place != Place::Command => {
                return Err(not_here(
                    "use params, metrics and values; copies of a stage and their files come later",
                ));
            }
            ("inputs", [input]) => {
                if !self.stage.inputs.contains_key(*input) && !self.stage.may_have(input) {
                    let known = self.stage.inputs.keys().map(crate::names::InputName::as_str);
                    return Err(Box::new(self.unknown_own(
                        "input",
                        input,
                        span,
                        nearest(input, known),
                    )));
                }
            }
            ("outputs", [output]) => {
                if !self.stage.outputs.contains_key(*output) && !self.stage.may_have(output) {
                    let known = self.stage.outputs.keys().map(crate::names::OutputName::as_str);
                    return Err(Box::new(self.unknown_own(
                        "output",
                        output,
                        span,
                        nearest(output, known),
                    )));
                }
            }
            ("run", [field]) if RUN.contains(field) => {
                if matches!(*field, "id" | "commit") {
                    found.run_identity = true;
                    named.run_identity.push(Spanned { value: path.value.dotted(), span });
                }
            }
            ("run", _) => {
                let near = parts.get(1).and_then(|field| nearest(field, RUN));
                let problem = Problem::new(
                    "unknown-name",
                    span,
                    format!("there is no `{}`", short(&path.value.dotted())),
                );
                let near = near.map(|near| format!("run.{near}"));
                let problem = problem.suggest(near.as_deref());
                return Err(Box::new(
                    problem.help_else("write run.id, run.commit, run.ref, run.dirty or run.base"),
                ));
            }
            ("port", []) if place != Place::Command => return Err(not_here("leave it out")),
            ("port", []) => {
                if self.stage.service.is_none() {
                    return Err(wrong(
                        format!("stage `{stage_name}` has no port"),
                        "use `port` in services only",
                    ));
                }
            }
            ("target", []) => {}
            ("services", [service, "url"]) => {
                if let Some((service, stage)) = self.needed(reader, service, span) {
                    if stage.service.is_none() && !stage.broken {
                        return Err(wrong(
                            format!("stage `{service}` is no service"),
                            "name a stage with a `service` key",
                        ));
                    }
                    found.services.push(service.clone());
                    // A `verify` stage runs within the rollout of its service, and gets the candidate's address. Nor do
                    // the other hooks wait for anything.
                    let waits = match self.hooks.get(stage_name) {
                        None => true,
                        Some(Role::Verify) => !self.verifies(service),
                        Some(Role::OnFailure | Role::OnExit) => false,
                    };
                    if waits {
                        named.needs.push((service.clone(), span));
                    }
                }
            }
            ("services", _) => {
                return Err(wrong(
                    format!("`{}` is not known", short(&path.value.dotted())),
                    "write `services.<stage>.url`",
                ));
            }
            ("live", rest) => {
                return self.live(reader, rest, path, place, found);
            }
            (root @ ("params" | "matrix" | "inputs" | "outputs"), _) => {
                return Err(wrong(
                    format!("`{}` names no single value", short(&path.value.dotted())),
                    match root {
                        "params" => "write `params.<name>`",
                        "matrix" => "write `matrix.<axis>`",
                        "inputs" => "write `inputs.<name>`",
                        _ => "write `outputs.<name>`",
                    },
                ));
            }
            ("secrets", _) => {
                return Err(wrong(
                    format!("`{}`: secrets stand in no expression", short(&path.value.dotted())),
                    "read the variable in the command: `$NAME`, named under `secrets` of the stage",
                ));
            }
            ("env", _) => {
                return Err(wrong(
                    format!("`{}` is not known in expressions", short(&path.value.dotted())),
                    "read the variable in the command: `$NAME`",
                ));
            }
            ("port" | "target", _) => {
                return Err(wrong(
                    format!("`{}` is a single value", parts[0]),
                    "leave out what follows it",
                ));
            }
            (stage, _) if self.draft.refused_names.contains(stage) => {}
            (stage, rest) => {
                if !self.draft.stages.contains_key(stage) {
                    return Err(Box::new(self.unknown_root(stage, span)));
                }
                if let Some((needed, needed_stage)) = self.needed(reader, stage, span) {
                    results(needed, needed_stage, rest, path)?;
                    if let Some(role @ (Role::OnFailure | Role::OnExit)) =
                        self.hooks.get(stage_name)
                    {
                        return Err(wrong(
                            format!(
                                "stage `{stage_name}` is named by `{}` and cannot use results",
                                role.key()
                            ),
                            "remove the expression; it also runs when there are none",
                        ));
                    }
                    found.results.push(needed.clone());
                    named.needs.push((needed.clone(), span));
                }
            }
        }
        Ok(())
    }

    /// `live` in a gate is the live release of this service, elsewhere `live.<service>` is that of a service.
    fn live(
        &self,
        reader: &mut Reader<'_>,
        rest: &[&str],
        path: &Spanned<Path>,
        place: Place,
        found: &mut References,
    ) -> Result<(), Box<Problem>> {
        let span = path.span;
        let named = match (place, rest) {
            (Place::Gate, [service, rest @ ..]) if *service == self.name.as_str() => {
                let problem = Problem::new(
                    "unknown-name",
                    span,
                    format!("in `gate`, `live` is the live release of `{service}` itself"),
                );
                let help = ["live"].iter().chain(rest).copied().collect::<Vec<_>>().join(".");
                return Err(Box::new(problem.help(format!("write `{help}`"))));
            }
            (Place::Gate, rest) => {
                found.live.insert(self.name.clone());
                rest
            }
            (_, [service, rest @ ..]) => {
                let Some((service, stage)) = find_stage(self.draft, reader, service, span) else {
                    return Ok(());
                };
                if stage.service.is_none() && !stage.broken {
                    let problem = Problem::new(
                        "unknown-name",
                        span,
                        format!("stage `{service}` is no service"),
                    )
                    .help("write `live.<service>`; `live` alone stands in `gate` only");
                    return Err(Box::new(problem));
                }
                found.live.insert(service.clone());
                rest
            }
            (_, []) => {
                let problem =
                    Problem::new("unknown-name", span, "`live` alone stands in `gate` only")
                        .help("write `live.<service>`");
                return Err(Box::new(problem));
            }
        };
        if let [stage, rest @ ..] = named
            && let Some((name, stage)) = find_stage(self.draft, reader, stage, span)
        {
            return results(name, stage, rest, path);
        }
        Ok(())
    }

    /// Whether this stage is the one that `verify` of the service names.
    fn verifies(&self, service: &StageName) -> bool {
        let service = self.draft.stages.get(service).and_then(|stage| stage.service.as_ref());
        let verify = service.and_then(|service| service.verify.as_ref());
        verify.is_some_and(|verify| verify.value == self.name.as_str())
    }

    fn unknown_own(&self, what: &str, name: &str, span: Span, near: Option<&str>) -> Problem {
        let message = format!("stage `{}` has no {what} `{}`", self.name, short(name));
        let problem = Problem::new("unknown-name", span, message).suggest(near);
        problem.help_else(if what == "output" && self.stage.service.is_some() {
            "a service has no outputs; write what it keeps into a volume".to_owned()
        } else {
            format!("add it to the `{what}s` of the stage")
        })
    }

    fn unknown_root(&self, name: &str, span: Span) -> Problem {
        let message = format!("`{}` is not known in expressions", short(name));
        let problem = Problem::new("unknown-name", span, message);
        if self.draft.params.contains_key(name) {
            return problem.help(format!("write `params.{name}`"));
        }
        if self.stage.matrix.contains_key(name) {
            return problem.help(format!("write `matrix.{name}`"));
        }
        let stages = self.draft.stages.keys().map(StageName::as_str);
        problem
            .suggest(nearest(name, ROOTS.into_iter().chain(stages)))
            .help_else(format!("name a stage, or one of {}; put text in quotes", ROOTS.join(", ")))
    }

    /// `params` of the stage and those its expressions name, without duplicates.
    pub(super) fn params(
        &self,
        reader: &mut Reader<'_>,
        references: &References,
    ) -> Vec<ParamName> {
        let mut params: IndexSet<&ParamName> = IndexSet::new();
        for name in &self.stage.params {
            match self.draft.params.get_key_value(name.value.as_str()) {
                Some((known, _)) => {
                    params.insert(known);
                }
                None => reader.unknown_param(self.draft, &name.value, name.span),
            }
        }
        params.extend(&references.params);
        params.into_iter().cloned().collect()
    }
}

/// A matrix without `pick` is many things, so none of them can be named.
pub(super) fn many(name: &StageName, span: Span) -> Problem {
    Problem::new(
        "matrix-without-pick",
        span,
        format!("stage `{name}` has a matrix and no `pick`, so this is many"),
    )
    .help(format!("add `pick: {{max: <metric>}}` to `{name}`, or only wait for it with `needs`"))
}

/// `x.metrics.n` and `x.values.n` of a stage that declares them and is one thing.
fn results(
    name: &StageName,
    stage: &DraftStage,
    rest: &[&str],
    path: &Spanned<Path>,
) -> Result<(), Box<Problem>> {
    let span = path.span;
    let wrong = |code, message: String, help: String| {
        Err(Box::new(Problem::new(code, span, message).help(help)))
    };
    if stage.broken {
        return Ok(());
    }
    let declared = match rest {
        ["metrics"] | ["metrics", _] => {
            stage.metrics.is_some() || stage.batch_keys.iter().any(|key| key.value == "metrics")
        }
        ["values"] | ["values", _] => {
            stage.values.is_some() || stage.batch_keys.iter().any(|key| key.value == "values")
        }
        ["outputs", output] => {
            return wrong(
                "unknown-name",
                format!("`{name}.outputs` is not known in expressions"),
                format!(
                    "write `inputs: {{{output}: {name}.{output}}}`, and here `inputs.{output}`"
                ),
            );
        }
        rest => {
            // With `live` or `live.<service>` before it, when that is there.
            let parts = &path.value.parts;
            let lead = parts[..parts.len() - rest.len()].join(".");
            return wrong(
                "unknown-name",
                format!("`{}` names neither metrics nor values", short(&path.value.dotted())),
                format!("write `{lead}.metrics.<name>` or `{lead}.values.<name>`"),
            );
        }
    };
    let kind = rest[0];
    if !declared {
        return wrong(
            "no-results",
            format!("stage `{name}` declares no `{kind}`"),
            format!("add `{kind}: {kind}.json` to `{name}`, and write that file there"),
        );
    }
    if stage.is_many() {
        return Err(Box::new(many(name, span)));
    }
    Ok(())
}
