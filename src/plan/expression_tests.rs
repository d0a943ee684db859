//! Keys, `when` and results of other stages through expressions.

use super::key::{KeyContext, Paths, ResolvedInputs, StageResult};
use super::show::word;
use super::testing::{World, context, name, pipeline, stage, task_id};
use super::{Graph, Verdict, why};
use crate::event::{Reason, Selection};
use crate::names::{StageName, TaskId};
use crate::scalar::Scalar;
use crate::spec::Template;
use crate::spec::expression::{Expression, Piece, References};
use crate::spec::pipeline::{Command, Pipeline};

fn expression(source: &str, results: &[&str]) -> Expression {
    let results: Vec<StageName> = results.iter().map(|stage| name(stage)).collect();
    Expression {
        source: source.to_owned(),
        references: References { results, ..References::default() },
    }
}

fn shell(before: &str, source: &str, results: &[&str]) -> Command {
    Command::Shell(Template(vec![
        Piece::Literal(before.to_owned()),
        Piece::Expression(expression(source, results)),
    ]))
}

fn with_param(value: &str) -> KeyContext {
    let mut context = context();
    context.params.insert(name("word"), Scalar::plain(value));
    context
}

fn words_of(pipeline: &Pipeline, world: &mut World, context: &KeyContext) -> Vec<&'static str> {
    world.plan(pipeline, context).verdicts.iter().map(word).collect()
}

#[test]
fn paths_are_marks_in_keys_and_real_when_executed() {
    let pipeline = pipeline([
        stage("prepare"),
        stage("train")
            .takes(&["prepare"])
            .with(|stage| stage.run = Some(shell("cat ", "inputs.prepare", &[]))),
    ]);
    let mut resolved = ResolvedInputs::default();
    let outputs = [(name("out"), crate::digest::Digest::of(b"data"))].into();
    resolved.stages.insert(name("prepare"), StageResult { outputs, ..StageResult::default() });
    let graph = Graph::new(&pipeline, &Selection::default());
    let task = &graph.tasks[1];
    let context = context();
    let parts = context.key_parts(&pipeline, task, &resolved).unwrap();

    let paths = |folder: &str| Paths {
        inputs: [("prepare".to_owned(), format!("{folder}/prepare.txt"))].into(),
        ..Paths::default()
    };
    let expand = |folder: &str| {
        context.expand(&pipeline, task, &resolved, &paths(folder)).unwrap().command[3].clone()
    };
    assert_eq!(expand("/runs/1"), "cat /runs/1/prepare.txt");
    assert_eq!(expand("/my runs"), "cat '/my runs/prepare.txt'");

    // A text that somebody wrote is not what a mark stands for, whatever it looks like.
    for written in
        ["cat '$FLOWRUN_INPUT_PREPARE'", "cat inputs.prepare", "cat '${{ inputs.prepare }}'"]
    {
        let mut other = pipeline.clone();
        other.stages.get_mut("train").unwrap().run =
            Some(Command::Shell(super::testing::literal(written)));
        let other = context.key_parts(&other, task, &resolved).unwrap();
        assert_ne!(other.key(), parts.key(), "{written}");
        let said = why::words(&super::verdict::reason(&parts, Some(&other)));
        assert!(!said.contains('\u{1a}'), "{said}");
    }
}

#[test]
fn a_param_in_a_command_is_part_of_its_key() {
    let pipeline = pipeline([stage("greet").with(|stage| {
        stage.run = Some(shell("echo ", "params.word", &[]));
        stage.params = vec![name("word")];
    })]);
    let mut world = World::default();
    world.run(&pipeline, &with_param("1.10"), &|_| None);
    let plan = world.plan(&pipeline, &with_param("it's"));
    let Verdict::Run { why, .. } = &plan.verdicts[0] else { panic!("{plan:?}") };
    assert_eq!(why::words(why), r"command: echo 1.10 → echo 'it'\''s', params.word: 1.10 → it's");
}

#[test]
fn when_skips_what_needs_it_as_soon_as_it_is_known() {
    let draw = |source: &str| {
        pipeline([
            stage("evaluate").pick_max("score"),
            stage("promote")
                .needs(&["evaluate"])
                .with(|stage| stage.when = vec![expression(source, &["evaluate"])]),
            stage("after").needs(&["promote"]),
        ])
    };
    let (good, bad) = (draw("evaluate.metrics.score > 0.8"), draw("evaluate.metrics.score > 0.95"));
    let score = |_: &TaskId| Some(0.9);
    let context = context();
    let mut world = World::default();
    assert_eq!(words_of(&good, &mut world, &context), ["run", "depends", "depends"]);
    world.run(&good, &context, &score);
    assert_eq!(words_of(&good, &mut world, &context), ["reuse", "reuse", "reuse"]);
    assert_eq!(words_of(&bad, &mut world, &context), ["reuse", "skip", "skip"]);

    let plan = world.plan(&draw("evaluate.metrics.scor > 1"), &context);
    let Verdict::Fail { why } = &plan.verdicts[1] else { panic!("{plan:?}") };
    assert!(why.contains("`scor`"), "{why}");
}

#[test]
fn a_when_over_params_is_known_before_anything_ran() {
    let pipeline = pipeline([
        stage("prepare"),
        stage("deploy")
            .takes(&["prepare"])
            .with(|stage| stage.when = vec![expression("params.word == 'yes'", &[])]),
    ]);
    let words = |word: &str| words_of(&pipeline, &mut World::default(), &with_param(word));
    assert_eq!(words("no"), ["run", "skip"]);
    assert_eq!(words("yes"), ["run", "depends"]);
}

#[test]
fn the_winners_metrics_reach_a_later_command() {
    let pipeline = pipeline([
        stage("train").matrix(&[("trees", &["1", "2", "3"])]).pick_max("score"),
        stage("report")
            .needs(&["train"])
            .with(|stage| stage.run = Some(shell("echo ", "train.metrics.score", &["train"]))),
    ]);
    let context = context();
    let mut world = World::default();
    world.run(&pipeline, &context, &|task| Some(f64::from(task.copy)));
    assert_eq!(world.history[&task_id("report", 1)].command[3], "echo 3");
    let Verdict::Reuse { key } = world.plan(&pipeline, &context).verdicts[0] else { panic!() };
    world.records.get_mut(&key).unwrap().metrics.insert("score".to_owned(), 4.0);
    let plan = world.plan(&pipeline, &context);
    assert!(matches!(&plan.verdicts[3], Verdict::Run { why: Reason::Changed(_), .. }), "{plan:?}");
}

#[test]
fn the_identity_of_a_run_does_not_reach_keys() {
    let pipeline = pipeline([stage("tag").with(|stage| {
        stage.run = Some(shell("echo ", "run.commit", &[]));
        stage.names_run_identity = true;
    })]);
    let graph = Graph::new(&pipeline, &Selection::default());
    let parts = |commit: &str| {
        let mut context = context();
        context.run.insert("commit".to_owned(), Scalar::plain(commit));
        let resolved = ResolvedInputs::default();
        let expanded =
            context.expand(&pipeline, &graph.tasks[0], &resolved, &Paths::default()).unwrap();
        assert_eq!(expanded.command[3], format!("echo {commit}"));
        context.key_parts(&pipeline, &graph.tasks[0], &resolved).unwrap()
    };
    assert_eq!(parts("abc"), parts("def"));
}
