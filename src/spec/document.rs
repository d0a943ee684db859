//! The top of the file → [`Draft`].

use super::draft::{Draft, DraftStage};
use super::keys::{FILE, SOURCE};
use super::pipeline::SourceRef;
use super::problem::{Problem, Span};
use super::reader::{Item, Reader};
use super::scalars::bad_name;
use super::yaml::{Node, Value, short};
use crate::names::{ParamName, PipelineName, StageName};
use crate::scalar::Scalar;

/// What a file's `version` says before anything else is read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// Ours, or missing: read on.
    Two,
    /// Something else: this is the file's one problem.
    Other(Problem),
}

/// Looks at `version` alone: a file of another version would only give problems that mislead.
pub(super) fn version(root: &Node) -> Version {
    let Value::Map(entries) = &root.value else { return Version::Two };
    let Some(entry) = entries.iter().find(|entry| &*entry.key == "version") else {
        return Version::Two;
    };
    let Value::Scalar { text, .. } = &entry.node.value else { return Version::Two };
    match &**text {
        "2" => Version::Two,
        "1.0" | "1.1" => Version::Other(
            Problem::new("not-available", entry.node.span, "Bodywork files are not available yet")
                .help("write the pipeline in version \"2\"")
                .label("a version of Bodywork"),
        ),
        _ if entry.node.is_null() => Version::Two,
        other => Version::Other(
            Problem::new(
                "unknown-version",
                entry.node.span,
                format!("there is no version `{}` of the format", short(other)),
            )
            .help("write `version: \"2\"`"),
        ),
    }
}

impl Reader<'_> {
    /// Reads the whole document.
    pub(super) fn document(&mut self, root: &Node) -> Option<Draft> {
        let top = Item { name: "the file", name_span: (0, self.text.len().min(1)), node: root };
        if !top.is_map() {
            let problem =
                Problem::new("wrong-type", root.span, "a pipeline file must be a map of keys")
                    .help("begin it with `version: \"2\"`");
            if !matches!(root.value, Value::Broken) {
                self.report(problem);
            }
            return None;
        }
        let fields = self.fields(top, &FILE)?;
        let mut draft = Draft::default();
        if let Some(item) = fields.get("version") {
            // Another version never gets here; what is no text at all does.
            self.text(item);
        }
        if let Some(item) = fields.get("name")
            && let Some(text) = self.text(item)
        {
            match text.parse::<PipelineName>() {
                Ok(name) => draft.name = Some(name),
                Err(error) => self.report(bad_name(text, item.span(), "the pipeline", &error)),
            }
        }
        draft.source = fields.get("source").and_then(|item| self.source(item));
        for item in fields.get("params").and_then(|item| self.entries(item)).unwrap_or_default() {
            let param = self.param(item);
            match self.own_name::<ParamName>(item, "the parameter") {
                Some(name) => {
                    draft.params.insert(name, (param, item.name_span));
                }
                None => {
                    draft.refused_names.insert(item.name.to_owned());
                }
            }
        }
        if let Some(item) = fields.get("defaults") {
            draft.defaults = self.defaults(item, &mut draft.container_keys);
        }
        if let Some(item) = fields.get("stages") {
            self.stages(item, &mut draft);
        }
        draft.on_failure = fields.get("on_failure").and_then(|item| self.spanned_text(item));
        draft.on_exit = fields.get("on_exit").and_then(|item| self.spanned_text(item));
        draft.timeout = fields.get("timeout").and_then(|item| self.duration(item));
        for key in ["schedule", "targets"] {
            if let Some(span) = fields.key_span(key) {
                self.not_available(span, &format!("`{key}`"));
            }
        }
        if let Some(item) = fields.get("schedule") {
            self.schedule(item);
        }
        if let Some(item) = fields.get("volumes") {
            self.volumes(item, &mut draft);
        }
        if let Some(item) = fields.get("targets") {
            self.targets(item, &mut |reader, item, value| {
                reader.target_param(&draft, item, &value);
            });
        }
        Some(draft)
    }

    fn stages(&mut self, item: Item<'_>, draft: &mut Draft) {
        let Some(items) = self.entries(item) else { return };
        if items.is_empty() {
            self.report(
                Problem::new("no-stages", item.name_span, "the pipeline has no stages")
                    .help("add a stage, like `hello: {run: echo hello}`"),
            );
        }
        for item in items {
            let stage = self.stage(item, &mut draft.container_keys).unwrap_or_else(|| DraftStage {
                span: item.name_span,
                broken: true,
                ..DraftStage::default()
            });
            match self.own_name::<StageName>(item, "the stage") {
                Some(name) => {
                    draft.stages.insert(name, stage);
                }
                None => {
                    draft.refused_names.insert(item.name.to_owned());
                }
            }
        }
    }

    fn target_param(&mut self, draft: &Draft, item: Item<'_>, value: &Scalar) {
        if let Some((Some(param), _)) = draft.params.get(item.name)
            && let Err(why) = param.fits(value)
        {
            let message = format!("`{}` {why}", item.name);
            self.report(
                Problem::new("bad-default", item.span(), message).help("give a value of its type"),
            );
        } else if !draft.params.contains_key(item.name) {
            self.unknown_param(draft, item.name, item.name_span);
        }
    }

    fn source(&mut self, item: Item<'_>) -> Option<SourceRef> {
        let fields = self.fields(item, &SOURCE)?;
        let reference = fields.get("ref").and_then(|item| self.spanned_text(item));
        if let Some(reference) = &reference
            && (reference.value.starts_with('-') || reference.value.contains(char::is_whitespace))
        {
            let message = format!("`{}` is no branch, tag or commit", short(&reference.value));
            self.report(
                Problem::new("bad-source", reference.span, message)
                    .help("write the name of a branch or tag, or a commit"),
            );
        }
        let git = fields.get("git").and_then(|item| self.spanned_text(item))?;
        self.check_git(&git.value, git.span);
        Some(SourceRef { git: git.value, reference: reference.map(|reference| reference.value) })
    }

    fn check_git(&mut self, git: &str, span: Span) {
        let scheme = git.split_once("://").map(|(scheme, _)| scheme);
        let known = scheme.is_none_or(|scheme| ["https", "ssh", "file"].contains(&scheme));
        if !known || git.starts_with('-') || git.contains("::") || git.chars().any(char::is_control)
        {
            let message = format!("`{}` is no address of a repository that is fetched", short(git));
            self.report(
                Problem::new("bad-source", span, message)
                    .help("write an https, ssh or file address, `git@host:path`, or a local path"),
            );
        }
        let userinfo = git.split_once("://").and_then(|(_, rest)| {
            let host = rest.split('/').next().unwrap_or_default();
            host.split_once('@').map(|(user, _)| user)
        });
        if userinfo.is_some_and(|user| user.contains(':')) {
            self.warn(
                Problem::new("password-in-address", span, "the address holds a password")
                    .help("remove it, and let git's credential helper answer"),
            );
        }
    }
}
