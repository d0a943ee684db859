//! One draft stage → [`Stage`]: defaults merged, names resolved, rules kept.

use indexmap::IndexMap;

use super::super::draft::{DraftCommand, DraftDefaults, DraftInput, DraftStage};
use super::super::expression::References;
use super::super::pipeline::{Batch, Cache, Command, EnvironmentSpec, Input, Stage, StageKind};
use super::super::problem::{Problem, Span, nearest};
use super::super::reader::Reader;
use super::super::template::DraftTemplate;
use super::super::yaml::short;
use super::super::{Expression, Template};
use super::edges::Edges;
use super::hooks::Role;
use super::names::{Named, Place, Site, many};
use super::places;
use crate::names::{InputName, OutputName, StageName};

/// The checked stage; its edges go into `edges`.
pub(super) fn stage(site: &Site<'_>, reader: &mut Reader<'_>, edges: &mut Edges) -> Stage {
    let Site { draft, name, stage, .. } = *site;
    kind_rules(site, reader);
    run_rules(site, reader);
    places::check(stage, reader);
    // A stage that only is an image says everything itself.
    let none = DraftDefaults::default();
    let image_only = !stage.has_run && stage.own.image.is_some();
    let defaults = if image_only { &none } else { &draft.defaults };

    let mut named = Named::default();
    let mut when_named = Named::default();
    let inputs = inputs(site, reader, &mut named);
    let when: Vec<Expression> = stage
        .when
        .iter()
        .map(|when| site.expression(reader, when, Place::When, &mut when_named))
        .collect();
    let texts = texts(site, reader, defaults, &mut named);
    if let Some(service) = &stage.service {
        for gate in &service.gate {
            site.expression(reader, gate, Place::Gate, &mut when_named);
        }
        for ready in &service.ready {
            site.template(reader, ready, &mut when_named);
        }
    }
    let mut references = References::default();
    let templates =
        texts.command.iter().flat_map(parts).chain(&texts.args).chain(texts.env.values());
    for template in templates {
        references.add(&template.references());
    }
    let names_run_identity = references.run_identity;
    for when in &when {
        references.add(&when.references);
    }

    for need in &stage.needs {
        if let Some((needed, _)) = site.needed(reader, &need.value, need.span) {
            edges.add(name, needed, need.span);
        }
    }
    for (needed, span) in named.needs.iter().chain(&when_named.needs) {
        edges.add(name, needed, *span);
    }
    let role = site.hooks.get(name).copied();
    if role == Some(Role::Verify) {
        no_need_of_its_service(site, reader, edges);
    }

    let mut needs: Vec<StageName> = edges.of(name).map(|(needed, _)| needed.clone()).collect();
    needs.sort_by_key(|needed| draft.stages.get_index_of(needed));
    let written = stage.cache.as_ref().is_some_and(|cache| cache.value != Cache::Off);
    let has_service =
        |needed: &StageName| draft.stages.get(needed).is_some_and(|stage| stage.service.is_some());
    let uses_service = !written && needs.iter().any(has_service);
    let params = site.params(reader, &references);
    let kind = if stage.service.is_some() {
        StageKind::Service
    } else {
        StageKind::Batch(batch(stage, defaults))
    };
    let made = Stage {
        name: name.clone(),
        needs,
        when,
        run: texts.command,
        inputs,
        params,
        files: stage.files.clone(),
        workdir: stage.workdir.clone().unwrap_or_else(|| ".".to_owned()),
        env: texts.env,
        environment: EnvironmentSpec {
            python: stage.own.python.clone().or_else(|| defaults.python.clone()),
            requirements: stage
                .own
                .requirements
                .clone()
                .or_else(|| defaults.requirements.clone())
                .unwrap_or_default(),
            requirements_file: stage
                .own
                .requirements_file
                .clone()
                .or_else(|| defaults.requirements_file.clone()),
        },
        resources: stage
            .own
            .resources
            .clone()
            .or_else(|| defaults.resources.clone())
            .unwrap_or_default(),
        kind,
        outside_dag: role.is_some(),
        names_run_identity,
        uses_service,
    };
    warn_of_run_identity(reader, &made, &named);
    made
}

fn batch(stage: &DraftStage, defaults: &DraftDefaults) -> Batch {
    let path = |path: &super::super::reader::Spanned<String>| path.value.clone();
    Batch {
        outputs: stage.outputs.iter().map(|(name, to)| (name.clone(), path(to))).collect(),
        metrics: stage.metrics.as_ref().map(path),
        values: stage.values.as_ref().map(path),
        matrix: stage.matrix.clone(),
        pick: stage.pick.as_ref().map(|pick| pick.value.clone()),
        cache: stage.cache.as_ref().map_or(Cache::On, |cache| cache.value),
        retries: stage.own.retries.clone().or_else(|| defaults.retries.clone()).unwrap_or_default(),
        timeout: stage.own.timeout.or(defaults.timeout),
    }
}

/// What is executed, with its names resolved.
struct Texts {
    command: Option<Command>,
    /// Only in stages without `run`, which are not available yet.
    args: Vec<Template>,
    env: IndexMap<String, Template>,
}

fn texts(
    site: &Site<'_>,
    reader: &mut Reader<'_>,
    defaults: &DraftDefaults,
    named: &mut Named,
) -> Texts {
    let stage = site.stage;
    let mut resolve = |text: &DraftTemplate| site.template(reader, text, named);
    let command = stage.run.as_ref().map(|command| match command {
        DraftCommand::Shell(text) => Command::Shell(resolve(text)),
        DraftCommand::List(list) => Command::List(list.iter().map(&mut resolve).collect()),
    });
    let args = stage.args.iter().flat_map(|args| &args.value).map(&mut resolve).collect();
    let mut merged: IndexMap<&String, &DraftTemplate> = defaults.env.iter().collect();
    merged.extend(&stage.own.env);
    let env = merged.into_iter().map(|(name, text)| (name.clone(), resolve(text))).collect();
    for (name, span) in &stage.own.secrets {
        if stage.own.env.contains_key(name) {
            let message = format!("`{name}` stands in `env` and in `secrets`");
            reader
                .report(Problem::new("duplicate-key", *span, message).help("keep one of the two"));
        }
    }
    Texts { command, args, env }
}

fn parts(command: &Command) -> &[Template] {
    match command {
        Command::Shell(text) => std::slice::from_ref(text),
        Command::List(list) => list,
    }
}

fn inputs(
    site: &Site<'_>,
    reader: &mut Reader<'_>,
    named: &mut Named,
) -> IndexMap<InputName, Input> {
    let mut inputs = IndexMap::new();
    for (name, input) in &site.stage.inputs {
        let span = input.span;
        let resolved = match &input.value {
            DraftInput::Url => Some(Input::Later),
            DraftInput::Live { service, input } => {
                live_input(site, reader, service, input, span);
                Some(Input::Later)
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

fn live_input(site: &Site<'_>, reader: &mut Reader<'_>, service: &str, input: &str, span: Span) {
    use super::names::find_stage;
    let Some((name, stage)) = find_stage(site.draft, reader, service, span) else { return };
    if stage.broken {
        return;
    }
    let problem = if stage.service.is_none() {
        Problem::new("unknown-name", span, format!("stage `{name}` is no service"))
            .help("name a stage with a `service` key")
    } else if !stage.inputs.contains_key(input) && !stage.may_have(input) {
        let near = nearest(input, stage.inputs.keys().map(InputName::as_str));
        Problem::new(
            "unknown-name",
            span,
            format!("service `{name}` has no input `{}`", short(input)),
        )
        .suggest(near)
        .help_else("name an input of the service")
    } else {
        return;
    };
    reader.report(problem);
}

/// Which keys go with a service, and which with a stage that ends.
fn kind_rules(site: &Site<'_>, reader: &mut Reader<'_>) {
    let Site { draft, name, stage, .. } = *site;
    match &stage.service {
        Some(service) => {
            for key in &stage.batch_keys {
                let message = format!("`{}` does not go with `service`", key.value);
                reader.report(
                    Problem::new("not-for-services", key.span, message)
                        .help("remove it, or move it to a stage that ends"),
                );
            }
            if let (Some(_), Some(replicas)) = (&stage.volumes, &service.replicas)
                && replicas.value > 1
            {
                reader.report(
                    Problem::new(
                        "volume-of-many",
                        replicas.span,
                        "a service with `volumes` has one replica",
                    )
                    .help("write `replicas: 1`, or remove `volumes`"),
                );
            }
        }
        None => {
            if let Some(volumes) = &stage.volumes {
                reader.report(
                    Problem::new(
                        "for-services",
                        volumes.span,
                        "`volumes` goes with `service` only",
                    )
                    .help("write outputs instead, or add a `service` key"),
                );
            }
        }
    }
    for volume in stage.volumes.iter().flat_map(|volumes| &volumes.value) {
        if !draft.volumes.contains(&volume.value) {
            let message = format!("there is no volume `{}`", short(&volume.value));
            let near = nearest(&volume.value, draft.volumes.iter().map(String::as_str));
            let problem = Problem::new("unknown-volume", volume.span, message).suggest(near);
            reader.report(problem.help_else("declare it under `volumes` at the top of the file"));
        }
    }
    if stage.has_pick && stage.matrix_span.is_none() {
        let span = stage.pick.as_ref().map_or(stage.span, |pick| pick.span);
        reader.report(
            Problem::new("pick-without-matrix", span, "`pick` needs a `matrix` to pick from")
                .help("remove it, or add `matrix`"),
        );
    }
    let has_metrics = stage.batch_keys.iter().any(|key| key.value == "metrics");
    if let Some(pick) = stage.pick.as_ref().filter(|_| !has_metrics) {
        let message = format!(
            "`pick` needs the metric `{}`, and `{name}` declares no `metrics`",
            short(&pick.value.metric)
        );
        reader.report(
            Problem::new("pick-without-metrics", pick.span, message)
                .help("add `metrics: metrics.json`, and write that file in the stage"),
        );
    }
}

/// Something must be executed, and one thing only.
fn run_rules(site: &Site<'_>, reader: &mut Reader<'_>) {
    let Site { name, stage, .. } = *site;
    let own_image = stage.own.image.or(stage.own.build);
    match (stage.has_run, stage.uses) {
        (true, Some(span)) => reader.report(
            Problem::new("run-and-uses", span, format!("stage `{name}` has both `run` and `uses`"))
                .help("keep one of the two"),
        ),
        (false, None) => match own_image {
            Some(span) => reader.unavailable.push(
                Problem::new(
                    "not-available",
                    span,
                    "a stage without `run` needs --runtime docker, which is not available yet",
                )
                .help("add `run` to run this pipeline")
                .label("not available yet"),
            ),
            None => reader.report(
                Problem::new(
                    "missing-run",
                    stage.span,
                    format!("stage `{name}` does not say what to run"),
                )
                .help("add `run: …`"),
            ),
        },
        _ => {}
    }
    if let Some(args) = stage.args.as_ref().filter(|_| stage.has_run) {
        reader.report(
            Problem::new(
                "args-with-run",
                args.span,
                "`args` goes with an image's own program, not with `run`",
            )
            .help("write the arguments in `run`"),
        );
    }
}

/// A `verify` stage runs in the midst of its service's rollout: waiting for the service would never end.
fn no_need_of_its_service(site: &Site<'_>, reader: &mut Reader<'_>, edges: &Edges) {
    for (service, span) in edges.of(site.name) {
        let stage = site.draft.stages.get(service).and_then(|stage| stage.service.as_ref());
        let verify = stage.and_then(|service| service.verify.as_ref());
        if verify.is_some_and(|verify| verify.value == site.name.as_str()) {
            let message = format!("stage `{}` verifies `{service}` and cannot need it", site.name);
            reader.report(Problem::new("verify-needs-service", *span, message).help(format!(
                "read the candidate's address from `$FLOWRUN_SERVICE_{}_URL`",
                service.variable()
            )));
        }
    }
}

fn warn_of_run_identity(reader: &mut Reader<'_>, stage: &Stage, named: &Named) {
    use crate::event::NotCached;
    if stage.not_cached() != Some(NotCached::NamesRun) {
        return;
    }
    for path in &named.run_identity {
        let message =
            format!("`{}` makes stage `{}` run anew in every run", path.value, stage.name);
        let variable = path.value.to_ascii_uppercase().replace('.', "_");
        reader.warn(Problem::new("runs-every-time", path.span, message).help(format!(
            "read `$FLOWRUN_{variable}` in the program if its results do not depend on it"
        )));
    }
}
