//! What a report of a run knows of the services of its pipeline.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::names::{ReleaseId, StageName};
use crate::release::{Protocol, replaced_in_place};
use crate::spec::Pipeline;

/// A service before a run begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownService {
    /// Where people reach it: `http://127.0.0.1:8080/iris`.
    pub url: Option<String>,
    /// The live release and its number.
    pub live: Option<(ReleaseId, u64)>,
    /// The old release is stopped before the new one is started.
    pub in_place: bool,
}

/// The services of a pipeline whose routes are listened for at `gateway`; `live` has what is live. Containers (`in_containers`) may
/// all listen on one port.
pub fn known_services(
    pipeline: &Pipeline,
    gateway: SocketAddr,
    in_containers: bool,
    live: &BTreeMap<StageName, (ReleaseId, u64)>,
) -> BTreeMap<StageName, KnownService> {
    let services = pipeline.stages.values().filter_map(|stage| {
        let service = stage.service()?;
        let route = service.route.as_deref();
        let insists = service.listen.is_some() && !in_containers;
        let known = KnownService {
            url: Some(service_url(gateway, service.port, service.protocol, route)),
            live: live.get(&stage.name).copied(),
            in_place: replaced_in_place(!service.volumes.is_empty(), insists).is_some(),
        };
        Some((stage.name.clone(), known))
    });
    services.collect()
}

/// Where people reach a service: its route when it has one, else its own port at the gateway's address. With a gateway at any
/// free port only the server knows where routes are.
pub fn service_url(
    gateway: SocketAddr,
    port: u16,
    protocol: Protocol,
    route: Option<&str>,
) -> String {
    match (protocol, route) {
        (Protocol::Http, Some(route)) if gateway.port() != 0 => {
            format!("{}{route}", protocol.url(gateway))
        }
        _ => protocol.url((gateway.ip(), port).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_reached_by_its_route_or_its_port() {
        let url = |gateway: &str, protocol, route| {
            service_url(gateway.parse().unwrap(), 8000, protocol, route)
        };
        assert_eq!(
            url("127.0.0.1:8080", Protocol::Http, Some("/iris")),
            "http://127.0.0.1:8080/iris"
        );
        assert_eq!(url("0.0.0.0:8080", Protocol::Http, None), "http://127.0.0.1:8000");
        assert_eq!(url("[::1]:80", Protocol::Http, Some("/")), "http://[::1]:80/");
        assert_eq!(url("10.0.0.7:80", Protocol::Tcp, None), "tcp://10.0.0.7:8000");
        assert_eq!(url("127.0.0.1:0", Protocol::Http, Some("/iris")), "http://127.0.0.1:8000");
    }
}
