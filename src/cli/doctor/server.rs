//! The server of this home, and whether its gateway can have its port.

use std::net::TcpListener;

use tokio::sync::mpsc::unbounded_channel;

use super::{Finding, fail, ok, warn};
use crate::cli::error::CliError;
use crate::cli::place::Place;
use crate::cli::settings::Settings;
use crate::rollout::refused;
use crate::server::About;

pub(super) async fn check(settings: &Settings) -> Vec<Finding> {
    match about(settings).await {
        Ok(Some(about)) => running(&about),
        Ok(None) => vec![
            ok("server", "does not run; `flowrun apply` starts it when a service needs it"),
            free(settings),
        ],
        Err(error) => {
            let mend = "stop it with `flowrun server --stop`, or kill its process; replicas run on";
            vec![fail("server", error.to_string(), mend), free(settings)]
        }
    }
}

async fn about(settings: &Settings) -> Result<Option<About>, CliError> {
    let place = Place::open(settings).await?;
    let (told, _) = unbounded_channel();
    Ok(place.client(told)?.about_if_running().await?)
}

fn running(about: &About) -> Vec<Finding> {
    let server = ok("server", format!("process {}, flowrun {}", about.pid, about.version));
    let gateway = match &about.gateway_problem {
        None => ok("gateway", format!("http://{}", about.gateway)),
        Some(why) => warn(
            "gateway",
            format!("does not listen: {why}"),
            "set `gateway` to another port, then `flowrun server --stop`; the next server takes it",
        ),
    };
    vec![server, gateway]
}

fn free(settings: &Settings) -> Finding {
    let address = settings.gateway;
    match TcpListener::bind(address) {
        Ok(_) => ok("gateway", format!("{address} is free")),
        Err(error) => warn(
            "gateway",
            refused(address, &error),
            "set `gateway` to another port, or free this one",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Mark;

    #[test]
    fn a_gateway_without_its_port_is_worth_a_warning() {
        let mut about = About {
            pid: 7,
            version: "0.1.0".into(),
            since: 0,
            gateway: "127.0.0.1:8080".into(),
            gateway_problem: None,
            services: 0,
            memory: 0,
            works_with: None,
        };
        assert!(running(&about).iter().all(|one| one.mark == Mark::Ok));
        about.gateway_problem = Some("port 8080 is taken by another program".into());
        assert_eq!(running(&about)[1].mark, Mark::Warn);
    }
}
