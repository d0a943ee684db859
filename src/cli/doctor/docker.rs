//! The Docker Engine, when one answers; without one only `--runtime docker` does not work.

use std::net::TcpListener;

use super::{Finding, fail, ok, warn};
use crate::cli::place::docker_to_ask;
use crate::cli::settings::{RuntimeChoice, Settings};
use crate::runtime::docker::{About, Docker};

const WHAT: &str = "docker";

pub(super) async fn check(settings: &Settings) -> Vec<Finding> {
    let docker = match docker_to_ask(settings) {
        Ok(docker) => docker,
        Err(error) => return vec![absent(settings, &error.to_string())],
    };
    match docker.about().await {
        Ok(about) => vec![ok(WHAT, told(&about)), reached(&docker).await],
        Err(error) => vec![absent(settings, &error.to_string())],
    }
}

/// Nothing is damaged by what nobody asked for.
fn absent(settings: &Settings, why: &str) -> Finding {
    match settings.runtime {
        RuntimeChoice::Docker => fail(WHAT, why, "start Docker, or set `runtime` to `local`"),
        RuntimeChoice::Local | RuntimeChoice::Auto => {
            ok(WHAT, format!("{why} (only `--runtime docker` needs it)"))
        }
    }
}

fn told(about: &About) -> String {
    let rootless = if about.rootless { ", rootless" } else { "" };
    format!("{}, {}, cgroups v{}{rootless}", about.version, about.storage, about.cgroups)
}

/// Containers reach the gateway at an address that this machine has on their networks.
async fn reached(docker: &Docker) -> Finding {
    const NETWORK: &str = "containers";
    let mend = "use an engine on this machine: services in containers reach each other through its gateway";
    match docker.usual_gateway().await {
        Ok(Some(address)) => match TcpListener::bind((address, 0)) {
            Ok(_) => ok(NETWORK, format!("reach this machine at {address}")),
            Err(error) => {
                warn(NETWORK, format!("{address} is no address of this machine: {error}"), mend)
            }
        },
        Ok(None) => warn(NETWORK, "the engine has no network `bridge`", mend),
        Err(error) => warn(NETWORK, error.to_string(), mend),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_told_on_one_line() {
        let about = About {
            version: "28.2".into(),
            rootless: true,
            storage: "overlay2".into(),
            cgroups: "2".into(),
        };
        assert_eq!(told(&about), "28.2, overlay2, cgroups v2, rootless");
    }
}
