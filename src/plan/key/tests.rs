use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::event::Selection;
use crate::plan::Graph;
use crate::plan::testing::{context, files, literal, name, pipeline, stage};
use crate::spec::pipeline::{Batch, Cache, Command, Pick, Retries, StageKind};

struct Case {
    pipeline: Pipeline,
    context: KeyContext,
    resolved: ResolvedInputs,
}

impl Case {
    fn new() -> Self {
        let pipeline = pipeline([
            stage("prepare"),
            stage("train").takes(&["prepare"]).matrix(&[("trees", &["50", "100"])]).with(|stage| {
                stage.params = vec![name("seed")];
                stage.env.insert("THREADS".to_owned(), literal("2"));
            }),
        ]);
        let mut context = context();
        context.params.insert(name("seed"), Scalar::plain("7"));
        context.params.insert(name("other"), Scalar::plain("1"));
        context.run.insert("id".to_owned(), Scalar::plain("one"));
        context
            .environments
            .insert(name("train"), (Digest::of(b"python"), "linux/amd64 3.12.1".to_owned()));
        let mut resolved = ResolvedInputs::default();
        let result = StageResult {
            outputs: [(name("out"), Digest::of(b"data"))].into(),
            ..StageResult::default()
        };
        resolved.stages.insert(name("prepare"), result);
        Self { pipeline, context, resolved }
    }

    fn stage(&mut self) -> &mut Stage {
        self.pipeline.stages.get_mut("train").unwrap()
    }

    fn batch(&mut self) -> &mut Batch {
        match &mut self.stage().kind {
            StageKind::Batch(batch) => batch,
            StageKind::Service(_) => unreachable!("train is a batch stage"),
        }
    }

    fn parts(&self) -> KeyParts {
        let graph = Graph::new(&self.pipeline, &Selection::default());
        let task = &graph.tasks[1];
        self.context.key_parts(&self.pipeline, task, &self.resolved).unwrap()
    }
}

type Change = fn(&mut Case);

#[test]
fn each_thing_that_decides_the_result_changes_the_key() {
    let cases: &[(&str, Change)] = &[
        ("command", |case| {
            case.stage().run = Some(Command::Shell(literal("make it better")));
        }),
        ("list instead of shell", |case| {
            case.stage().run = Some(Command::List(vec![literal("make train")]));
        }),
        ("value of a variable", |case| {
            case.stage().env.insert("THREADS".to_owned(), literal("4"));
        }),
        ("another variable", |case| {
            case.stage().env.insert("MORE".to_owned(), literal(""));
        }),
        ("environment", |case| {
            case.context.environments.get_mut("train").unwrap().0 = Digest::of(b"other");
        }),
        ("platform", |case| {
            case.context.environments.get_mut("train").unwrap().1 = "macos".to_owned();
        }),
        ("content of a file", |case| {
            let mut changed = (*case.context.files).clone();
            changed[1].blob = "0".repeat(40);
            case.context.files = Arc::new(changed);
        }),
        ("files it sees", |case| {
            case.stage().files = Some(Vec::new());
        }),
        ("input digest", |case| {
            let result = case.resolved.stages.get_mut("prepare").unwrap();
            result.outputs.insert(name("out"), Digest::of(b"new data"));
        }),
        ("input path", |case| {
            for input in case.stage().inputs.values_mut() {
                if let Input::Output { path, .. } = input {
                    *path = Some("prepare.txt".to_owned());
                }
            }
        }),
        ("input name", |case| {
            let (_, input) = case.stage().inputs.pop().unwrap();
            case.stage().inputs.insert(name("renamed"), input);
        }),
        ("file name of the input", |case| {
            if let StageKind::Batch(batch) = &mut case.pipeline.stages[0].kind {
                batch.outputs.insert(name("out"), "data/renamed.txt".to_owned());
            }
        }),
        ("value of a named param", |case| {
            case.context.params.insert(name("seed"), Scalar::plain("8"));
        }),
        ("spelling of a named param", |case| {
            case.context.params.insert(name("seed"), Scalar::plain("7.0"));
        }),
        ("another named param", |case| {
            case.stage().params.push(name("other"));
        }),
        ("matrix value", |case| {
            case.batch().matrix.insert(name("trees"), vec![Scalar::plain("51")]);
        }),
        ("output path", |case| {
            case.batch().outputs.insert(name("out"), "elsewhere".to_owned());
        }),
        ("output name", |case| {
            case.batch().outputs.insert(name("more"), "more".to_owned());
        }),
        ("metrics", |case| case.batch().metrics = Some("m.json".to_owned())),
        ("values", |case| case.batch().values = Some("v.json".to_owned())),
        ("workdir", |case| case.stage().workdir = "sub".to_owned()),
    ];
    let usual = Case::new().parts().key();
    let mut keys = vec![usual];
    for (what, change) in cases {
        let mut case = Case::new();
        change(&mut case);
        let key = case.parts().key();
        assert!(
            !keys.contains(&key),
            "{what} must change the key, and not to that of another case"
        );
        keys.push(key);
    }
}

#[test]
fn what_does_not_decide_the_result_is_not_in_the_key() {
    let cases: &[(&str, Change)] = &[
        ("stage name", |case| {
            let (_, mut stage) = case.pipeline.stages.pop().unwrap();
            stage.name = name("renamed");
            let environment = case.context.environments[&name::<StageName>("train")].clone();
            case.context.environments.insert(stage.name.clone(), environment);
            case.pipeline.stages.insert(stage.name.clone(), stage);
        }),
        ("pipeline name", |case| case.pipeline.name = name("renamed")),
        ("timeouts", |case| {
            case.batch().timeout = Some(Duration::from_secs(1));
            case.pipeline.timeout = Some(Duration::from_secs(1));
        }),
        ("retries", |case| {
            case.batch().retries = Retries { max: 3, ..Retries::default() };
        }),
        ("resources", |case| case.stage().resources.cpu = Some(2.0)),
        ("cache", |case| case.batch().cache = Cache::Only),
        ("pick", |case| {
            case.batch().pick = Some(Pick { metric: "score".to_owned(), largest: true });
        }),
        ("when", |case| case.stage().when.push(crate::plan::testing::naming("prepare"))),
        ("a param it does not name", |case| {
            case.context.params.insert(name("other"), Scalar::plain("2"));
        }),
        ("run identity", |case| {
            case.context.run.insert("id".to_owned(), Scalar::plain("two"));
        }),
        ("a file outside the base", |case| {
            case.context.files = Arc::new(
                case.context
                    .files
                    .iter()
                    .cloned()
                    .map(|file| SourceFile { path: format!("ml/{}", file.path), ..file })
                    .chain(files(&["zoo"]).iter().cloned())
                    .collect(),
            );
            case.context.base = "ml".to_owned();
        }),
        ("the pipeline file", |case| {
            let mut changed = (*case.context.files).clone();
            changed[0].blob = "0".repeat(40);
            case.context.files = Arc::new(changed);
        }),
        ("what else a needed stage gave", |case| {
            let result = case.resolved.stages.get_mut("prepare").unwrap();
            result.metrics.insert("rows".to_owned(), 5.0);
            result.outputs.insert(name("unused"), Digest::of(b"x"));
        }),
    ];
    let usual = Case::new().parts();
    for (what, change) in cases {
        let mut case = Case::new();
        change(&mut case);
        assert_eq!(case.parts(), usual, "{what} must not change the key");
    }
}

#[test]
fn the_copies_of_a_matrix_have_keys_of_their_own() {
    let case = Case::new();
    let graph = Graph::new(&case.pipeline, &Selection::default());
    let key = |index: usize| {
        case.context.key_parts(&case.pipeline, &graph.tasks[index], &case.resolved).unwrap().key()
    };
    assert_ne!(key(1), key(2));
}

#[test]
fn a_shell_text_goes_through_sh_and_inputs_keep_their_names() {
    let mut case = Case::new();
    let parts = case.parts();
    assert_eq!(parts.command, ["sh", "-e", "-c", "make train"]);
    assert_eq!(parts.inputs[&name::<InputName>("prepare")].path, "prepare.txt");
    for input in case.stage().inputs.values_mut() {
        if let Input::Output { path, .. } = input {
            *path = Some("prepare.txt".to_owned());
        }
    }
    let placed = case.parts();
    assert_eq!(placed.inputs[&name::<InputName>("prepare")].path, "./prepare.txt");
}

#[test]
fn an_input_that_nobody_gave_has_no_key() {
    let mut case = Case::new();
    case.resolved.stages.clear();
    let graph = Graph::new(&case.pipeline, &Selection::default());
    let error =
        case.context.key_parts(&case.pipeline, &graph.tasks[1], &case.resolved).unwrap_err();
    assert!(error.to_string().contains("stage `prepare` gave no output `out`"), "{error}");
}

#[test]
fn plain_texts_expand_as_they_are() {
    let case = Case::new();
    let graph = Graph::new(&case.pipeline, &Selection::default());
    let expanded = case
        .context
        .expand(&case.pipeline, &graph.tasks[1], &case.resolved, &Paths::default())
        .unwrap();
    assert_eq!(expanded.command, ["sh", "-e", "-c", "make train"]);
    assert_eq!(expanded.env, BTreeMap::from([("THREADS".to_owned(), "2".to_owned())]));
}

#[test]
fn a_stage_sees_the_files_its_globs_name() {
    let mut case = Case::new();
    case.stage().files = Some(vec!["*.py".to_owned()]);
    let seen = case.context.stage_files(&case.pipeline, &name("train"));
    assert_eq!(seen.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["train.py"]);
}
