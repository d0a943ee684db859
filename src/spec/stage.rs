//! `defaults` and the keys of a stage → [`DraftStage`].

use super::draft::{DraftCommand, DraftDefaults, DraftStage};
use super::keys::{DEFAULTS, PICK, STAGE};
use super::pipeline::{Cache, Pick};
use super::problem::Problem;
use super::quantity::duration;
use super::reader::{Fields, Item, Reader, Spanned};
use super::yaml::short;
use crate::names::{AxisName, OutputName, ParamName};

/// Keys that only batch stages have.
const BATCH: [&str; 8] =
    ["outputs", "metrics", "values", "matrix", "pick", "cache", "retries", "timeout"];

/// Copies that one matrix may make.
const MOST_COPIES: usize = 1000;

impl Reader<'_> {
    /// `defaults`
    pub(super) fn defaults(
        &mut self,
        item: Item<'_>,
        container_keys: &mut Vec<&'static str>,
    ) -> DraftDefaults {
        match self.fields(item, &DEFAULTS) {
            Some(fields) => self.shared(&fields, container_keys),
            None => DraftDefaults::default(),
        }
    }

    /// The keys that `defaults` and a stage share.
    fn shared(
        &mut self,
        fields: &Fields<'_>,
        container_keys: &mut Vec<&'static str>,
    ) -> DraftDefaults {
        for key in ["image", "build", "pull", "container"] {
            if fields.get(key).is_some() && !container_keys.contains(&key) {
                container_keys.push(key);
            }
        }
        let env = fields.get("env").and_then(|item| self.entries(item)).unwrap_or_default();
        let env = env.into_iter().filter_map(|item| {
            let name = self.variable(item);
            let value = self.template(item);
            Some((name?, value?))
        });
        let env = env.collect();
        DraftDefaults {
            env,
            secrets: fields.get("secrets").map(|item| self.secrets(item)).unwrap_or_default(),
            python: fields.get("python").and_then(|item| self.python(item)),
            requirements: fields.get("requirements").and_then(|item| self.requirements(item)),
            requirements_file: fields
                .get("requirements_file")
                .and_then(|item| self.path_below(item))
                .map(|path| path.value),
            resources: fields.get("resources").and_then(|item| self.resources(item)),
            retries: fields.get("retries").and_then(|item| self.retries(item)),
            timeout: fields.get("timeout").and_then(|item| self.duration(item)),
            image: self.image_of(fields),
            pull: self.pull(fields),
            container: fields.get("container").map(|item| self.container(item)),
        }
    }

    /// One stage. `None` when it is no map.
    pub(super) fn stage(
        &mut self,
        item: Item<'_>,
        container_keys: &mut Vec<&'static str>,
    ) -> Option<DraftStage> {
        let fields = self.fields(item, &STAGE)?;
        let mut stage = DraftStage {
            span: item.name_span,
            own: self.shared(&fields, container_keys),
            has_run: fields.get("run").is_some(),
            has_pick: fields.get("pick").is_some(),
            matrix_span: fields.key_span("matrix"),
            uses: fields.key_span("uses"),
            ..DraftStage::default()
        };
        stage.needs = fields.get("needs").and_then(|item| self.texts(item)).unwrap_or_default();
        stage.params = fields.get("params").and_then(|item| self.texts(item)).unwrap_or_default();
        if let Some(item) = fields.get("when") {
            stage.when = self.conditions(item);
        }
        stage.run = fields.get("run").and_then(|item| self.command(item));
        if let Some(item) = fields.get("args") {
            let value = self.templates(item).unwrap_or_default();
            stage.args = Some(Spanned { value, span: item.name_span });
        }
        if let Some(item) = fields.get("inputs") {
            self.inputs(item, &mut stage);
        }
        for item in fields.get("outputs").and_then(|item| self.entries(item)).unwrap_or_default() {
            let name = self.own_name::<OutputName>(item, "the output");
            if let (Some(name), Some(path)) = (name, self.path_below(item)) {
                stage.outputs.insert(name, path);
            } else {
                stage.unreadable.insert(item.name.to_owned());
            }
        }
        stage.metrics = fields.get("metrics").and_then(|item| self.path_below(item));
        stage.values = fields.get("values").and_then(|item| self.path_below(item));
        stage.files = fields.get("files").and_then(|item| self.globs(item));
        stage.workdir = fields.get("workdir").and_then(|item| self.path(item)).map(|p| p.value);
        if let Some(item) = fields.get("matrix") {
            self.matrix(item, &mut stage);
        }
        if let Some(item) = fields.get("pick") {
            let span = item.name_span;
            stage.pick = self.pick(item).map(|value| Spanned { value, span });
        }
        if let Some(item) = fields.get("cache") {
            stage.cache = self.cache(item).map(|value| Spanned { value, span: item.name_span });
        }
        if let Some(item) = fields.get("volumes") {
            stage.volumes = Some(self.volumes_used(item));
        }
        if let Some(item) = fields.get("uses") {
            self.text(item);
            self.not_available(item.name_span, "`uses`");
        }
        if let Some(item) = fields.get("with") {
            for item in self.entries(item).unwrap_or_default() {
                self.template(item);
            }
            if stage.uses.is_none() {
                self.report(
                    Problem::new("with-without-uses", item.name_span, "`with` needs `uses`")
                        .help("name a stage under `uses`, or write `env` or `params`"),
                );
            }
        }
        for key in ["python", "requirements", "requirements_file"] {
            if let Some(span) = fields.key_span(key) {
                stage.run_keys.push(Spanned { value: key, span });
            }
        }
        for key in BATCH {
            if let Some(span) = fields.key_span(key) {
                stage.batch_keys.push(Spanned { value: key, span });
            }
        }
        if let Some(item) = fields.get("service") {
            let service = self.service(item);
            self.given_variables(&fields, &service);
            stage.service = Some(service);
        }
        Some(stage)
    }

    /// `run`: text for the shell, or a list.
    pub(super) fn command(&mut self, item: Item<'_>) -> Option<DraftCommand> {
        if !item.is_list() {
            if item.is_map() {
                self.wrong_type(item, "text or a list");
                return None;
            }
            let text = self.raw_text(item)?;
            if text.trim().is_empty() {
                self.no_command(item);
                return None;
            }
            return self.template(item).map(DraftCommand::Shell);
        }
        if self.list(item)?.is_empty() {
            self.no_command(item);
            return None;
        }
        self.templates(item).map(DraftCommand::List)
    }

    fn no_command(&mut self, item: Item<'_>) {
        self.report(
            Problem::new("no-value", item.span(), format!("`{}` is empty", item.name))
                .help("write what is executed, or remove the key"),
        );
    }

    fn python(&mut self, item: Item<'_>) -> Option<String> {
        let text = self.text(item)?;
        let parts: Vec<&str> = text.split('.').collect();
        let number = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
        if (2..=3).contains(&parts.len()) && parts[0] == "3" && parts.iter().all(number) {
            return Some(text.to_owned());
        }
        let message = format!("`{}` is no version of Python 3", short(text));
        self.report(
            Problem::new("bad-python", item.span(), message).help("write it like `\"3.12\"`"),
        );
        None
    }

    fn requirements(&mut self, item: Item<'_>) -> Option<Vec<String>> {
        let mut lines = Vec::new();
        for line in self.texts(item)? {
            let text = line.value.trim();
            let problem = if text.contains('\n') {
                Some(("holds more than one line", "write one item of the list for each line"))
            } else if text.starts_with("-e") || text.starts_with("--editable") {
                Some((
                    "is an editable install",
                    "install the package itself, or put its folder on `PYTHONPATH` in `env`",
                ))
            } else if text.starts_with("-r ") || text.starts_with("--requirement") {
                Some(("names a file", "write `requirements_file`"))
            } else {
                None
            };
            match problem {
                None => lines.push(text.to_owned()),
                Some((why, help)) => {
                    let message = format!("`{}` {why}", short(text));
                    self.report(Problem::new("bad-requirement", line.span, message).help(help));
                }
            }
        }
        Some(lines)
    }

    fn globs(&mut self, item: Item<'_>) -> Option<Vec<String>> {
        let mut globs = Vec::new();
        for glob in self.texts(item)? {
            let text = glob.value.strip_prefix("./").unwrap_or(&glob.value);
            let wrong = if text.starts_with('/') {
                Some((
                    "is an absolute path".to_owned(),
                    "write it relative to the folder of the pipeline file".to_owned(),
                ))
            } else if text.split('/').any(|part| part == "..") {
                Some((
                    "leaves the base".to_owned(),
                    "name files below the folder of the pipeline file".to_owned(),
                ))
            } else if text.starts_with('!') {
                Some((
                    "begins with `!`, which excludes nothing here".to_owned(),
                    "list what the stage sees".to_owned(),
                ))
            } else if text.ends_with('/') {
                Some((
                    "names a folder, and folders match no file".to_owned(),
                    format!("write `{text}**`"),
                ))
            } else if let Err(error) = globset::Glob::new(text) {
                Some((format!("is no glob: {}", error.kind()), "mend the pattern".to_owned()))
            } else {
                None
            };
            match wrong {
                None => globs.push(text.to_owned()),
                Some((why, help)) => {
                    let message = format!("`{}` {why}", short(text));
                    self.report(Problem::new("bad-glob", glob.span, message).help(help));
                }
            }
        }
        Some(globs)
    }

    fn matrix(&mut self, item: Item<'_>, stage: &mut DraftStage) {
        let mut copies = 1_usize;
        for axis in self.entries(item).unwrap_or_default() {
            let name: Option<AxisName> = self.own_name(axis, "the axis");
            let Some(items) = self.list(axis) else { continue };
            if items.is_empty() {
                let message = format!("the axis `{}` has no values", short(axis.name));
                self.report(
                    Problem::new("no-value", axis.name_span, message)
                        .help("give it at least one value, or remove it"),
                );
            }
            copies = copies.saturating_mul(items.len().max(1));
            let mut values = Vec::new();
            let mut seen = std::collections::HashSet::new();
            for item in items {
                let Some(value) = self.single(item) else { continue };
                if !seen.insert(value.to_string()) {
                    let message = format!(
                        "`{}` stands twice in the axis `{}`",
                        short(&value.to_string()),
                        short(axis.name)
                    );
                    self.report(
                        Problem::new("duplicate-value", item.span(), message).help("keep one"),
                    );
                }
                values.push(value);
            }
            match name {
                Some(name) => {
                    stage.matrix.insert(name, values);
                }
                None => {
                    stage.unreadable.insert(axis.name.to_owned());
                }
            }
        }
        if copies > MOST_COPIES {
            let message = format!("the matrix makes {copies} tasks, more than {MOST_COPIES}");
            self.report(
                Problem::new("matrix-too-large", item.name_span, message)
                    .help("remove values, or split the stage"),
            );
        }
    }

    fn pick(&mut self, item: Item<'_>) -> Option<Pick> {
        let fields = self.fields(item, &PICK)?;
        let max = fields.get("max").and_then(|item| self.text(item));
        let min = fields.get("min").and_then(|item| self.text(item));
        match (max, min) {
            (Some(metric), None) => Some(Pick { metric: metric.to_owned(), largest: true }),
            (None, Some(metric)) => Some(Pick { metric: metric.to_owned(), largest: false }),
            _ => {
                self.report(
                    Problem::new("bad-pick", fields.span, "`pick` needs one of `max` and `min`")
                        .help("write it like `pick: {max: accuracy}`"),
                );
                None
            }
        }
    }

    fn cache(&mut self, item: Item<'_>) -> Option<Cache> {
        let wanted = "`true`, `false`, `only` or a duration";
        match item.scalar() {
            Some(("true", true)) => Some(Cache::On),
            Some(("false", true)) => Some(Cache::Off),
            Some(("only", _)) => Some(Cache::Only),
            Some((text, _)) if text.starts_with(|c: char| c.is_ascii_digit()) => {
                self.duration(item).map(Cache::For)
            }
            Some((text, _)) => {
                debug_assert!(duration(text).is_err());
                self.wrong_type(item, wanted);
                None
            }
            None => {
                self.wrong_type(item, wanted);
                None
            }
        }
    }

    /// Reports a parameter that the file does not declare; quiet when its declaration was refused.
    pub(super) fn unknown_param(
        &mut self,
        draft: &super::draft::Draft,
        name: &str,
        span: super::problem::Span,
    ) {
        if self.is_full() || draft.refused_names.contains(name) {
            return;
        }
        let names = draft.params.keys().map(ParamName::as_str);
        let problem =
            Problem::new("unknown-param", span, format!("there is no parameter `{}`", short(name)))
                .suggest(super::problem::nearest(name, names));
        let problem = problem
            .help_else(format!("declare it under `params` at the top: `{}: …`", short(name)));
        self.report(problem);
    }
}
