//! `service` and `volumes`.

use std::time::Duration;

use indexmap::IndexMap;

use super::draft::{Draft, DraftProbe, DraftReady, DraftService, DraftVolume};
use super::keys::{ALIVE, READY, ROUTE, SERVICE, VOLUME};
use super::problem::Problem;
use super::reader::{Fields, Item, Reader, Spanned};
use super::scalars::{LEAVES, normal};
use super::yaml::{Value, short};
use crate::names::{PortName, VolumeName};
use crate::release::{Alive, Protocol};

/// Between two tries of `alive`.
const ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// What a container has of its own: no volume can be there.
const TAKEN: [&str; 5] = ["dev", "flowrun", "proc", "sys", "tmp"];
/// Failures of `alive` in a row that count.
const ALIVE_FAILURES: u32 = 3;

impl Reader<'_> {
    /// Reads the keys of `service`.
    pub(super) fn service(&mut self, item: Item<'_>) -> DraftService {
        let Some(fields) = self.fields(item, &SERVICE) else { return DraftService::default() };
        let mut ports = IndexMap::new();
        for item in fields.get("ports").and_then(|item| self.entries(item)).unwrap_or_default() {
            let name = self.own_name::<PortName>(item, "the port");
            if let (Some(name), Some(port)) = (name, self.port(item)) {
                ports.insert(name, port);
            }
        }
        DraftService {
            port: fields.get("port").and_then(|item| self.port(item)),
            listen: fields.get("listen").and_then(|item| self.port(item)),
            protocol: self.choice(&fields, "protocol").map(|protocol| match protocol {
                "tcp" => Protocol::Tcp,
                _ => Protocol::Http,
            }),
            ports,
            replicas: self.count(&fields, "replicas"),
            ready: fields.get("ready").map(|item| self.ready(item)).unwrap_or_default(),
            alive: fields.get("alive").and_then(|item| self.alive(item)),
            drain: fields.get("drain").and_then(|item| self.duration(item)),
            route: fields.get("route").and_then(|item| self.route(item)),
            gate: fields.get("gate").map(|item| self.conditions(item)).unwrap_or_default(),
            verify: fields.get("verify").and_then(|item| self.spanned_text(item)),
        }
    }

    /// Refuses variables of a service that are given to it.
    pub(super) fn given_variables(&mut self, stage: &Fields<'_>, service: &DraftService) {
        for item in ["env", "secrets"].iter().filter_map(|key| stage.get(key)) {
            let Value::Map(entries) = &item.node.value else { continue };
            for entry in entries {
                let mut names = service.ports.keys();
                let help = if &*entry.key == "PORT" {
                    "read it in the program, or write `listen` when the program insists on a port"
                } else if names.any(|name| *entry.key == format!("PORT_{}", name.variable())) {
                    "read it in the program: it belongs to the port of that name"
                } else {
                    continue;
                };
                let message = format!("the service is given `{}`", entry.key);
                self.report(Problem::new("reserved-name", entry.span, message).help(help));
            }
        }
    }

    /// A whole number that its bounds keep small, with its place.
    fn count(&mut self, fields: &Fields<'_>, key: &str) -> Option<Spanned<u32>> {
        let value = u32::try_from(self.whole(fields, key)?).ok()?;
        Some(Spanned { value, span: fields.get(key)?.span() })
    }

    fn ready(&mut self, item: Item<'_>) -> DraftReady {
        let Some(fields) = self.fields(item, &READY) else { return DraftReady::default() };
        let http = fields.get("http").and_then(|item| self.http_path(item));
        let run = fields.get("run").and_then(|item| self.command(item));
        let tcp = fields.get("tcp");
        if tcp.and_then(|item| self.boolean(item)) == Some(false) {
            self.report(
                Problem::new("bad-ready", item.name_span, "`tcp: false` does not say how to ask")
                    .help("remove it, or write `http` or `run` instead"),
            );
        }
        let kinds = ["http", "tcp", "run"].into_iter().filter(|key| fields.get(key).is_some());
        if kinds.count() > 1 {
            self.report(
                Problem::new(
                    "bad-ready",
                    item.name_span,
                    "`ready` takes one of `http`, `tcp` and `run`",
                )
                .help("keep one of them"),
            );
        }
        DraftReady {
            probe: http
                .map(DraftProbe::Http)
                .or_else(|| run.map(DraftProbe::Run))
                .unwrap_or_default(),
            within: fields.get("within").and_then(|item| self.duration(item)),
            interval: fields.get("interval").and_then(|item| self.duration(item)),
        }
    }

    fn alive(&mut self, item: Item<'_>) -> Option<Spanned<Alive>> {
        let fields = self.fields(item, &ALIVE)?;
        let http = fields.get("http").and_then(|item| self.http_path(item));
        let interval = fields.get("interval").and_then(|item| self.duration(item));
        let failures = self.count(&fields, "failures");
        let value = Alive {
            http: http?.value,
            interval: interval.unwrap_or(ALIVE_INTERVAL),
            failures: failures.map_or(ALIVE_FAILURES, |failures| failures.value),
        };
        Some(Spanned { value, span: item.name_span })
    }

    /// `route`, in normal form.
    fn route(&mut self, item: Item<'_>) -> Option<Spanned<String>> {
        if !item.is_map() {
            return self.route_path(item);
        }
        let fields = self.fields(item, &ROUTE)?;
        if let Some(span) = fields.key_span("weight") {
            self.not_available(span, "`weight`");
            self.whole(&fields, "weight");
        }
        fields.get("path").and_then(|item| self.route_path(item))
    }

    fn route_path(&mut self, item: Item<'_>) -> Option<Spanned<String>> {
        let Spanned { value, span } = self.http_path(item)?;
        let path = value.trim_end_matches('/');
        let odd = |part: &str| matches!(part, "" | "." | "..");
        if path.contains('?') || path.split('/').skip(1).any(odd) {
            let message =
                format!("`{}` of `{}` cannot lead to a service", short(&value), item.name);
            self.report(Problem::new("bad-path", span, message).help("write it like `/iris`"));
            return None;
        }
        let value = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
        Some(Spanned { value, span })
    }

    /// A path as it stands in a request, perhaps with a query.
    fn http_path(&mut self, item: Item<'_>) -> Option<Spanned<String>> {
        let text = self.spanned_text(item)?;
        let plain = |c: char| c.is_ascii_graphic() && c != '#';
        let help = if !text.value.starts_with('/') {
            "begin it with `/`"
        } else if !text.value.chars().all(plain) {
            "write other characters than letters, digits and marks as `%20`"
        } else {
            return Some(text);
        };
        let message =
            format!("`{}` of `{}` is no path of an address", short(&text.value), item.name);
        self.report(Problem::new("bad-path", text.span, message).help(help));
        None
    }

    /// `volumes` of the file.
    pub(super) fn volumes(&mut self, item: Item<'_>, draft: &mut Draft) {
        for item in self.entries(item).unwrap_or_default() {
            match self.own_name::<VolumeName>(item, "the volume") {
                Some(name) => {
                    draft.volumes.insert(name);
                }
                None => {
                    draft.refused_names.insert(item.name.to_owned());
                }
            }
            let Some(fields) = self.fields(item, &VOLUME) else { continue };
            if let Some(item) = fields.get("size") {
                self.size(item);
                if !draft.container_keys.contains(&"size") {
                    draft.container_keys.push("size");
                }
            }
        }
    }

    /// `volumes` of a stage.
    pub(super) fn volumes_used(&mut self, item: Item<'_>) -> Spanned<Vec<DraftVolume>> {
        let used = self.entries(item).unwrap_or_default().into_iter().map(|item| DraftVolume {
            name: Spanned { value: item.name.to_owned(), span: item.name_span },
            path: self.volume_path(item),
        });
        Spanned { value: used.collect(), span: item.name_span }
    }

    /// A path below the base, or an absolute one: the format has those for containers.
    fn volume_path(&mut self, item: Item<'_>) -> Option<Spanned<String>> {
        let text = self.spanned_text(item)?;
        let Some(inside) = text.value.strip_prefix('/') else { return self.path_below(item) };
        let (why, help) = match normal(inside.trim_start_matches('/')) {
            Ok(path) if path == "." => ("is the whole filesystem", "name a folder in it"),
            Ok(path) if TAKEN.contains(&path.split('/').next().unwrap_or_default()) => {
                ("is a place that containers need for themselves", "choose another folder")
            }
            Ok(path) => {
                self.only_in_containers(
                    text.span,
                    format!("a volume at the absolute path `/{path}` needs `--runtime docker`"),
                    "write a path below the base, or use `--runtime docker`",
                );
                return Some(Spanned { value: format!("/{path}"), span: text.span });
            }
            Err((LEAVES, _)) => ("leads above `/`", "write it without `..`"),
            Err(wrong) => wrong,
        };
        let message = format!("`{}` of `{}` {why}", short(&text.value), short(item.name));
        self.report(Problem::new("bad-path", text.span, message).help(help));
        None
    }
}
