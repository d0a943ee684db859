//! A checked pipeline and a snapshot → everything a run or a plan needs to know before it starts.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::asked::Asked;
use super::environments;
use super::error::CliError;
use super::ground::Ground;
use super::place::{self, Place};
use crate::environment::Definition;
use crate::event::{Created, JOURNAL_VERSION, SnapshotId};
use crate::names::StageName;
use crate::plan::KeyContext;
use crate::scalar::Scalar;
use crate::secret::SecretId;
use crate::spec::Pipeline;
use crate::spec::pipeline::Service;

/// What is fixed before a run starts.
#[derive(Clone)]
pub(crate) struct Prepared {
    /// What was asked for.
    pub(crate) asked: Asked,
    /// Where its stages run.
    pub(crate) ground: Ground,
    /// Per stage that has one.
    pub(crate) environments: BTreeMap<StageName, Definition>,
    /// The stable address of every service of the file, as stages reach it.
    pub(crate) service_urls: BTreeMap<StageName, String>,
    /// Versions of the secrets that are there; empty until `needed_secrets` looked.
    pub(crate) secret_versions: BTreeMap<SecretId, u64>,
}

impl Prepared {
    /// Resolves the environments of all stages that may run, and where services are reached from there.
    pub(crate) fn of(place: &Place, asked: Asked, ground: Ground) -> Result<Self, CliError> {
        let settings = place::environment(&place.home, &place.settings.caller);
        let environments = match ground.containers() {
            None => {
                asked.check_local()?;
                tokio::task::block_in_place(|| environments::local(&asked, &settings))?
            }
            Some(containers) => environments::in_images(&asked, containers)?,
        };
        let service_urls = service_urls(&asked.pipeline, place.settings.gateway.ip(), &ground);
        let secret_versions = BTreeMap::new();
        Ok(Self { asked, ground, environments, service_urls, secret_versions })
    }

    /// What a new run of this is made of.
    pub(crate) fn created(&self, cause: &str) -> Created {
        let asked = &self.asked;
        Created {
            version: JOURNAL_VERSION,
            pipeline: asked.pipeline.name.clone(),
            snapshot: asked.snapshot.id.clone(),
            file: asked.file.digest(),
            params: asked.params.clone(),
            selection: asked.selection.clone(),
            cause: cause.to_owned(),
            kept: None,
        }
    }

    /// What decides keys, for the run with this id (empty for a plan) of this snapshot.
    pub(crate) fn key_context(&self, run: &str, snapshot: &SnapshotId) -> KeyContext {
        let text = |value: &str| Scalar::Text(value.to_owned());
        let platform = |definition: &Definition| {
            format!(
                "{}/{} python {}",
                std::env::consts::OS,
                std::env::consts::ARCH,
                definition.python
            )
        };
        let environments = self
            .environments
            .iter()
            .map(|(stage, one)| (stage.clone(), (one.digest(), platform(one))))
            .collect();
        let run = BTreeMap::from([
            ("id".to_owned(), text(run)),
            ("commit".to_owned(), text(snapshot.commit.as_deref().unwrap_or_default())),
            ("ref".to_owned(), text(snapshot.reference.as_deref().unwrap_or_default())),
            ("dirty".to_owned(), Scalar::Bool(snapshot.dirty)),
            ("base".to_owned(), text(&snapshot.base)),
        ]);
        let mut context = self.asked.key_context();
        context.params = self.asked.params.clone();
        context.environments = environments;
        context.run = run;
        context.service_urls = self.service_urls.clone();
        context.images = self.ground.image_ids();
        context.secret_versions = self.secret_versions.clone();
        context
    }
}

/// Where stages reach each service of a file: in containers by a name that resolves to this machine on their network.
fn service_urls(
    pipeline: &Pipeline,
    address: IpAddr,
    ground: &Ground,
) -> BTreeMap<StageName, String> {
    let stages = pipeline.stages.values();
    let services = stages.filter_map(|stage| Some((&stage.name, stage.service()?)));
    let url = |name: &StageName, service: &Service| match ground {
        Ground::Local => service.protocol.url((address, service.port).into()),
        Ground::Docker(_) => service.protocol.url_of(&name.host_name(), service.port),
    };
    services.map(|(name, service)| (name.clone(), url(name, service))).collect()
}
