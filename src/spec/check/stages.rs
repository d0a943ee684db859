//! One draft stage → [`Stage`]: defaults merged, names resolved, rules kept.

use indexmap::IndexMap;

use super::super::draft::{DraftDefaults, DraftStage};
use super::super::expression::References;
use super::super::pipeline::{
    Batch, Cache, Command, ContainerSpec, EnvironmentSpec, ReadyProbe, Stage, StageKind,
};
use super::super::problem::Problem;
use super::super::reader::Reader;
use super::super::template::DraftTemplate;
use super::super::yaml::short;
use super::super::{Expression, Template};
use super::edges::Edges;
use super::hooks::Role;
use super::inputs::inputs;
use super::names::{Named, Place, Site};
use super::{places, services};
use crate::names::StageName;
use crate::secret::SecretUse;

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
    let kind = match &stage.service {
        Some(service) => {
            StageKind::Service(Box::new(services::service(site, reader, service, &mut when_named)))
        }
        None => StageKind::Batch(batch(stage, defaults)),
    };
    let mut references = References::default();
    let templates = texts.command.iter().chain(ready_command(&kind)).flat_map(parts);
    for template in templates.chain(texts.args.iter().flatten()).chain(texts.env.values()) {
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
    let mut needs: Vec<StageName> = edges.of(name).map(|(needed, _)| needed.clone()).collect();
    needs.sort_by_key(|needed| draft.stages.get_index_of(needed));
    let written = stage.cache.as_ref().is_some_and(|cache| cache.value != Cache::Off);
    let has_service =
        |needed: &StageName| draft.stages.get(needed).is_some_and(|stage| stage.service.is_some());
    let uses_service = role == Some(Role::Verify) || !written && needs.iter().any(has_service);
    let params = site.params(reader, &references);
    let made = Stage {
        image: stage.own.image.as_ref().or(defaults.image.as_ref()).and_then(|i| i.value.clone()),
        pull: stage.own.pull.or(defaults.pull).unwrap_or_default(),
        container: container(stage, defaults),
        args: texts.args,
        secrets: secrets(stage, defaults),
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
    /// Only in stages without `run`.
    args: Option<Vec<Template>>,
    env: IndexMap<String, Template>,
}

fn texts(
    site: &Site<'_>,
    reader: &mut Reader<'_>,
    defaults: &DraftDefaults,
    named: &mut Named,
) -> Texts {
    let stage = site.stage;
    let command = stage.run.as_ref().map(|command| site.command(reader, command, named));
    let mut resolve = |text: &DraftTemplate| site.template(reader, text, named);
    let args = stage.args.as_ref().map(|args| args.value.iter().map(&mut resolve).collect());
    let mut merged: IndexMap<&String, &DraftTemplate> = defaults.env.iter().collect();
    // What a stage says of a variable beats what is said of it for all.
    merged.retain(|name, _| !stage.own.secrets.contains_key(*name));
    merged.extend(&stage.own.env);
    let env = merged.into_iter().map(|(name, text)| (name.clone(), resolve(text))).collect();
    twice(&stage.own, reader);
    Texts { command, args, env }
}

/// Reports variables that are given twice.
pub(super) fn twice(said: &DraftDefaults, reader: &mut Reader<'_>) {
    for (name, secret) in &said.secrets {
        if said.env.contains_key(name) {
            let message = format!("`{name}` stands in `env` and in `secrets`");
            reader.report(
                Problem::new("duplicate-key", secret.span, message).help("keep one of the two"),
            );
        }
    }
}

/// A program of an image is run as the image means it, unless the stage says otherwise.
fn container(stage: &DraftStage, defaults: &DraftDefaults) -> ContainerSpec {
    let said = stage.own.container.as_ref().or(defaults.container.as_ref());
    let said = said.cloned().unwrap_or_default();
    let images_own = !stage.has_run;
    ContainerSpec {
        image_user: said.image_user.unwrap_or(images_own),
        writable_root: said.writable_root.unwrap_or(images_own),
        no_network: said.no_network,
        capabilities: said.capabilities,
    }
}

fn secrets(stage: &DraftStage, defaults: &DraftDefaults) -> IndexMap<String, SecretUse> {
    let all = defaults.secrets.iter().filter(|(name, _)| !stage.own.env.contains_key(*name));
    let mut merged: IndexMap<_, _> = all.collect();
    merged.extend(&stage.own.secrets);
    merged.into_iter().map(|(name, secret)| (name.clone(), secret.value.clone())).collect()
}

/// `ready.run`
fn ready_command(kind: &StageKind) -> Option<&Command> {
    match kind {
        StageKind::Service(service) => match &service.ready {
            ReadyProbe::Run(command) => Some(command),
            ReadyProbe::Http(_) | ReadyProbe::Tcp => None,
        },
        StageKind::Batch(_) => None,
    }
}

fn parts(command: &Command) -> &[Template] {
    match command {
        Command::Shell(text) => std::slice::from_ref(text),
        Command::List(list) => list,
    }
}

/// Which keys go with a service, and which with a stage that ends.
fn kind_rules(site: &Site<'_>, reader: &mut Reader<'_>) {
    let Site { name, stage, .. } = *site;
    services::rules(site, reader);
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
    let own_image = stage.own.image.as_ref().map(|image| image.span);
    match (stage.has_run, stage.uses) {
        (true, Some(span)) => reader.report(
            Problem::new("run-and-uses", span, format!("stage `{name}` has both `run` and `uses`"))
                .help("keep one of the two"),
        ),
        (false, None) => match own_image {
            Some(span) => {
                let message = format!("stage `{name}` has no `run`: it needs `--runtime docker`");
                reader.only_in_containers(span, message, "use `--runtime docker`, or add `run`");
                without_run(stage, reader);
            }
            None => reader.report(
                Problem::new(
                    "missing-run",
                    stage.span,
                    format!("stage `{name}` does not say what to run"),
                )
                .help("add `run: …`, or an `image` whose own program runs"),
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

/// The image's own program has no environment of ours.
fn without_run(stage: &DraftStage, reader: &mut Reader<'_>) {
    for key in &stage.run_keys {
        let message = format!("`{}` goes with `run`, not with an image's own program", key.value);
        reader.report(Problem::new("needs-run", key.span, message).help("remove it, or add `run`"));
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
