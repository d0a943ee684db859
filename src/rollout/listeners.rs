//! The stable addresses of a service: its port, and the further ones by name. A service of containers listens on the network of
//! its pipeline too, where other containers reach it by its host name.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::place::Place;
use crate::gateway::{Listener, PoolName};
use crate::names::ServiceId;
use crate::release::{Behaviour, Protocol};

/// What is bound.
pub(super) type Bound = BTreeMap<Spot, (Listener, Wanted)>;

/// A port on one side of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) side: Side,
    pub(super) port: u16,
}

/// From where something is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    /// Where the settings say.
    Machine,
    /// The network of the pipeline.
    Network,
}

/// What a port shall lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) pool: PoolName,
    pub(super) protocol: Protocol,
}

/// The pool of the live replicas.
pub(super) fn live_pool(service: &ServiceId) -> PoolName {
    service.to_string()
}

/// The pool of a further port of the live replicas.
pub(super) fn port_pool(service: &ServiceId, port: &str) -> PoolName {
    format!("{service} port {port}")
}

/// The pool of the candidate's replicas.
pub(super) fn candidate_pool(service: &ServiceId) -> PoolName {
    format!("{service} candidate")
}

/// The port of this machine that the program of a replica has itself. In a container it has its own.
pub(super) fn own_port(behaviour: &Behaviour) -> Option<u16> {
    behaviour.serving.listen.filter(|_| behaviour.container.is_none())
}

/// What a service that behaves so listens on, with `address` on this machine's side. Nothing for the port that its program has itself.
pub(super) fn wanted(
    service: &ServiceId,
    behaviour: &Behaviour,
    address: IpAddr,
) -> BTreeMap<Spot, Wanted> {
    // What listens everywhere listens on the network too.
    let on_network = behaviour.container.is_some() && !address.is_unspecified();
    let sides = [Some(Side::Machine), on_network.then_some(Side::Network)];
    let serving = &behaviour.serving;
    let mut all = BTreeMap::new();
    for side in sides.into_iter().flatten() {
        for (name, port) in &serving.ports {
            let pool = port_pool(service, name.as_str());
            all.insert(Spot { side, port: *port }, Wanted { pool, protocol: Protocol::Tcp });
        }
        if own_port(behaviour) != Some(serving.port) {
            let wanted = Wanted { pool: live_pool(service), protocol: serving.protocol };
            all.insert(Spot { side, port: serving.port }, wanted);
        }
    }
    all
}

/// Binds these for a service; the first that cannot be bound, in words. What was bound until then is kept.
pub(super) async fn bind(
    place: &Place,
    service: &ServiceId,
    wanted: BTreeMap<Spot, Wanted>,
) -> (Bound, Option<String>) {
    let mut bound = Bound::new();
    let mut problem = None;
    let network = if wanted.keys().any(|spot| spot.side == Side::Network) {
        place.network(&service.pipeline).await.map(|network| Some(network.gateway))
    } else {
        Ok(None)
    };
    for (spot, what) in wanted {
        let address = match (spot.side, &network) {
            (Side::Machine, _) | (_, Ok(None)) => place.settings.address,
            (Side::Network, Ok(Some(address))) => *address,
            (Side::Network, Err(why)) => {
                problem = problem.or_else(|| Some(why.clone()));
                continue;
            }
        };
        let at = SocketAddr::new(address, spot.port);
        match place.gateway.listen(at, &what.pool, what.protocol).await {
            Ok(listener) => {
                bound.insert(spot, (listener, what));
            }
            Err(error) => problem = problem.or_else(|| Some(refused(at, &error))),
        }
    }
    (bound, problem)
}

/// Says that another program listens where one of a replica shall. What else is wrong with the port, that program tells.
pub(super) fn taken(port: u16) -> Option<String> {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let error = std::net::TcpListener::bind(at).err()?;
    (error.kind() == io::ErrorKind::AddrInUse).then(|| refused(at, &error))
}

/// Why a port cannot be had, with what to do.
pub fn refused(at: SocketAddr, error: &io::Error) -> String {
    let port = at.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("port {port} is taken by another program"),
        io::ErrorKind::PermissionDenied => {
            format!("port {port} needs rights that flowrun does not have: use one above 1023")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine has no address {}", at.ip())
        }
        _ => format!("port {port} cannot be listened on: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_mend() {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        let said = |kind: io::ErrorKind| refused(at, &kind.into());
        assert_eq!(said(io::ErrorKind::AddrInUse), "port 80 is taken by another program");
        assert!(said(io::ErrorKind::PermissionDenied).ends_with("use one above 1023"));
        assert!(said(io::ErrorKind::AddrNotAvailable).ends_with("no address 127.0.0.1"));
    }

    #[test]
    fn a_port_is_taken_while_somebody_listens_on_it() {
        let port = crate::ports::free_port();
        let other = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert_eq!(taken(port), Some(format!("port {port} is taken by another program")));
        drop(other);
        assert_eq!(taken(port), None);
    }
}
