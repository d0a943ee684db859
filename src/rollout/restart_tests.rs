//! Hundreds of real restarts: what each leaves on disk and in the journal is bounded. (What ten thousand leave in memory: `machine`.)

use super::folders;
use super::world::{World, service};
use crate::release::{ServiceEvent, ServiceState, ServiceStatus};

/// Restarts of each of two replicas, each under a supervisor of its own, for which a first end is no reason to wait.
const ROUNDS: u32 = 200;

#[tokio::test]
async fn hundreds_of_restarts_leave_few_folders_and_few_words() {
    let mut world = World::new().await;
    world.live(&["serve", "v"]).await;
    for round in 1..=ROUNDS {
        for job in world.machine.running() {
            world.machine.crash(&job);
        }
        let again = |status: &ServiceStatus| {
            status.ready == 2 && status.replicas.iter().all(|one| one.restarts == round)
        };
        world.until(again).await;
        world = world.new_supervisor().await;
    }
    assert_eq!(world.get().await, Ok("v".to_owned()));
    assert_eq!(world.status().await.state, ServiceState::Ready);
    assert_eq!(world.machine.started().len(), 2 * (ROUNDS as usize + 1));

    let starts = || folders::starts(&world.home.path().join("services"), &service()).unwrap();
    // The one that runs, and the newest logs beside it.
    assert!(starts().len() <= 2 * 4, "{} folders", starts().len());
    let works = starts().iter().filter(|start| start.path.join("work").exists()).count();
    assert_eq!(works, 2, "only what runs has a work folder");
    let temporary = fs_err::read_dir(world.home.path()).unwrap().filter(|item| {
        let name = item.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with("flowrun-")
    });
    assert_eq!(temporary.count(), 2, "one for each replica");
    let events = world.state.service_events(&service(), 5000).await.unwrap();
    let ends = events.iter().filter(|(_, one)| matches!(one, ServiceEvent::ReplicaEnded { .. }));
    // A supervisor that goes may take its last words with it.
    assert!((ROUNDS as usize..=2 * ROUNDS as usize).contains(&ends.count()));
    assert!(events.len() < 2 * ROUNDS as usize + 10, "{} events", events.len());
}
