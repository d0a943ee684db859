//! What decides how a service behaves → [`Behaviour`]; what its gate says.

use std::collections::BTreeMap;

use super::graph::PlannedTask;
use super::key::{KeyContext, Paths, ResolvedInputs, input_parts, network};
use super::scope::{Places, literal, scope, trial};
use super::{live, marks};
use crate::release::{
    Behaviour, Probe, RELEASE_FORMAT, Ready, ReleasedContainer, ReleasedSecret, Serving,
};
use crate::scalar::Scalar;
use crate::secret::SecretUse;
use crate::spec::expression::{EvalError, Expression, Piece};
use crate::spec::pipeline::{Command, ReadyProbe, Service, Stage};
use crate::spec::{Pipeline, Scope, Template};

mod changes;

pub use changes::{adjustments, release_changes};

/// What a gate says.
#[derive(Debug, Clone, PartialEq)]
pub struct GateAnswer {
    /// All expressions hold.
    pub passed: bool,
    /// The first that does not, as it stands in the file.
    pub failed: Option<String>,
    /// What the expressions name, by dotted path; none where it is none.
    pub values: BTreeMap<String, Option<Scalar>>,
}

impl KeyContext {
    /// What decides how the service of a task behaves, when its needs are all in `resolved`.
    ///
    /// An error also where an expression changes what is known only when a replica starts (`${{ inputs.model | upper }}`).
    pub fn behaviour(
        &self,
        pipeline: &Pipeline,
        task: &PlannedTask,
        resolved: &ResolvedInputs,
    ) -> Result<Behaviour, EvalError> {
        let stage = &pipeline.stages[&task.id.stage];
        let service = service_of(stage)?;
        let texts = Texts {
            scope: scope(self, stage, task, resolved, Places::Marks),
            trial: scope(self, stage, task, resolved, Places::Trial),
        };
        let (environment, platform) = self.environment(stage);
        let probe = match &service.ready {
            ReadyProbe::Http(path) => Probe::Http(path.clone()),
            ReadyProbe::Tcp => Probe::Tcp,
            ReadyProbe::Run(command) => Probe::Run(texts.command(command)?),
        };
        let needed = stage.needs.iter();
        let reached =
            needed.filter_map(|need| Some((need.clone(), self.service_urls.get(need)?.clone())));
        Ok(Behaviour {
            format: RELEASE_FORMAT,
            command: stage
                .run
                .as_ref()
                .map(|run| texts.command(run))
                .transpose()?
                .unwrap_or_default(),
            env: stage
                .env
                .iter()
                .map(|(name, value)| Ok((name.clone(), texts.plain(value)?)))
                .collect::<Result<_, EvalError>>()?,
            environment,
            platform,
            files: self.scan(stage).digest,
            inputs: input_parts(pipeline, stage, resolved)?,
            params: self.params_of(stage),
            workdir: stage.workdir.clone(),
            serving: Serving {
                port: service.port,
                listen: service.listen,
                protocol: service.protocol,
                ports: service.ports.iter().map(|(name, port)| (name.clone(), *port)).collect(),
                ready: Ready { probe, within: service.within, interval: service.interval },
                alive: service.alive.clone(),
                drain: service.drain,
            },
            volumes: service
                .volumes
                .iter()
                .map(|(name, path)| (name.clone(), path.clone()))
                .collect(),
            cpu: stage.resources.cpu,
            memory: stage.resources.memory,
            gpu: stage.resources.gpu,
            limit: stage.resources.limit,
            services: reached.collect(),
            network: network(stage).to_owned(),
            secrets: self.released_secrets(stage),
            container: match self.images.get(&stage.name) {
                None => None,
                Some(image) => Some(ReleasedContainer {
                    image: image.clone(),
                    args: match &stage.args {
                        None => None,
                        Some(args) => Some(
                            args.iter().map(|word| texts.plain(word)).collect::<Result<_, _>>()?,
                        ),
                    },
                    image_user: stage.container.image_user,
                    writable_root: stage.container.writable_root,
                    capabilities: stage.container.capabilities.clone(),
                }),
            },
        })
    }

    fn released_secrets(&self, stage: &Stage) -> BTreeMap<String, ReleasedSecret> {
        let released = |takes: &SecretUse| ReleasedSecret {
            version: self.secret_versions.get(&takes.id).copied(),
            takes: takes.clone(),
        };
        let secrets = stage.secrets.iter();
        secrets.map(|(variable, takes)| (variable.clone(), released(takes))).collect()
    }

    /// What the gate of a service says; `live` in it is the service's own live release in `resolved.live`.
    pub fn gate(
        &self,
        pipeline: &Pipeline,
        task: &PlannedTask,
        resolved: &ResolvedInputs,
    ) -> Result<GateAnswer, EvalError> {
        let stage = &pipeline.stages[&task.id.stage];
        let gate = &service_of(stage)?.gate;
        if gate.is_empty() {
            return Ok(GateAnswer { passed: true, failed: None, values: BTreeMap::new() });
        }
        let no_paths = Paths::default();
        let mut scope = scope(self, stage, task, resolved, Places::Real(&no_paths));
        live::set_own(&mut scope, resolved.live.get(&stage.name));
        let values = gate.iter().flat_map(|expression| expression.named(&scope)).collect();
        for expression in gate {
            if !expression.holds(&scope)? {
                let failed = Some(expression.source.clone());
                return Ok(GateAnswer { passed: false, failed, values });
            }
        }
        Ok(GateAnswer { passed: true, failed: None, values })
    }
}

fn service_of(stage: &Stage) -> Result<&Service, EvalError> {
    stage.service().ok_or_else(|| EvalError {
        source_text: stage.name.to_string(),
        why: "is no service".to_owned(),
    })
}

/// Expands the texts of a service, with marks for what is known only when a replica starts.
struct Texts {
    scope: Scope,
    /// The same with other texts for marks: what comes of an expression must differ in these alone.
    trial: Scope,
}

impl Texts {
    fn command(&self, command: &Command) -> Result<Vec<String>, EvalError> {
        match command {
            Command::List(words) => words.iter().map(|word| self.plain(word)).collect(),
            Command::Shell(text) => {
                let text = self.expanded(text, |value| marks::word(&value))?;
                Ok(vec!["sh".to_owned(), "-e".to_owned(), "-c".to_owned(), text])
            }
        }
    }

    fn plain(&self, template: &Template) -> Result<String, EvalError> {
        self.expanded(template, |value| value)
    }

    fn expanded(
        &self,
        template: &Template,
        written: impl Fn(String) -> String,
    ) -> Result<String, EvalError> {
        if let Some(text) = literal(template) {
            return Ok(text);
        }
        let mut text = String::new();
        for piece in &template.0 {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Expression(expression) => text.push_str(&written(self.value(expression)?)),
            }
        }
        Ok(text)
    }

    fn value(&self, expression: &Expression) -> Result<String, EvalError> {
        let text =
            |scope: &Scope| Template(vec![Piece::Expression(expression.clone())]).expand(scope);
        let value = text(&self.scope)?;
        let filled = marks::fill_with(&value, &|name| Some(trial(name)));
        if filled.ok() != text(&self.trial).ok() {
            return Err(EvalError {
                source_text: expression.source.clone(),
                why: format!("changes a value that is known only at the start; {}", marks::MEND),
            });
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests;
