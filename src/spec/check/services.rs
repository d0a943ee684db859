//! Services: the payload, and what goes together in one and between several.

use std::collections::HashMap;
use std::time::Duration;

use super::super::draft::{Draft, DraftProbe, DraftService, DraftStage};
use super::super::pipeline::{ReadyProbe, Service};
use super::super::problem::{Problem, Span, nearest};
use super::super::reader::{Reader, Spanned};
use super::super::yaml::short;
use super::hooks::Role;
use super::names::{Named, Place, Site};
use crate::names::{StageName, VolumeName};
use crate::release::Protocol;

const READY_WITHIN: Duration = Duration::from_mins(1);
const READY_INTERVAL: Duration = Duration::from_secs(1);
const DRAIN: Duration = Duration::from_secs(20);

/// The service half of a stage; what its gate and `ready.run` name goes into `named`.
pub(super) fn service(
    site: &Site<'_>,
    reader: &mut Reader<'_>,
    draft: &DraftService,
    named: &mut Named,
) -> Service {
    let port = |port: &Spanned<u16>| port.value;
    let gate = &draft.gate;
    Service {
        // A service without a port was reported.
        port: draft.port.as_ref().map_or(0, port),
        listen: draft.listen.as_ref().map(port),
        protocol: draft.protocol.unwrap_or(Protocol::Http),
        ports: draft.ports.iter().map(|(name, to)| (name.clone(), to.value)).collect(),
        replicas: draft.replicas.as_ref().map_or(1, |replicas| replicas.value),
        ready: match &draft.ready.probe {
            DraftProbe::Tcp => ReadyProbe::Tcp,
            DraftProbe::Http(path) => ReadyProbe::Http(path.value.clone()),
            DraftProbe::Run(command) => ReadyProbe::Run(site.command(reader, command, named)),
        },
        within: draft.ready.within.unwrap_or(READY_WITHIN),
        interval: draft.ready.interval.unwrap_or(READY_INTERVAL),
        alive: draft.alive.as_ref().map(|alive| alive.value.clone()),
        drain: draft.drain.unwrap_or(DRAIN),
        route: draft.route.as_ref().map(|route| route.value.clone()),
        gate: gate.iter().map(|gate| site.expression(reader, gate, Place::Gate, named)).collect(),
        verify: draft.verify.as_ref().and_then(|verify| {
            let (name, role) = site.hooks.get_key_value(verify.value.as_str())?;
            (*role == Role::Verify).then(|| name.clone())
        }),
        volumes: site
            .stage
            .volumes
            .iter()
            .flat_map(|volumes| &volumes.value)
            .filter_map(|volume| {
                let name: VolumeName = volume.name.value.parse().ok()?;
                Some((name, volume.path.as_ref()?.value.clone()))
            })
            .collect(),
    }
}

/// Which keys go with a service, and which with a stage that ends.
pub(super) fn rules(site: &Site<'_>, reader: &mut Reader<'_>) {
    let stage = site.stage;
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
            if service.protocol == Some(Protocol::Tcp) {
                speaks_tcp(service, reader);
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
    volumes_exist(site.draft, stage, reader);
}

/// What asks or leads over HTTP has nothing to talk to in a service of `protocol: tcp`.
fn speaks_tcp(service: &DraftService, reader: &mut Reader<'_>) {
    let mut refuse = |span: Span, what: &str| {
        let message = format!("{what}, and this service has `protocol: tcp`");
        reader.report(
            Problem::new("needs-http", span, message).help("remove it, or `protocol: tcp`"),
        );
    };
    if let DraftProbe::Http(path) = &service.ready.probe {
        refuse(path.span, "`ready` with `http` asks over HTTP");
    }
    if let Some(alive) = &service.alive {
        refuse(alive.span, "`alive` asks over HTTP");
    }
    if let Some(route) = &service.route {
        refuse(route.span, "`route` leads HTTP requests");
    }
}

fn volumes_exist(draft: &Draft, stage: &DraftStage, reader: &mut Reader<'_>) {
    for volume in stage.volumes.iter().flat_map(|volumes| &volumes.value) {
        let Spanned { value: name, span } = &volume.name;
        if draft.volumes.contains(name.as_str()) || draft.refused_names.contains(name) {
            continue;
        }
        let message = format!("there is no volume `{}`", short(name));
        let near = nearest(name, draft.volumes.iter().map(VolumeName::as_str));
        let problem = Problem::new("unknown-volume", *span, message).suggest(near);
        reader.report(problem.help_else("declare it under `volumes` at the top of the file"));
    }
}

/// Reports ports and routes that two services claim, or one service twice.
pub(super) fn distinct(draft: &Draft, reader: &mut Reader<'_>) {
    let mut ports: HashMap<u16, String> = HashMap::new();
    let mut routes: HashMap<&str, &StageName> = HashMap::new();
    for (name, stage) in &draft.stages {
        let Some(service) = &stage.service else { continue };
        // The program may listen where the service is reached, but not where it has another port.
        let listen = service.listen.as_ref().map(|port| port.value);
        let port = service.port.iter().map(|port| ("port".to_owned(), port));
        let more = service.ports.iter().map(|(name, port)| (format!("ports.{name}"), port));
        for (key, port) in port.chain(more) {
            let number = port.value;
            let before = if key != "port" && listen == Some(number) {
                Some(format!("`listen` of `{name}`"))
            } else {
                ports.insert(number, format!("`{key}` of `{name}`"))
            };
            if let Some(before) = before {
                let message = format!("port {number} is {before} already");
                reader.report(
                    Problem::new("port-twice", port.span, message)
                        .help("give each a port of its own"),
                );
            }
        }
        if let Some(route) = &service.route
            && let Some(before) = routes.insert(&route.value, name)
        {
            let message =
                format!("the route `{}` leads to `{before}` already", short(&route.value));
            reader.report(
                Problem::new("route-twice", route.span, message)
                    .help("give each service a route of its own"),
            );
        }
    }
}
