//! Services as the reader makes them: payload, needs, and what their expressions name.

use std::time::Duration;

use super::pipeline::{Command, Input, ReadyProbe, Service};
use super::{Pipeline, load};
use crate::event::NotCached;
use crate::release::{Alive, Protocol};

/// The stages (indented by two) of a valid file with two volumes.
fn pipeline(stages: &str) -> Pipeline {
    let head = "version: \"2\"\nname: iris\nparams: {p: 1, q: 2}\nvolumes: {data: {}, more: {}}\n";
    let text = format!("{head}stages:\n{stages}");
    let pipeline = load("p.yaml", text.as_bytes());
    let pipeline = pipeline.unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    assert_eq!(pipeline.unavailable, [], "services are available");
    pipeline
}

fn service<'p>(pipeline: &'p Pipeline, name: &str) -> &'p Service {
    pipeline.stages[name].service().expect("a service")
}

fn texts<T: ToString>(list: impl IntoIterator<Item = T>) -> Vec<String> {
    list.into_iter().map(|one| one.to_string()).collect()
}

fn needs(pipeline: &Pipeline, name: &str) -> Vec<String> {
    texts(&pipeline.stages[name].needs)
}

#[test]
fn defaults_are_those_of_the_format() {
    let found = pipeline("  a: {run: x, service: {port: 80}}\n");
    let expected = Service {
        port: 80,
        listen: None,
        protocol: Protocol::Http,
        ports: indexmap::IndexMap::new(),
        replicas: 1,
        ready: ReadyProbe::Tcp,
        within: Duration::from_mins(1),
        interval: Duration::from_secs(1),
        alive: None,
        drain: Duration::from_secs(20),
        route: None,
        gate: Vec::new(),
        verify: None,
        volumes: indexmap::IndexMap::new(),
    };
    assert_eq!(service(&found, "a"), &expected);
}

#[test]
fn every_key_reaches_the_service() {
    let found = pipeline(
        "  a:\n    run: x\n    volumes: {data: ./db//main/, more: state}\n    service:\n      port: 5432\n      \
         listen: 5433\n      protocol: tcp\n      ports: {metrics: 9100, admin: 9101}\n      replicas: 0\n      \
         ready: {run: [probe, \"${{ port }}\"], within: 5m, interval: 250ms}\n      drain: 1m\n  \
         b:\n    run: x\n    service:\n      port: 8000\n      replicas: 1000\n      ready: {http: \"/ready?full=1\"}\n      \
         alive: {http: /livez}\n      route: {path: /a/b/}\n  \
         c: {run: x, service: {port: 8001, ready: {tcp: true}, alive: {http: /, interval: 1s, failures: 9}, route: /}}\n",
    );
    let a = service(&found, "a");
    assert_eq!((a.port, a.listen, a.protocol), (5432, Some(5433), Protocol::Tcp));
    let ports: Vec<String> = a.ports.iter().map(|(name, port)| format!("{name}={port}")).collect();
    assert_eq!(ports, ["metrics=9100", "admin=9101"]);
    assert_eq!(a.replicas, 0);
    assert!(matches!(&a.ready, ReadyProbe::Run(Command::List(words)) if words.len() == 2));
    assert_eq!((a.within, a.interval), (Duration::from_mins(5), Duration::from_millis(250)));
    assert_eq!(a.drain, Duration::from_mins(1));
    let volumes: Vec<String> = a.volumes.iter().map(|(name, to)| format!("{name}={to}")).collect();
    assert_eq!(volumes, ["data=db/main", "more=state"]);
    assert_eq!(texts(&found.volumes), ["data", "more"]);

    let b = service(&found, "b");
    assert_eq!(b.replicas, 1000);
    assert_eq!(b.ready, ReadyProbe::Http("/ready?full=1".to_owned()));
    let alive = Alive { http: "/livez".to_owned(), interval: Duration::from_secs(10), failures: 3 };
    assert_eq!(b.alive, Some(alive));
    assert_eq!(b.route.as_deref(), Some("/a/b"));
    let c = service(&found, "c");
    let alive = Alive { http: "/".to_owned(), interval: Duration::from_secs(1), failures: 9 };
    assert_eq!((&c.ready, c.alive.as_ref()), (&ReadyProbe::Tcp, Some(&alive)));
    assert_eq!(c.route.as_deref(), Some("/"));
}

#[test]
fn expressions_say_what_they_need_to_know() {
    let found = pipeline(
        "  evaluate: {run: x, metrics: m.json, values: v.json}\n  \
         serve:\n    run: x ${{ inputs.model }} --port ${{ port }} ${{ services.db.url }}\n    env: {A: \"${{ evaluate.values.v }}\"}\n    \
         inputs: {model: train.model}\n    service:\n      port: 8000\n      \
         ready: {run: \"x ${{ port }} ${{ params.q }} ${{ run.id }}\"}\n      \
         gate: [\"${{ not live or evaluate.metrics.a > live.evaluate.metrics.a }}\", \"${{ params.p > 0 }}\"]\n  \
         train: {run: x, outputs: {model: m}}\n  db: {run: x, service: {port: 5432}}\n  \
         after: {run: \"x ${{ live.serve.evaluate.metrics.a }} ${{ live.db }}\", when: \"${{ not live.db }}\"}\n",
    );
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    assert_eq!(needs(&found, "serve"), ["evaluate", "train", "db"]);
    let serve = &found.stages["serve"];
    assert_eq!(texts(&serve.params), ["q"], "a gate is no part of what runs");
    assert!(serve.names_run_identity);
    let Some(Command::Shell(command)) = &serve.run else { panic!("a text") };
    assert_eq!(texts(command.references().services), ["db"]);
    assert_eq!(texts(serve.env["A"].references().results), ["evaluate"]);
    let gate = &service(&found, "serve").gate[0].references;
    assert_eq!(
        (texts(&gate.live), texts(&gate.results)),
        (vec!["serve".into()], vec!["evaluate".into()])
    );

    let after = &found.stages["after"];
    assert_eq!(needs(&found, "after"), [""; 0], "live releases are there before the run");
    let Some(Command::Shell(command)) = &after.run else { panic!("a text") };
    assert_eq!(texts(command.references().live), ["db", "serve"]);
    assert_eq!(texts(&after.when[0].references.live), ["db"]);
}

#[test]
fn a_live_input_is_no_need() {
    let found = pipeline(
        "  train: {run: x, outputs: {model: m}}\n  \
         judge: {run: x, metrics: m.json, inputs: {new: train.model, old: {live: serve.model}, older: {live: serve.model, optional: true}}}\n  \
         serve:\n    run: x\n    inputs: {model: train.model, before: {live: serve.model, optional: true}}\n    \
         service: {port: 8000, gate: \"${{ judge.metrics.a > 0 }}\"}\n",
    );
    assert_eq!(needs(&found, "judge"), ["train"]);
    assert_eq!(needs(&found, "serve"), ["train", "judge"]);
    let optional = |stage: &str, input: &str| match &found.stages[stage].inputs[input] {
        Input::Live { service, input, optional } => {
            assert_eq!((service.as_str(), input.as_str()), ("serve", "model"));
            *optional
        }
        other => panic!("{other:?}"),
    };
    assert!(!optional("judge", "old") && optional("judge", "older") && optional("serve", "before"));
}

#[test]
fn what_verify_needs_its_service_needs() {
    let found = pipeline(
        "  data: {run: x, outputs: {o: o}}\n  judge: {run: x, metrics: m.json}\n  other: {run: x}\n  \
         smoke:\n    run: x ${{ services.serve.url }} ${{ services.db.url }} ${{ judge.metrics.a }}\n    \
         inputs: {d: data.o, old: {live: serve.model}}\n    needs: [other]\n    outputs: {o: o}\n    cache: true\n  \
         train: {run: x, outputs: {model: m}}\n  \
         serve: {run: x, inputs: {model: train.model}, needs: [other], service: {port: 8000, verify: smoke}}\n  \
         db: {run: x, service: {port: 5432}}\n  after: {run: x, needs: [serve]}\n",
    );
    let smoke = &found.stages["smoke"];
    assert_eq!(needs(&found, "smoke"), ["data", "judge", "other", "db"]);
    let Some(Command::Shell(command)) = &smoke.run else { panic!("a text") };
    assert_eq!(texts(command.references().services), ["serve", "db"]);
    assert_eq!(needs(&found, "serve"), ["data", "judge", "other", "train", "db"]);
    assert_eq!(needs(&found, "after"), ["serve"]);
    assert!(smoke.outside_dag);
    assert_eq!(texts(&service(&found, "serve").verify), ["smoke"]);
}

#[test]
fn a_verify_stage_is_never_cached() {
    let cached = |keys: &str| {
        let stages = format!(
            "  smoke: {{run: x, {keys}}}\n  serve: {{run: x, service: {{port: 1, verify: smoke}}}}\n"
        );
        pipeline(&stages).stages["smoke"].not_cached()
    };
    assert_eq!(cached("outputs: {o: o}"), Some(NotCached::UsesService));
    assert_eq!(cached("outputs: {o: o}, cache: true"), Some(NotCached::UsesService));
    assert_eq!(cached("metrics: m.json, cache: 24h"), Some(NotCached::UsesService));
    assert_eq!(cached("outputs: {o: o}, cache: false"), Some(NotCached::Off));
    assert_eq!(cached("env: {A: b}"), Some(NotCached::NoOutputs));
}

/// `on_failure` and `on_exit` run whatever became of the service: its address is known, and nothing is waited for.
#[test]
fn the_other_hooks_wait_for_no_service() {
    let text = "version: '2'\nname: a\non_exit: tell\nstages:\n  serve: {run: x, service: {port: 1}}\n  \
                tell: {run: 'x ${{ services.serve.url }}'}\n";
    let found = load("p.yaml", text.as_bytes()).expect("valid");
    let Some(Command::Shell(command)) = &found.stages["tell"].run else { panic!("a text") };
    assert_eq!(texts(command.references().services), ["serve"]);
    assert_eq!(needs(&found, "tell"), [""; 0]);
}
