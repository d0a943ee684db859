//! The difference of two releases, field by field.

use std::collections::BTreeMap;

use crate::event::{FieldChange, KeyParts};
use crate::plan::why::{self, List};
use crate::release::{
    Alive, Behaviour, Probe, Protocol, Release, ReleasedContainer, ReleasedSecret, Serving,
};
use crate::spec::pipeline::Service;
use crate::words::{bytes, duration, millis};

/// What differs, for people: `params.seed: 7 → 8`, `inputs.model`, `files`, `ready.within: 1m → 2m`.
pub fn release_changes(before: &Behaviour, after: &Behaviour) -> Vec<FieldChange> {
    let mut list = List(why::changes(&common(before), &common(after)));
    serving(&mut list, &before.serving, &after.serving);
    list.map("volumes", &before.volumes, &after.volumes);
    let text = |number: Option<f64>| number.map(|number| number.to_string());
    list.optional("cpu", text(before.cpu).as_ref(), text(after.cpu).as_ref());
    let text = |size: Option<u64>| size.map(bytes);
    if before.memory != after.memory {
        list.push("memory", text(before.memory), text(after.memory));
    }
    list.field("gpu", &before.gpu.to_string(), &after.gpu.to_string());
    list.field("limit", &before.limit.to_string(), &after.limit.to_string());
    list.map("services", &before.services, &after.services);
    secrets(&mut list, &before.secrets, &after.secrets);
    if let (Some(before), Some(after)) = (&before.container, &after.container) {
        container(&mut list, before, after);
    }
    list.0
}

/// What the file says of replicas and route that the live release's notes do not: changed in place, without a rollout.
pub fn adjustments(live: &Release, service: &Service) -> Vec<FieldChange> {
    let mut list = List(Vec::new());
    list.field("replicas", &live.notes.replicas.to_string(), &service.replicas.to_string());
    list.optional("route", live.notes.route.as_ref(), service.route.as_ref());
    list.0
}

/// The fields that services and batch stages share.
fn common(behaviour: &Behaviour) -> KeyParts {
    KeyParts {
        format: behaviour.format,
        command: behaviour.command.clone(),
        env: behaviour.env.clone(),
        environment: behaviour.environment,
        platform: behaviour.platform.clone(),
        files: behaviour.files,
        inputs: behaviour.inputs.clone(),
        params: behaviour.params.clone(),
        matrix: BTreeMap::new(),
        outputs: BTreeMap::new(),
        metrics: None,
        values: None,
        workdir: behaviour.workdir.clone(),
        network: behaviour.network.clone(),
        // Told with their versions.
        secrets: BTreeMap::new(),
        args: behaviour.container.as_ref().and_then(|container| container.args.clone()),
    }
}

fn serving(list: &mut List, before: &Serving, after: &Serving) {
    let span = |duration: std::time::Duration| span(millis(duration));
    list.field("port", &before.port.to_string(), &after.port.to_string());
    let text = |port: Option<u16>| port.map(|port| port.to_string());
    list.optional("listen", text(before.listen).as_ref(), text(after.listen).as_ref());
    list.field("protocol", protocol(before.protocol), protocol(after.protocol));
    list.map("ports", &before.ports, &after.ports);
    list.field("ready", &probe(&before.ready.probe), &probe(&after.ready.probe));
    list.field("ready.within", &span(before.ready.within), &span(after.ready.within));
    list.field("ready.interval", &span(before.ready.interval), &span(after.ready.interval));
    match (&before.alive, &after.alive) {
        (Some(before), Some(after)) => {
            list.field("alive.http", &before.http, &after.http);
            list.field("alive.interval", &span(before.interval), &span(after.interval));
            list.field("alive.failures", &before.failures.to_string(), &after.failures.to_string());
        }
        (before, after) => {
            let text = |alive: &Option<Alive>| alive.as_ref().map(|alive| alive.http.clone());
            list.optional("alive", text(before).as_ref(), text(after).as_ref());
        }
    }
    list.field("drain", &span(before.drain), &span(after.drain));
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Tcp => "tcp",
    }
}

fn probe(probe: &Probe) -> String {
    match probe {
        Probe::Http(path) => format!("http {path}"),
        Probe::Tcp => "tcp".to_owned(),
        Probe::Run(command) => format!("run {}", why::command(command)),
    }
}

/// As people write durations in the file: `90s`, `2m`.
fn span(millis: u64) -> String {
    match millis {
        0 => "0s".to_owned(),
        whole if whole.is_multiple_of(60_000) && whole < 3_600_000 => {
            format!("{}m", whole / 60_000)
        }
        whole if whole.is_multiple_of(1000) && whole < 3_600_000 => format!("{}s", whole / 1000),
        other if other < 1000 => format!("{other}ms"),
        other => duration(other),
    }
}

/// A secret that is another one is told whole; the same one by what differs of it.
fn secrets(
    list: &mut List,
    before: &BTreeMap<String, ReleasedSecret>,
    after: &BTreeMap<String, ReleasedSecret>,
) {
    let whole = |one: &ReleasedSecret| format!("{}, {}", one.takes.id, version(one));
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let field = format!("secrets.{name}");
        match (before.get(name), after.get(name)) {
            (Some(was), Some(is)) if was.takes.id == is.takes.id => {
                list.field(&field, &version(was), &version(is));
                let text = |flag: bool| flag.to_string();
                list.field(&format!("{field}.file"), &text(was.takes.file), &text(is.takes.file));
                let optional = |one: &ReleasedSecret| text(one.takes.optional);
                list.field(&format!("{field}.optional"), &optional(was), &optional(is));
            }
            (was, is) => list.push(field, was.map(whole), is.map(whole)),
        }
    }
}

/// `version 3`
fn version(secret: &ReleasedSecret) -> String {
    secret.version.map_or("not there".to_owned(), |version| format!("version {version}"))
}

/// Image and arguments are told with what batch stages have too.
fn container(list: &mut List, before: &ReleasedContainer, after: &ReleasedContainer) {
    let user = |one: &ReleasedContainer| if one.image_user { "image" } else { "caller" };
    list.field("container.user", user(before), user(after));
    let root = |one: &ReleasedContainer| if one.writable_root { "writable" } else { "read-only" };
    list.field("container.root", root(before), root(after));
    let kept = |one: &ReleasedContainer| match one.capabilities.as_slice() {
        [] => "none".to_owned(),
        some => some.join(", "),
    };
    list.field("container.capabilities", &kept(before), &kept(after));
}
