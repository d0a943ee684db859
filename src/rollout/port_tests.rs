//! Where services are reached: ports that are moved, taken, shared or a program's own.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::world::{World, get, progress};
use super::*;
use crate::names::ServiceId;
use crate::ports::free_port;
use crate::release::{Release, ServiceState};

#[tokio::test]
async fn in_place_the_port_of_the_program_is_its_own() {
    let mut world = World::new().await;
    let listen = world.port;
    let in_place = move |behaviour: &mut crate::release::Behaviour,
                         _: &mut crate::release::ReleaseNotes| {
        behaviour.serving.listen = Some(listen);
    };
    world.live_with(&["serve", "1"], in_place).await;
    assert_eq!(world.get().await, Ok("1".to_owned()));
    world.live_with(&["serve", "2"], in_place).await;
    assert_eq!(world.get().await, Ok("2".to_owned()));
    let bad = world.release(&["exit", "3"], in_place).await;
    let failure = world.supervisor().prepare(bad.id, progress().0).await.unwrap().unwrap_err();
    assert!(failure.why.contains("exited with code 3"), "{}", failure.why);
    world.supervisor().abandon(bad.id, "it failed").await.unwrap();
    let status = world.until(|status| status.ready == 1).await;
    assert_eq!(status.number, Some(2));
    assert_eq!(world.get().await, Ok("2".to_owned()));
    assert_eq!(world.machine.running().len(), 1);
}

#[tokio::test]
async fn a_port_that_cannot_be_had_is_said() {
    let mut world = World::new().await;
    let other = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, world.port)).unwrap();
    let release = world.release(&["serve", "v"], |_, _| {}).await;
    let failure = world.supervisor().prepare(release.id, progress().0).await.unwrap().unwrap_err();
    assert_eq!(failure.why, format!("port {} is taken by another program", world.port));
    drop(other);
    world.supervisor().abandon(release.id, &failure.why).await.unwrap();
    world.supervisor().prepare(release.id, progress().0).await.unwrap().unwrap();
    world.supervisor().promote(release.id, None).await.unwrap();
    assert_eq!(world.get().await, Ok("v".to_owned()));

    let port = world.port;
    let id = ServiceId { pipeline: "other".parse().unwrap(), stage: "serve".parse().unwrap() };
    let row = world.state.release(release.id).await.unwrap().unwrap().release;
    let (behaviour, notes) = (row.behaviour, row.notes);
    let same = crate::names::ReleaseId::new(99, 9);
    world.state.create_release(same, &id, behaviour, notes, 1).await.unwrap();
    let failure = world.supervisor().prepare(same, progress().0).await.unwrap().unwrap_err();
    assert_eq!(failure.why, format!("port {port} belongs to service `iris/serve`"));
}

#[tokio::test]
async fn a_listener_that_is_missing_after_adoption_comes_when_its_port_is_free() {
    let mut world = World::new().await;
    world.live(&["serve", "v"]).await;
    // The next supervisor finds the port taken.
    let port = world.port;
    let world = world.without_supervisor().await;
    let other = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let world = world.with_supervisor().await;
    let status = world.status().await;
    assert_eq!(status.state, ServiceState::Unreachable);
    assert_eq!(status.message, Some(format!("port {port} is taken by another program")));
    drop(other);
    world.until(|status| status.state == ServiceState::Ready).await;
    assert_eq!(world.get().await, Ok("v".to_owned()));
}

#[tokio::test]
async fn a_changed_port_moves_with_the_promotion() {
    let mut world = World::new().await;
    world.live(&["serve", "1"]).await;
    let old = SocketAddr::from((Ipv4Addr::LOCALHOST, world.port));
    let new = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    world.live_with(&["serve", "2"], |behaviour, _| behaviour.serving.port = new.port()).await;
    assert_eq!(get(new, "/").await, Ok("2".to_owned()));
    assert!(get(old, "/").await.is_err());
}

#[tokio::test]
async fn the_port_that_a_program_had_itself_becomes_the_gateways() {
    let mut world = World::new().await;
    let listen = world.port;
    world.live_with(&["serve", "1"], |one, _| one.serving.listen = Some(listen)).await;
    assert_eq!(world.get().await, Ok("1".to_owned()));
    world.live(&["serve", "2"]).await;
    while world.get().await != Ok("2".to_owned()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_port_of_a_program_of_another_service_is_said() {
    let mut world = World::new().await;
    world.live(&["serve", "v"]).await;
    let id = ServiceId { pipeline: "other".parse().unwrap(), stage: "serve".parse().unwrap() };
    let port = world.port;
    let own = free_port();
    let change = |one: &mut crate::release::Behaviour, _: &mut crate::release::ReleaseNotes| {
        (one.serving.port, one.serving.listen) = (own, Some(port));
    };
    let Release { behaviour, notes, .. } = world.release(&["serve", "w"], change).await;
    let same = crate::names::ReleaseId::new(99, 9);
    world.state.create_release(same, &id, behaviour, notes, 1).await.unwrap();
    let failure = world.supervisor().prepare(same, progress().0).await.unwrap().unwrap_err();
    assert_eq!(failure.why, format!("port {port} belongs to service `iris/serve`"));
}
