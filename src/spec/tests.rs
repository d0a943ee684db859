//! The reader as a whole: the example of the format, bad files with what is said of them, hostile files.

mod mutations;
mod schema;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::expression::{Piece, Template};
use super::pipeline::{
    BuildSpec, Cache, Command, ContainerSpec, EnvironmentSpec, ImageSpec, Input, ParamKind, Pick,
    Pull, ReadyProbe,
};
use super::*;
use crate::scalar::Scalar;

const FORMAT: &str = include_str!("testdata/format.yaml");

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/spec/testdata")
}

fn valid(text: &str) -> Pipeline {
    load("p.yaml", text.as_bytes()).unwrap_or_else(|problems| panic!("{}", problems.render(false)))
}

/// A file with these stages (indented by two).
fn with_stages(stages: &str) -> String {
    format!("version: \"2\"\nname: iris\nstages:\n{stages}")
}

fn codes(text: &str) -> Vec<&'static str> {
    match load("p.yaml", text.as_bytes()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.list.iter().map(|problem| problem.code).collect(),
    }
}

/// This many texts one after the other.
fn many(count: usize, text: &dyn Fn(usize) -> String) -> String {
    (0..count).map(text).collect::<Vec<_>>().concat()
}

fn names<T: ToString>(list: impl IntoIterator<Item = T>) -> Vec<String> {
    list.into_iter().map(|name| name.to_string()).collect()
}

#[test]
fn the_example_of_the_format_loads() {
    let pipeline = valid(FORMAT);
    assert_eq!(
        names(pipeline.stages.keys()),
        ["prepare", "train", "evaluate", "smoke", "serve", "alert"]
    );
    assert_eq!(pipeline.timeout, Some(Duration::from_hours(4)));
    assert_eq!(names(&pipeline.on_failure), ["alert"]);
    let source = pipeline.source.as_ref().expect("declared");
    assert_eq!(source.reference.as_deref(), Some("main"));
    assert_eq!(pipeline.params["seed"].default, Scalar::plain("7"));
    assert_eq!(
        pipeline.params["learning_rate"].kind,
        ParamKind::Number { whole: false, min: Some(0.0), max: Some(1.0) }
    );

    let train = &pipeline.stages["train"];
    assert_eq!(names(&train.needs), ["prepare"]);
    assert_eq!(names(&train.params), ["seed", "learning_rate"]);
    assert_eq!(train.files.as_deref(), Some(&["train.py".to_owned(), "lib/**".to_owned()][..]));
    assert_eq!(train.environment.requirements, ["scikit-learn==1.7.2"]);
    assert_eq!((train.resources.cpu, train.resources.memory), (Some(2.0), Some(4 << 30)));
    let batch = train.batch().expect("a batch stage");
    assert_eq!(batch.outputs["model"], "model");
    assert_eq!(batch.metrics.as_deref(), Some("metrics.json"));
    assert_eq!(names(&batch.matrix["trees"]), ["50", "100", "200"]);
    assert_eq!(batch.pick, Some(Pick { metric: "accuracy".to_owned(), largest: true }));
    assert_eq!((batch.retries.max, batch.retries.backoff), (2, Duration::from_secs(10)));
    assert_eq!(batch.timeout, Some(Duration::from_mins(30)));
    let Some(Command::List(list)) = &train.run else { panic!("a list") };
    assert!(matches!(list[3].0.as_slice(), [Piece::Expression(e)] if e.source == "matrix.trees"));

    let evaluate = &pipeline.stages["evaluate"];
    assert_eq!(names(&evaluate.needs), ["prepare", "train"]);
    assert!(matches!(
        &evaluate.inputs["current"],
        Input::Live { service, input, optional: true }
            if service.as_str() == "serve" && input.as_str() == "model"
    ));
    let serve = &pipeline.stages["serve"];
    assert_eq!(names(&serve.needs), ["train", "evaluate"]);
    let service = serve.service().expect("a service");
    assert_eq!((service.port, service.replicas), (8000, 2));
    assert_eq!(service.ready, ReadyProbe::Http("/readyz".to_owned()));
    assert_eq!(service.within, Duration::from_mins(2));
    assert_eq!(service.route.as_deref(), Some("/iris"));
    assert_eq!(names(&service.verify), ["smoke"]);
    assert_eq!(service.gate.len(), 2);
    assert!(pipeline.stages["smoke"].outside_dag && pipeline.stages["alert"].outside_dag);
    assert!(!pipeline.stages["train"].outside_dag);

    let missing: Vec<&str> = pipeline
        .unavailable
        .iter()
        .map(|problem| {
            assert_eq!(problem.code, "not-available");
            let (start, length) = problem.span.expect("a place");
            &FORMAT[start..start + length]
        })
        .collect();
    assert_eq!(missing, ["schedule"]);
    let secret = &train.secrets["AWS_ACCESS_KEY_ID"];
    assert_eq!(secret.id.to_string(), "aws-credentials#AWS_ACCESS_KEY_ID");
    assert_eq!(train.image, Some(ImageSpec::Reference("python:3.12-slim".to_owned())));
    assert_eq!(pipeline.ignored_on_local(), ["image"]);
    assert!(pipeline.warnings.is_empty(), "{:?}", pipeline.warnings);
}

/// Every file of `testdata/bad`, with everything that is said of it (`INSTA_UPDATE=always` writes what is new).
#[test]
fn bad_files_are_told_what_is_wrong() {
    let mut files: Vec<PathBuf> = fs_err::read_dir(testdata().join("bad"))
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert!(files.len() > 30);
    for path in files {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let bytes = fs_err::read(&path).expect("read");
        let problems = load(&format!("{name}.yaml"), &bytes).expect_err(&name);
        let ends = |problem: &Problem| problem.span.map(|span| span.0);
        assert!(problems.list.is_sorted_by_key(ends), "{name} is not sorted");
        for problem in &problems.list {
            assert!(problem.help.is_some(), "{name}: no help for {}", problem.message);
            assert!(problem.span.is_some(), "{name}: no place for {}", problem.message);
            let name_first = problem.message.starts_with("Bodywork");
            let fragment = name_first || !problem.message.starts_with(char::is_uppercase);
            assert!(fragment, "{}", problem.message);
        }
        let codes: Vec<&str> = problems.list.iter().map(|problem| problem.code).collect();
        insta::assert_snapshot!(name, format!("{}\n{}", codes.join(" "), problems.render(false)));
    }
}

#[test]
fn problems_are_data_too() {
    let problems = load("p.yaml", b"version: \"2\"\nname: a\nstages: {a: {run: x, nees: [b]}}\n")
        .expect_err("a bad key");
    insta::assert_json_snapshot!(problems.to_json(), @r#"
    [
      {
        "code": "unknown-key",
        "column": 22,
        "end": {
          "column": 26,
          "line": 3
        },
        "file": "p.yaml",
        "help": "did you mean `needs`?",
        "label": "unknown key",
        "line": 3,
        "message": "`nees` is not a key of a stage"
      }
    ]
    "#);
}

#[test]
fn spelling_survives() {
    let text = with_stages(
        "  a:\n    run: x\n    metrics: m.json\n    pick: {max: a}\n    env: {A: 0123456, B: 1.10, C: yes, D: 1e3, E: ~x}\n    \
         matrix: {v: [1.10, 0123, yes, \"7\", true]}\n    python: 3.10\n",
    );
    let pipeline = valid(&text);
    let stage = &pipeline.stages["a"];
    let env: Vec<_> = stage.env.values().map(|t| t.expand(&Scope::default())).collect();
    let env: Vec<_> = env.into_iter().map(|value| value.expect("literal")).collect();
    assert_eq!(env, ["0123456", "1.10", "yes", "1e3", "~x"]);
    let values = &stage.batch().expect("batch").matrix["v"];
    assert_eq!(values[0], Scalar::plain("1.10"));
    assert_eq!(values[1], Scalar::Text("0123".to_owned()));
    assert_eq!(values[3], Scalar::Text("7".to_owned()));
    assert_eq!(values[4], Scalar::Bool(true));
    assert_eq!(stage.environment.python.as_deref(), Some("3.10"));
}

#[test]
fn defaults_are_merged() {
    let text = "version: 2\nname: a\ndefaults:\n  python: '3.12'\n  requirements: [numpy]\n  env: {A: '1', B: '2'}\n  \
                retries: 2\n  timeout: 5m\n  resources: {cpu: 1}\nstages:\n  a: {run: x}\n  \
                b: {run: x, requirements: [], env: {B: '3', C: '4'}, retries: 0, resources: {memory: 1Gi}, timeout: 1m}\n  \
                c: {image: alpine, env: {A: x}}\n";
    let pipeline = valid(text);
    let env = |name: &str| -> Vec<String> {
        let expand = |(key, value): (&String, &Template)| {
            format!("{key}={}", value.expand(&Scope::default()).expect("literal"))
        };
        pipeline.stages[name].env.iter().map(expand).collect()
    };
    assert_eq!(env("a"), ["A=1", "B=2"]);
    assert_eq!(env("b"), ["A=1", "B=3", "C=4"]);
    assert_eq!(env("c"), ["A=x"]);
    let (a, b) = (&pipeline.stages["a"], &pipeline.stages["b"]);
    assert_eq!(a.environment.requirements, ["numpy"]);
    assert!(b.environment.requirements.is_empty());
    assert_eq!(b.environment.python.as_deref(), Some("3.12"));
    assert_eq!(pipeline.stages["c"].environment, EnvironmentSpec::default());
    assert_eq!(a.batch().expect("batch").retries.max, 2);
    assert_eq!(b.batch().expect("batch").retries.max, 0);
    assert_eq!(b.batch().expect("batch").timeout, Some(Duration::from_mins(1)));
    assert_eq!((b.resources.cpu, b.resources.memory), (None, Some(1 << 30)));
}

#[test]
fn anchors_and_merge_keys_work() {
    let text = "version: '2'\nname: a\nx-base: &base {run: x, timeout: 5m}\nx-env: &env {A: b}\nstages:\n  \
                a: *base\n  b: {<<: *base, timeout: 1m, env: *env}\n  c:\n    <<: [*base, {needs: [a], run: z}]\n";
    let pipeline = valid(text);
    let timeout = |name: &str| pipeline.stages[name].batch().expect("batch").timeout;
    assert_eq!(timeout("a"), Some(Duration::from_mins(5)));
    assert_eq!(timeout("b"), Some(Duration::from_mins(1)));
    assert_eq!(names(&pipeline.stages["c"].needs), ["a"]);
    let literal = Template(vec![Piece::Literal("x".to_owned())]);
    assert_eq!(pipeline.stages["c"].run, Some(Command::Shell(literal)));
}

#[test]
fn expressions_make_edges_and_params() {
    let text = "version: '2'\nname: a\nparams: {p: 1, q: 2}\nstages:\n  \
                d: {run: 'x ${{ b.values.v }}', when: '${{ a.metrics.m > params.q }}', env: {P: '${{ params.p }}'}, params: [p]}\n  \
                b: {run: x, values: v.json}\n  a: {run: x, metrics: m.json}\n";
    let stage = &valid(text).stages["d"];
    assert_eq!(names(&stage.needs), ["b", "a"]);
    assert_eq!(names(&stage.params), ["p", "q"]);
    let references = &stage.when[0].references;
    assert_eq!(
        (names(&references.results), names(&references.params)),
        (vec!["a".to_owned()], vec!["q".to_owned()])
    );
}

#[test]
fn warnings_are_no_problems() {
    let pipeline = valid(
        "version: '2'\nname: a\nsource: {git: 'https://me:secret@x.org/a'}\nparams: {p: 1, q: 2}\nstages:\n  \
         a: {run: 'x ${{ run.id }}', outputs: {o: o}}\n  b: {run: 'x ${{ run.commit }}'}\n  \
         c: {run: x, service: {port: 1, gate: '${{ params.q > 1 }}'}}\n",
    );
    let codes: Vec<&str> = pipeline.warnings.iter().map(|warning| warning.code).collect();
    assert_eq!(codes, ["password-in-address", "unused-param", "runs-every-time"]);
    assert!(pipeline.stages["a"].names_run_identity);
    let warnings = Problems { file: "p".into(), text: String::new(), list: pipeline.warnings };
    assert!(warnings.render_warnings(false).contains("⚠"));
}

#[test]
fn caching_and_services() {
    let text = with_stages(
        "  s: {run: x, service: {port: 1}}\n  a: {run: 'x ${{ services.s.url }}', outputs: {o: o}}\n  \
         b: {run: x, needs: [s], outputs: {o: o}, cache: true}\n  c: {run: x, outputs: {o: o}, cache: 24h}\n  \
         d: {run: x, outputs: {o: o}, cache: only}\n  e: {run: x, outputs: {o: o}, cache: false}\n",
    );
    let pipeline = valid(&text);
    let uses = |name: &str| pipeline.stages[name].uses_service;
    assert!(uses("a") && !uses("b") && !uses("c"));
    let cache = |name: &str| pipeline.stages[name].batch().expect("batch").cache;
    assert_eq!(cache("c"), Cache::For(Duration::from_hours(24)));
    assert_eq!((cache("d"), cache("e"), cache("a")), (Cache::Only, Cache::Off, Cache::On));
}

#[test]
fn what_is_not_available_is_said_at_its_key() {
    let text = "version: '2'\nname: a\nvolumes: {v: {size: 1Gi}}\ntargets: {t: {}}\nstages:\n  a: {image: x, args: [b]}\n  \
                b: {run: x, image: y, pull: always, container: {network: none}, secrets: {A: b}}\n  \
                c: {uses: mlflow, with: {a: b}}\n  d: {run: x, inputs: {u: {url: 'models:a'}}}\n  \
                e: {run: x, volumes: {v: /data//b/}, service: {port: 1, route: {path: /a, weight: 10}}}\n";
    let pipeline = valid(text);
    let keys: Vec<&str> = pipeline
        .unavailable
        .iter()
        .filter_map(|problem| problem.span.map(|(start, length)| &text[start..start + length]))
        .collect();
    assert_eq!(keys, ["targets", "uses", "'models:a'", "weight"]);
    assert_eq!(pipeline.ignored_on_local(), ["image", "pull", "container", "size"]);
    let contained: Vec<&str> = pipeline
        .needs_containers
        .iter()
        .filter_map(|problem| problem.span.map(|(start, length)| &text[start..start + length]))
        .collect();
    assert_eq!(contained, ["image", "/data//b/"]);
}

#[test]
fn containers_are_as_the_file_says() {
    let text = "version: '2'\nname: a\nparams: {p: 7}\nvolumes: {v: {}}\n\
                defaults: {image: 'python:3', pull: never, container: {network: none, capabilities: [KILL]}}\nstages:\n  \
                a: {run: x}\n  \
                b: {run: x, build: docker/b, container: {user: image, root: writable}}\n  \
                c: {run: x, build: {context: ., dockerfile: d/Dockerfile, args: {V: 1.10, E: ''}}}\n  \
                d: {image: 'mariadb:11', args: ['--port', '${{ params.p }}'], service: {port: 3306, protocol: tcp}, volumes: {v: /var/lib/mysql}}\n  \
                e: {image: x, container: {user: caller, root: read-only}}\n";
    let pipeline = valid(text);
    let stage = |name: &str| &pipeline.stages[name];
    assert_eq!(stage("a").image, Some(ImageSpec::Reference("python:3".to_owned())));
    assert_eq!(stage("a").pull, Pull::Never);
    let loose = ContainerSpec { image_user: true, writable_root: true, ..ContainerSpec::default() };
    let of_defaults = ContainerSpec {
        no_network: true,
        capabilities: vec!["KILL".to_owned()],
        ..ContainerSpec::default()
    };
    assert_eq!(stage("a").container, of_defaults);
    assert_eq!(stage("b").container, loose);
    assert_eq!(stage("d").container, loose);
    assert_eq!(stage("e").container, ContainerSpec::default());
    let build = |context: &str, dockerfile: &str, args: &[(&str, &str)]| {
        let args = args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let (context, dockerfile) = (context.to_owned(), dockerfile.to_owned());
        Some(ImageSpec::Build(BuildSpec { context, dockerfile, args: args.collect() }))
    };
    assert_eq!(stage("b").image, build("docker/b", "Dockerfile", &[]));
    assert_eq!(stage("c").image, build(".", "d/Dockerfile", &[("V", "1.10"), ("E", "")]));
    let d = stage("d");
    assert_eq!(
        (&d.run, d.pull, &d.environment),
        (&None, Pull::Missing, &EnvironmentSpec::default())
    );
    assert_eq!(d.args.as_ref().map(Vec::len), Some(2));
    assert_eq!(names(&d.params), ["p"]);
    assert_eq!(d.service().expect("a service").volumes["v"], "/var/lib/mysql");
    assert_eq!(pipeline.unavailable, []);
    assert_eq!(pipeline.needs_containers.len(), 3);
}

#[test]
fn secrets_are_read_in_all_forms() {
    let text = "version: '2'\nname: a\ndefaults: {secrets: {A: all, B: all, C: all}, env: {D: x}}\nstages:\n  \
                a: {run: x, env: {C: plain}, secrets: {B: team/db#user, D: d, E: {secret: t/f, entry: key, file: true, optional: true}}}\n  \
                b: {image: x}\n";
    let pipeline = valid(text);
    let stage = &pipeline.stages["a"];
    let shown: Vec<String> = stage
        .secrets
        .iter()
        .map(|(name, one)| format!("{name} {} {} {}", one.id, one.file, one.optional))
        .collect();
    assert_eq!(
        shown,
        [
            "A all#A false false",
            "B team/db#user false false",
            "D d#D false false",
            "E t/f#key true true"
        ]
    );
    assert_eq!(names(stage.env.keys()), ["C"]);
    assert!(pipeline.stages["b"].secrets.is_empty());
}

/// Time is bounded by work, not by a clock: every case must be refused for the reason it was made for.
#[test]
fn hostile_files_are_refused() {
    let code = |bytes: &[u8]| load("p", bytes).map_or_else(|p| p.list[0].code, |_| "loaded");
    assert_eq!(code(&vec![b'a'; 5 << 20]), "file-too-large");
    assert_eq!(code(b"version: \"2\"\nname: \xff"), "not-text");
    assert_eq!(
        code(
            "version: \"2\""
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect::<Vec<_>>()
                .as_slice()
        ),
        "not-text"
    );
    assert_eq!(code(b"a: \0"), "not-text");
    assert_eq!(code(b"a: \x1b[2J"), "control-character");
    assert_eq!(code(b""), "empty-file");
    assert_eq!(code(b"# only a comment\n"), "empty-file");
    assert_eq!(code(b"~"), "wrong-type");
    assert_eq!(code("[".repeat(10_000).as_bytes()), "too-deep");
    assert_eq!(code("{a: ".repeat(10_000).as_bytes()), "too-deep");
    assert_eq!(code("- ".repeat(10_000).as_bytes()), "too-deep");
    let indented: Vec<String> = (0..1000).map(|depth| " ".repeat(depth) + "a:").collect();
    assert_eq!(code(indented.join("\n").as_bytes()), "too-deep");
    assert_eq!(code(b"a: &a [*a]"), "alias-in-itself");

    // Aliases of aliases: wide, and deep.
    let bomb = many(200, &|n| {
        let aliases = vec![format!("*a{n}"); 10].join(", ");
        format!("x-{n}: &a{} [{aliases}]\n", n + 1)
    });
    let bomb = format!("x: &a0 [1,1,1,1,1,1,1,1,1,1]\n{bomb}");
    let chain = many(200, &|n| format!("x-{n}: &a{} [*a{n}]\n", n + 1));
    let chain = format!("x: &a0 [1]\n{chain}");
    assert_eq!(code(bomb.as_bytes()), "aliases-too-large");
    assert_eq!(code(chain.as_bytes()), "too-deep");
    assert_eq!(code(format!("x: [{}1]", "1,".repeat(600_000)).as_bytes()), "file-too-large");
}

/// Each of these took quadratic time in some plain way of writing the reader.
#[test]
fn large_files_take_linear_time() {
    let expressions = many(100_000, &|_| "${{ x }} ".to_owned());
    let one_text = with_stages(&format!("  a:\n    run: {expressions}\n"));
    assert!(codes(&one_text).contains(&"file-too-large"));
    let duplicates = with_stages(&many(50_000, &|_| "  a: {run: x}\n".to_owned()));
    assert!(codes(&duplicates).iter().all(|code| *code == "duplicate-key"));
    let merges = format!(
        "x-a: &a {{{}}}\nx-b: {{<<: [{}]}}\n",
        many(10_000, &|n| format!("k{n}: 1, ")),
        many(10_000, &|_| "*a, ".to_owned())
    );
    assert_eq!(codes(&merges), ["aliases-too-large"]);
    let aliases = format!(
        "{}x: [{}]\n",
        many(20_000, &|n| format!("x-{n}: &a{n} 1\n")),
        many(20_000, &|n| format!("*b{n}, "))
    );
    assert!(codes(&aliases).contains(&"unknown-alias"));
    let needs = many(20_000, &|n| format!("s{n}, "));
    let stages = many(20_000, &|n| format!("  s{n}: {{run: x}}\n"));
    assert!(
        codes(&with_stages(&format!("{stages}  z: {{run: x, needs: [{needs}]}}\n"))).is_empty()
    );
    let wrong = many(20_000, &|n| format!("t{n}, "));
    let wrong = with_stages(&format!("{stages}  z: {{run: x, needs: [{wrong}]}}\n"));
    assert_eq!(codes(&wrong).len(), 200);
}

#[test]
fn many_problems_are_cut() {
    let keys = many(20_000, &|n| format!("key{n}: 1\n"));
    let problems = load("p", format!("version: '2'\nname: a\n{keys}").as_bytes()).expect_err("bad");
    assert_eq!(problems.list.len(), 200);
    assert_eq!(codes(&format!("{}: 1", "k".repeat(1000))).len(), 4);
}

#[test]
fn long_chains_need_no_stack() {
    let stages = many(9999, &|n| format!("  s{}: {{run: x, needs: [s{n}]}}\n", n + 1));
    let pipeline = valid(&with_stages(&format!("  s0: {{run: x}}\n{stages}")));
    assert_eq!(pipeline.stages.len(), 10_000);
    let circle = with_stages(&format!("  s0: {{run: x, needs: [s9999]}}\n{stages}"));
    assert_eq!(codes(&circle), ["cycle"]);
}
