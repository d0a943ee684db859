//! Services whose replicas are containers: where they listen, and what becomes of them when their engine goes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::world::{World, get, progress};
use super::*;
use crate::names::JobName;
use crate::release::{Behaviour, Probe, ReleaseNotes, ReleasedContainer, ServiceState};
use crate::runtime::{self, ContainerNetwork, Job};

fn contained(behaviour: &mut Behaviour, notes: &mut ReleaseNotes) {
    notes.replicas = 2;
    behaviour.container = Some(ReleasedContainer {
        image: "sha256:1".to_owned(),
        args: None,
        image_user: false,
        writable_root: false,
        capabilities: Vec::new(),
    });
}

async fn world() -> World {
    let world = World::new().await;
    world.machine.network.store(1, Ordering::SeqCst);
    world
}

/// What other containers are answered.
async fn get_on_network(world: &World) -> Result<String, String> {
    get(SocketAddr::from((world.machine.on_network(), world.port)), "/predict").await
}

fn ordered(world: &World, release: ReleaseId) -> Job {
    let id = super::world::service();
    let starts = folders::starts(&world.home.path().join("services"), &id).unwrap();
    let start = starts.into_iter().find(|start| start.release == release).unwrap();
    runtime::ordered_job(&start.path).unwrap()
}

/// What garbage collection asks before it removes the folder of the only release.
fn holds_containers(world: &World) -> bool {
    let releases = folders::releases(&world.home.path().join("services")).unwrap();
    let [(_, folder)] = &releases[..] else { panic!("{releases:?}") };
    folders::may_hold_containers(folder).unwrap()
}

#[tokio::test]
async fn it_is_reached_from_this_machine_and_from_other_containers() {
    let mut world = world().await;
    world.live_with(&["serve", "1"], contained).await;
    assert_eq!(world.get().await, Ok("1".to_owned()));
    assert_eq!(get_on_network(&world).await, Ok("1".to_owned()));
    let status = world.status().await;
    assert_eq!(status.url, format!("http://127.0.0.1:{}", world.port));
    let own: Vec<SocketAddr> =
        status.replicas.iter().map(|one| one.address.as_ref().unwrap().parse().unwrap()).collect();
    assert_eq!(own.len(), 2);
    assert!(own[0].ip() != own[1].ip() && own.iter().all(|at| at.port() == world.port), "{own:?}");

    let next = world.release(&["serve", "2"], contained).await;
    let candidate = world.supervisor().prepare(next.id, progress().0).await.unwrap().unwrap();
    let at: SocketAddr = candidate.url.strip_prefix("http://").unwrap().parse().unwrap();
    assert_eq!(at.ip(), world.machine.on_network());
    assert_eq!(get(at, "/").await, Ok("2".to_owned()));
    assert_eq!(get_on_network(&world).await, Ok("1".to_owned()));
    // A release that is live is asked for again by a run that was killed: its stages reach it too.
    let live = world.status().await.live;
    world.supervisor().promote(next.id, live).await.unwrap();
    assert_eq!(get_on_network(&world).await, Ok("2".to_owned()));
    let again = world.supervisor().prepare(next.id, progress().0).await.unwrap().unwrap();
    assert_eq!(again.url, format!("http://{}:{}", world.machine.on_network(), world.port));
}

#[tokio::test]
async fn its_container_has_what_the_release_says() {
    let mut world = world().await;
    let change = |behaviour: &mut Behaviour, notes: &mut ReleaseNotes| {
        contained(behaviour, notes);
        behaviour.volumes.insert("data".parse().unwrap(), "/var/lib/data".to_owned());
        behaviour.volumes.insert("more".parse().unwrap(), "kept/more".to_owned());
        behaviour.services.insert("model_store".parse().unwrap(), "http://model-store:1".into());
        behaviour.serving.ready.probe = Probe::Run(vec!["yes".to_owned(), "2".to_owned()]);
    };
    let release = world.live_with(&["serve", "1"], change).await;
    let job = ordered(&world, release.id);
    let container = job.container.unwrap();
    assert_eq!(job.env["PORT"], world.port.to_string());
    assert_eq!(job.env["FLOWRUN_VOLUME_DATA"], "/var/lib/data");
    assert_eq!(job.env["FLOWRUN_VOLUME_MORE"], "/flowrun/work/kept/more");
    assert_eq!(job.directory, std::path::Path::new("/flowrun/work"));
    assert_eq!(container.network, ContainerNetwork::Named("net-iris".to_owned()));
    let here = world.machine.on_network();
    let hosts = ["model-store", "serve"].map(|name| (name.to_owned(), here));
    assert_eq!(container.hosts, hosts.into());
    assert_eq!(container.labels["flowrun.release"], release.id.to_string());
    let seen: Vec<String> =
        container.mounts.iter().map(|one| one.target.display().to_string()).collect();
    for target in ["/flowrun/work", "/home/stage", "/tmp", "/var/lib/data"] {
        assert!(seen.iter().any(|one| one == target), "{target} in {seen:?}");
    }
}

#[tokio::test]
async fn containers_that_live_are_taken_over_as_they_are() {
    let mut world = world().await;
    world.live_with(&["serve", "v"], contained).await;
    let before = world.machine.running();
    let world = world.new_supervisor().await;
    assert!(holds_containers(&world));
    assert_eq!(world.get().await, Ok("v".to_owned()));
    assert_eq!(get_on_network(&world).await, Ok("v".to_owned()));
    assert_eq!(world.status().await.ready, 2);
    assert_eq!(world.machine.running(), before);
    assert_eq!(world.machine.started().len(), 2);
    world.supervisor().scale(&super::world::service(), 0, "me").await.unwrap();
    world.until(|status| status.replicas.is_empty()).await;
    assert!(!holds_containers(&world));
}

#[tokio::test]
async fn without_an_engine_its_absence_is_said_and_nothing_else_suffers() {
    let mut world = world().await;
    world.machine.no_engine.store(true, Ordering::SeqCst);
    let release = world.release(&["serve", "v"], contained).await;
    let failure = world.supervisor().prepare(release.id, progress().0).await.unwrap().unwrap_err();
    let said = "the Docker Engine cannot be reached: nobody is there";
    assert!(failure.why.contains(said), "{}", failure.why);
    world.machine.no_engine.store(false, Ordering::SeqCst);
    world.live_with(&["serve", "v"], contained).await;
    // The engine goes, and with it the replicas: they are started anew when it is back.
    world.machine.no_engine.store(true, Ordering::SeqCst);
    let running: Vec<JobName> = world.machine.running();
    for job in &running {
        world.machine.crash(job);
    }
    let status = world.until(|status| status.ready == 0 && status.message.is_some()).await;
    let is_said = |text: &Option<String>| text.as_ref().is_some_and(|text| text.contains(said));
    let status = if is_said(&status.message) {
        status
    } else {
        world.until(|status| is_said(&status.message)).await
    };
    assert!(status.message.unwrap().contains("cannot be started"));
    world.machine.no_engine.store(false, Ordering::SeqCst);
    world.until(|status| status.state == ServiceState::Ready).await;
    assert_eq!(world.get().await, Ok("v".to_owned()));
}

#[tokio::test]
async fn its_network_may_come_late_and_may_move() {
    let mut world = world().await;
    world.live_with(&["serve", "v"], contained).await;
    let world = world.without_supervisor().await;
    world.machine.no_engine.store(true, Ordering::SeqCst);
    let world = world.with_supervisor().await;
    let status = world.status().await;
    assert_eq!(status.state, ServiceState::Unreachable);
    assert!(status.message.unwrap().contains("cannot be reached"));
    assert_eq!(world.get().await, Ok("v".to_owned()), "from this machine it is reached");
    world.machine.no_engine.store(false, Ordering::SeqCst);
    world.until(|status| status.state == ServiceState::Ready).await;
    assert_eq!(get_on_network(&world).await, Ok("v".to_owned()));

    // Somebody removed the network; what is started next is on another one.
    world.machine.network.store(9, Ordering::SeqCst);
    assert_eq!(world.machine.on_network(), IpAddr::from(Ipv4Addr::new(127, 1, 0, 9)));
    world
        .supervisor()
        .restart(&super::world::service(), "a test", progress().0)
        .await
        .unwrap()
        .unwrap();
    while get_on_network(&world).await != Ok("v".to_owned()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
