//! A small release for tests.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Behaviour, Probe, Protocol, RELEASE_FORMAT, Ready, Release, ReleaseNotes, Serving};
use crate::digest::Digest;
use crate::event::testing::snapshot;
use crate::names::{ReleaseId, RunId, ServiceId};
use crate::scalar::Scalar;

/// `iris/serve`, from such a text.
pub(crate) fn service(text: &str) -> ServiceId {
    let (pipeline, stage) = text.split_once('/').unwrap();
    ServiceId { pipeline: pipeline.parse().unwrap(), stage: stage.parse().unwrap() }
}

/// Python that answers on port 8000.
pub(crate) fn behaviour() -> Behaviour {
    Behaviour {
        format: RELEASE_FORMAT,
        command: vec!["python".to_owned(), "serve.py".to_owned()],
        env: BTreeMap::new(),
        environment: Digest::of(b"environment"),
        platform: "linux/x86_64 3.12.1".to_owned(),
        files: Digest::of(b"files"),
        inputs: BTreeMap::new(),
        params: BTreeMap::new(),
        workdir: String::new(),
        serving: Serving {
            port: 8000,
            listen: None,
            protocol: Protocol::Http,
            ports: BTreeMap::new(),
            ready: Ready {
                probe: Probe::Http("/readyz".to_owned()),
                within: Duration::from_mins(1),
                interval: Duration::from_secs(1),
            },
            alive: None,
            drain: Duration::from_secs(30),
        },
        volumes: BTreeMap::new(),
        cpu: None,
        memory: None,
        gpu: 0,
        limit: false,
        services: BTreeMap::new(),
        network: String::new(),
        secrets: BTreeMap::new(),
        container: None,
    }
}

/// One replica at `/iris`, gated, of run 1.
pub(crate) fn notes() -> ReleaseNotes {
    ReleaseNotes {
        run: RunId::new(1_700_000_000_000, 1),
        snapshot: snapshot(),
        file_name: "pipeline.yaml".to_owned(),
        files: None,
        definition: None,
        image: None,
        lock: "numpy==1.26.4\nscipy==1.13.0\n".to_owned(),
        passed: BTreeMap::new(),
        metrics: [("evaluate".parse().unwrap(), [("accuracy".to_owned(), 0.95)].into())].into(),
        values: [("train".parse().unwrap(), [("best".to_owned(), Scalar::plain("7"))].into())]
            .into(),
        replicas: 1,
        route: Some("/iris".to_owned()),
        gate: vec!["evaluate.accuracy >= 0.9".to_owned()],
    }
}

/// Release `number` of `iris/serve`, made so many seconds after run 1.
pub(crate) fn release(number: u64) -> Release {
    let made_at = 1_700_000_000_000 + number * 1000;
    Release {
        id: ReleaseId::new(made_at, u128::from(number)),
        service: service("iris/serve"),
        number,
        behaviour: behaviour(),
        notes: notes(),
        made_at,
    }
}
