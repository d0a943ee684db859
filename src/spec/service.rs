//! `service`: checked now, available later.

use super::draft::{DraftCommand, DraftService};
use super::keys::{ALIVE, READY, ROUTE, SERVICE};
use super::problem::Problem;
use super::reader::{Item, Reader, Spanned};
use super::yaml::short;
use crate::names::ParamName;

impl Reader<'_> {
    /// Reads and checks the keys of `service`.
    pub(super) fn service(&mut self, item: Item<'_>) -> DraftService {
        self.not_available(item.name_span, "`service`");
        let mut service = DraftService::default();
        let Some(fields) = self.fields(item, &SERVICE) else { return service };
        for key in ["port", "listen"] {
            fields.get(key).map(|item| self.port(item));
        }
        self.choice(&fields, "protocol");
        for item in fields.get("ports").and_then(|item| self.entries(item)).unwrap_or_default() {
            self.own_name::<ParamName>(item, "the port");
            self.port(item);
        }
        if let Some(value) = self.whole(&fields, "replicas") {
            let span = fields.get("replicas").map_or(fields.span, |item| item.span());
            service.replicas = Some(Spanned { value, span });
        }
        if let Some(item) = fields.get("ready") {
            self.ready(item, &mut service);
        }
        if let Some(fields) = fields.get("alive").and_then(|item| self.fields(item, &ALIVE)) {
            if let Some(item) = fields.get("http") {
                self.http_path(item);
            }
            fields.get("interval").map(|item| self.duration(item));
            self.whole(&fields, "failures");
        }
        fields.get("drain").map(|item| self.duration(item));
        if let Some(item) = fields.get("route") {
            if item.is_map() {
                if let Some(fields) = self.fields(item, &ROUTE) {
                    if let Some(item) = fields.get("path") {
                        self.http_path(item);
                    }
                    self.whole(&fields, "weight");
                }
            } else {
                self.http_path(item);
            }
        }
        if let Some(item) = fields.get("gate") {
            service.gate = self.conditions(item);
        }
        service.verify = fields.get("verify").and_then(|item| self.spanned_text(item));
        service
    }

    fn ready(&mut self, item: Item<'_>, service: &mut DraftService) {
        let Some(fields) = self.fields(item, &READY) else { return };
        if let Some(item) = fields.get("http") {
            self.http_path(item);
        }
        fields.get("tcp").map(|item| self.boolean(item));
        for key in ["within", "interval"] {
            fields.get(key).map(|item| self.duration(item));
        }
        match fields.get("run").and_then(|item| self.command(item)) {
            Some(DraftCommand::Shell(template)) => service.ready.push(template),
            Some(DraftCommand::List(templates)) => service.ready.extend(templates),
            None => {}
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
    }

    fn http_path(&mut self, item: Item<'_>) {
        let Some(text) = self.text(item) else { return };
        if !text.starts_with('/') || text.contains(char::is_whitespace) {
            let message = format!("`{}` of `{}` is no path of an address", short(text), item.name);
            self.report(Problem::new("bad-path", item.span(), message).help("begin it with `/`"));
        }
    }
}
