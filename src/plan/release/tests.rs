use std::time::Duration;

use super::*;
use crate::digest::Digest;
use crate::event::{FieldChange, InputPart, Selection};
use crate::names::StageName;
use crate::plan::testing::{context, name, read};
use crate::plan::{Graph, why};
use crate::release::testing::{behaviour, release};
use crate::release::{Alive, Release};

const IRIS: &str = r#"
version: "2"
name: iris
params: {seed: 7, other: 1}
volumes: {data: {}}
stages:
  train: {run: make, outputs: {model: model/}, metrics: m.json}
  evaluate:
    run: judge ${{ inputs.current if inputs.current else 'nothing' }}
    inputs: {model: train.model, current: {live: serve.model, optional: true}}
    metrics: m.json
  store:
    run: store
    service: {port: 8002}
  smoke: {run: "smoke ${{ services.serve.url }}"}
  serve:
    run: serve --model ${{ inputs.model }} --port ${{ port }} --store ${{ services.store.url }} ${{ params.seed }}
    inputs: {model: train.model}
    env: {COMMIT: "${{ run.commit }}"}
    service:
      port: 8000
      replicas: 2
      route: /iris
      ready: {run: ["ask", "${{ port }}"], within: 90s}
      verify: smoke
      gate:
        - ${{ evaluate.metrics.accuracy >= 0.5 + 0 * params.seed }}
        - ${{ not live or evaluate.metrics.accuracy >= live.evaluate.metrics.accuracy }}
"#;

struct Case {
    pipeline: Pipeline,
    context: KeyContext,
    resolved: ResolvedInputs,
}

impl Case {
    fn new() -> Self {
        Self::of(IRIS)
    }

    fn of(text: &str) -> Self {
        let pipeline = read(text);
        let mut context = context();
        context.service_urls = BTreeMap::from([
            (name("store"), "http://127.0.0.1:8002".to_owned()),
            (name("serve"), "http://127.0.0.1:8000".to_owned()),
        ]);
        for (param, declared) in &pipeline.params {
            context.params.insert(param.clone(), declared.default.clone());
        }
        context.run.insert("id".to_owned(), Scalar::plain("one"));
        context.run.insert("commit".to_owned(), Scalar::plain("abc"));
        let mut resolved = ResolvedInputs::default();
        let train = resolved.stages.entry(name("train")).or_default();
        train.outputs.insert(name("model"), Digest::of(b"model"));
        let mut case = Self { pipeline, context, resolved };
        case.accuracy(0.91);
        case
    }

    fn accuracy(&mut self, accuracy: f64) {
        let evaluate = self.resolved.stages.entry(name("evaluate")).or_default();
        evaluate.metrics.insert("accuracy".to_owned(), accuracy);
    }

    fn task(&self, stage: &str) -> PlannedTask {
        let graph = Graph::new(&self.pipeline, &Selection::default());
        let index = graph.copies(&name::<StageName>(stage)).start;
        graph.tasks[index].clone()
    }

    fn behaviour(&self) -> Behaviour {
        self.context.behaviour(&self.pipeline, &self.task("serve"), &self.resolved).unwrap()
    }

    fn gate(&self) -> Result<GateAnswer, EvalError> {
        self.context.gate(&self.pipeline, &self.task("serve"), &self.resolved)
    }

    fn go_live(&mut self, change: impl FnOnce(&mut Release)) {
        let mut live = release(3);
        live.behaviour = self.behaviour();
        live.notes.metrics = [(name("evaluate"), [("accuracy".to_owned(), 0.94)].into())].into();
        change(&mut live);
        self.resolved.live.insert(name("serve"), live);
    }
}

#[test]
fn a_behaviour_has_marks_for_what_differs_from_start_to_start() {
    let behaviour = Case::new().behaviour();
    let values = [("inputs.model", "/m"), ("port", "4242"), ("run.commit", "def")];
    let values = values.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert_eq!(
        marks::fill_command(&behaviour.command, &values).unwrap(),
        ["sh", "-e", "-c", "serve --model /m --port 4242 --store http://127.0.0.1:8002 7"]
    );
    assert_eq!(marks::fill(&behaviour.env["COMMIT"], &values).unwrap(), "def");
    let Probe::Run(ready) = &behaviour.serving.ready.probe else { panic!("{behaviour:?}") };
    assert_eq!(marks::fill_command(ready, &values).unwrap(), ["ask", "4242"]);
    assert_eq!(behaviour.serving.ready.within, Duration::from_secs(90));
    assert_eq!(
        behaviour.inputs[&name::<crate::names::InputName>("model")],
        InputPart { digest: Digest::of(b"model"), path: "model".to_owned() }
    );
    assert_eq!(behaviour.params, [(name("seed"), Scalar::plain("7"))].into());
    assert_eq!(
        behaviour.services,
        [(name("store"), "http://127.0.0.1:8002".to_owned())].into(),
        "only those it needs, not itself"
    );
}

#[test]
fn notes_do_not_change_the_digest_and_what_it_sees_does() {
    let digest = |case: &Case| case.behaviour().digest();
    let usual = digest(&Case::new());
    let mut same = Case::of(
        &IRIS
            .replace("replicas: 2", "replicas: 3")
            .replace("route: /iris", "route: /other")
            .replace("0.5 + 0 * params.seed", "0.8 + 0 * params.other")
            .replace("      verify: smoke\n", "")
            .replace("serve:\n    run", "serve:\n    when: ${{ params.seed == 7 }}\n    run"),
    );
    same.context.run.insert("id".to_owned(), Scalar::plain("two"));
    same.context.run.insert("commit".to_owned(), Scalar::plain("def"));
    same.context.params.insert(name("other"), Scalar::plain("2"));
    same.accuracy(0.1);
    assert_eq!(release_changes(&Case::new().behaviour(), &same.behaviour()), []);
    assert_eq!(digest(&same), usual);

    for (was, is) in [
        ("within: 90s", "within: 91s"),
        ("port: 8000", "port: 8001"),
        ("[\"ask\"", "[\"beg\""),
        ("serve --model", "serve -v --model"),
        ("{COMMIT:", "{MORE: '1', COMMIT:"),
        ("replicas: 2", "drain: 21s"),
        ("service:\n      port: 8000", "resources: {cpu: 1}\n    service:\n      port: 8000"),
    ] {
        assert_ne!(digest(&Case::of(&IRIS.replace(was, is))), usual, "{is}");
    }
    let mut other = Case::new();
    other.context.params.insert(name("seed"), Scalar::plain("8"));
    assert_ne!(digest(&other), usual);
    let other = Case {
        context: Case::new().context.with_candidate(&name("store"), "http://x"),
        ..Case::new()
    };
    assert_ne!(digest(&other), usual);
}

#[test]
fn a_gate_passes_when_nothing_is_live_and_compares_with_what_is() {
    let mut case = Case::new();
    assert_eq!(
        case.gate().unwrap(),
        GateAnswer {
            passed: true,
            failed: None,
            values: [
                ("evaluate.metrics.accuracy".to_owned(), Some(Scalar::plain("0.91"))),
                ("live".to_owned(), None),
                ("live.evaluate.metrics.accuracy".to_owned(), None),
                ("params.seed".to_owned(), Some(Scalar::plain("7"))),
            ]
            .into(),
        }
    );
    case.go_live(|_| {});
    let worse = case.gate().unwrap();
    assert!(!worse.passed);
    assert_eq!(
        crate::plan::rollout_words::gate_words(worse.failed.as_deref(), &worse.values),
        "the gate `not live or evaluate.metrics.accuracy >= live.evaluate.metrics.accuracy` is false: \
         evaluate.metrics.accuracy = 0.91, live.evaluate.metrics.accuracy = 0.94"
    );
    case.accuracy(0.94);
    assert!(case.gate().unwrap().passed);
    case.accuracy(0.4);
    assert_eq!(
        case.gate().unwrap().failed.as_deref(),
        Some("evaluate.metrics.accuracy >= 0.5 + 0 * params.seed"),
        "the first that is false"
    );
}

#[test]
fn a_gate_over_what_the_live_release_lacks_or_over_a_number_is_an_error() {
    let mut case = Case::new();
    case.go_live(|live| live.notes.metrics.clear());
    let error = case.gate().unwrap_err();
    assert!(error.why.contains("`live.evaluate.metrics.accuracy` is none"), "{error}");
    let mut lenient = Case::of(&IRIS.replace("not live", "live.evaluate.metrics.accuracy is none"));
    lenient.go_live(|live| live.notes.metrics.clear());
    assert!(lenient.gate().unwrap().passed);
    let number = Case::of(&IRIS.replace(">= 0.5 + 0 * params.seed", "+ params.seed"));
    assert!(number.gate().unwrap_err().why.contains("must be true or false"));
}

#[test]
fn a_live_input_is_the_one_of_the_live_release() {
    let mut case = Case::new();
    let key = |case: &Case| {
        case.context.key_parts(&case.pipeline, &case.task("evaluate"), &case.resolved)
    };
    let before = key(&case).unwrap();
    assert!(!before.inputs.contains_key("current"));
    assert_eq!(before.command[3], "judge nothing");

    case.go_live(|live| {
        let part = InputPart { digest: Digest::of(b"old"), path: "./models/model.onnx".to_owned() };
        live.behaviour.inputs.insert(name("model"), part);
    });
    let after = key(&case).unwrap();
    let current = &after.inputs[&name::<crate::names::InputName>("current")];
    assert_eq!(current, &InputPart { digest: Digest::of(b"old"), path: "model.onnx".to_owned() });
    assert_ne!(after.key(), before.key());
    let changes = why::changes(&before, &after);
    assert!(changes.iter().any(|change| change.field == "inputs.current"), "{changes:?}");
    let paths = Paths {
        inputs: [("current".to_owned(), "/in/model.onnx".to_owned())].into(),
        ..Paths::default()
    };
    let expand = |case: &Case, paths: &Paths| {
        let task = case.task("evaluate");
        case.context.expand(&case.pipeline, &task, &case.resolved, paths).unwrap().command.pop()
    };
    assert_eq!(expand(&case, &paths).as_deref(), Some("judge /in/model.onnx"));
    assert_eq!(expand(&Case::new(), &Paths::default()).as_deref(), Some("judge nothing"));
}

#[test]
fn a_live_input_that_is_not_optional_needs_something_live() {
    let mut case = Case::of(&IRIS.replace(", optional: true", ""));
    let key = |case: &Case| {
        let task = case.task("evaluate");
        case.context.key_parts(&case.pipeline, &task, &case.resolved).unwrap_err().to_string()
    };
    assert_eq!(
        key(&case),
        "`${{ inputs.current }}`: nothing is live yet of `serve`; add `optional: true`"
    );
    case.go_live(|live| live.behaviour.inputs.clear());
    assert_eq!(
        key(&case),
        "`${{ inputs.current }}`: the live release `serve@3` has no input `model`; add `optional: true`"
    );
}

#[test]
fn other_stages_name_live_releases_by_service_and_services_by_address() {
    let mut case = Case::of(
        r#"
version: "2"
name: p
stages:
  train: {run: make, values: v.json}
  evaluate: {run: make, metrics: m.json}
  serve: {run: serve, service: {port: 8000}}
  report:
    run: report ${{ live.serve.evaluate.metrics.accuracy }} ${{ live.serve.train.values.best }} ${{ services.serve.url }}
    metrics: m.json
    cache: true
"#,
    );
    let text = |case: &Case| {
        let task = case.task("report");
        case.context
            .key_parts(&case.pipeline, &task, &case.resolved)
            .map(|parts| parts.command[3].clone())
    };
    assert!(text(&case).unwrap_err().why.contains("none"), "nothing is live");
    case.go_live(|live| {
        live.notes.values =
            [(name("train"), [("best".to_owned(), Scalar::plain("1.10"))].into())].into();
    });
    assert_eq!(text(&case).unwrap(), "report 0.94 1.10 http://127.0.0.1:8000");
}

#[test]
fn a_verify_stage_reaches_the_candidate() {
    let case = Case::new();
    let task = case.task("smoke");
    let candidate = case.context.with_candidate(&name("serve"), "http://127.0.0.1:4242");
    let text = |context: &KeyContext| {
        let resolved = ResolvedInputs::default();
        context.expand(&case.pipeline, &task, &resolved, &Paths::default()).unwrap().command.pop()
    };
    assert_eq!(text(&candidate).as_deref(), Some("smoke http://127.0.0.1:4242"));
    assert_eq!(text(&case.context).as_deref(), Some("smoke http://127.0.0.1:8000"));
}

type Change<'a> = &'a dyn Fn(&mut Behaviour);

#[test]
fn every_part_of_a_behaviour_is_told_when_it_changes() {
    type Change = fn(&mut Behaviour);
    let cases: [(&str, Change); 27] = [
        ("flowrun's own format changed", |is| is.format += 1),
        ("command: python serve.py → python other.py", |is| {
            is.command[1] = "other.py".to_owned();
        }),
        ("env.A: 1 is new", |is| drop(is.env.insert("A".to_owned(), "1".to_owned()))),
        ("its environment changed", |is| is.environment = Digest::of(b"x")),
        ("platform: linux/x86_64 3.12.1 → x", |is| is.platform = "x".to_owned()),
        ("its files changed", |is| is.files = Digest::of(b"x")),
        ("inputs.model: b3:83d9dab0… is new", |is| {
            let part = InputPart { digest: Digest::of(b"m"), path: "m".to_owned() };
            is.inputs.insert(name("model"), part);
        }),
        ("params.seed: 8 is new", |is| drop(is.params.insert(name("seed"), Scalar::plain("8")))),
        ("workdir: '' → x", |is| is.workdir = "x".to_owned()),
        ("port: 8000 → 8001", |is| is.serving.port = 8001),
        ("listen: 9000 is new", |is| is.serving.listen = Some(9000)),
        ("protocol: http → tcp", |is| is.serving.protocol = crate::release::Protocol::Tcp),
        ("ports.admin: 9001 is new", |is| {
            is.serving.ports.insert(name("admin"), 9001);
        }),
        ("ready: http /readyz → tcp", |is| is.serving.ready.probe = Probe::Tcp),
        ("ready: http /readyz → run ask 'a b'", |is| {
            is.serving.ready.probe = Probe::Run(vec!["ask".to_owned(), "a b".to_owned()]);
        }),
        ("ready.within: 1m → 90s", |is| is.serving.ready.within = Duration::from_secs(90)),
        ("ready.interval: 1s → 500ms", |is| {
            is.serving.ready.interval = Duration::from_millis(500);
        }),
        ("alive: /healthz is new", |is| {
            is.serving.alive = Some(Alive {
                http: "/healthz".to_owned(),
                interval: Duration::from_secs(10),
                failures: 3,
            });
        }),
        ("drain: 30s → 2m", |is| is.serving.drain = Duration::from_mins(2)),
        ("volumes.data: db is new", |is| drop(is.volumes.insert(name("data"), "db".to_owned()))),
        ("cpu: 0.5 is new", |is| is.cpu = Some(0.5)),
        ("memory: 1 GiB is new", |is| is.memory = Some(1 << 30)),
        ("gpu: 0 → 1", |is| is.gpu = 1),
        ("limit: false → true", |is| is.limit = true),
        ("services.store: http://x is new", |is| {
            is.services.insert(name("store"), "http://x".to_owned());
        }),
        ("network: '' → none", |is| is.network = "none".to_owned()),
        ("secrets.TOKEN: a/t#x, version 2 is new", |is| {
            let id = crate::secret::SecretId {
                group: "a".to_owned(),
                name: "t".to_owned(),
                entry: "x".to_owned(),
            };
            let takes = crate::secret::SecretUse { id, file: false, optional: false };
            let secret = crate::release::ReleasedSecret { takes, version: Some(2) };
            drop(is.secrets.insert("TOKEN".to_owned(), secret));
        }),
    ];
    let before = behaviour();
    assert_eq!(release_changes(&before, &before), []);
    for (words, change) in cases {
        let mut after = before.clone();
        change(&mut after);
        assert_ne!(after.digest(), before.digest(), "{words}");
        let changes = release_changes(&before, &after);
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert_eq!(why::words(&crate::event::Reason::Changed(changes)), words);
    }
    contained_changes(&before);
    let field = |changes: Vec<FieldChange>| changes.into_iter().map(|change| change.field);
    let mut alive = before.clone();
    alive.serving.alive =
        Some(Alive { http: "/a".to_owned(), interval: Duration::from_secs(1), failures: 1 });
    let mut other = alive.clone();
    other.serving.alive =
        Some(Alive { http: "/b".to_owned(), interval: Duration::from_secs(2), failures: 2 });
    assert_eq!(
        field(release_changes(&alive, &other)).collect::<Vec<_>>(),
        ["alive.http", "alive.interval", "alive.failures"]
    );
}

/// What differs between two releases that are containers and have a secret.
fn contained_changes(before: &Behaviour) {
    use crate::release::{ReleasedContainer, ReleasedSecret};
    use crate::secret::{SecretId, SecretUse};
    let mut before = before.clone();
    before.platform = format!("sha256:{}", "0a".repeat(32));
    before.container = Some(ReleasedContainer {
        image: before.platform.clone(),
        args: None,
        image_user: false,
        writable_root: false,
        capabilities: Vec::new(),
    });
    let id = SecretId { group: String::new(), name: "t".to_owned(), entry: "x".to_owned() };
    let takes = SecretUse { id, file: false, optional: true };
    before.secrets.insert("TOKEN".to_owned(), ReleasedSecret { takes, version: Some(2) });
    let container = |is: &mut Behaviour, change: fn(&mut ReleasedContainer)| {
        is.container.iter_mut().for_each(change);
    };
    let secret = |is: &mut Behaviour, change: fn(&mut ReleasedSecret)| {
        is.secrets.values_mut().for_each(change);
    };
    let cases: [(&str, Change<'_>); 8] = [
        ("image: 0a0a0a0a0a0a → 1b1b1b1b1b1b", &|is| {
            is.platform = format!("sha256:{}", "1b".repeat(32));
        }),
        ("args: --debug is new", &|is| {
            container(is, |one| one.args = Some(vec!["--debug".to_owned()]));
        }),
        ("container.user: caller → image", &|is| container(is, |one| one.image_user = true)),
        ("container.root: read-only → writable", &|is| {
            container(is, |one| one.writable_root = true);
        }),
        ("container.capabilities: none → KILL", &|is| {
            container(is, |one| one.capabilities.push("KILL".to_owned()));
        }),
        ("secrets.TOKEN: version 2 → version 3", &|is| secret(is, |one| one.version = Some(3))),
        ("secrets.TOKEN: version 2 → not there", &|is| secret(is, |one| one.version = None)),
        ("secrets.TOKEN.file: false → true", &|is| secret(is, |one| one.takes.file = true)),
    ];
    for (words, change) in cases {
        let mut after = before.clone();
        change(&mut after);
        assert_ne!(after.digest(), before.digest(), "{words}");
        let changes = release_changes(&before, &after);
        assert_eq!(why::words(&crate::event::Reason::Changed(changes)), words);
    }
}
