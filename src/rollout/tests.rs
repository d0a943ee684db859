//! The supervisor with a real gateway, state, store and source; programs are tasks (see `world`).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::world::{World, get, progress, service};
use super::*;
use crate::names::ServiceId;
use crate::ports::free_port;
use crate::release::{Fate, Probe, ServiceEvent, ServiceState};
use crate::state::RunLock;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollouts_under_load_lose_no_request_and_never_mix_releases() {
    let mut world = World::new().await;
    world.live(&["serve", "0"]).await;
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, world.port));
    let over = Arc::new(AtomicBool::new(false));
    let newest = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (over, newest) = (over.clone(), newest.clone());
        clients.spawn(async move {
            let mut count = 0;
            while !over.load(Ordering::SeqCst) {
                let before = newest.load(Ordering::SeqCst);
                let answer: usize = get(at, "/").await.unwrap().parse().unwrap();
                assert!(answer >= before, "{answer} after {before} was live");
                count += 1;
            }
            count
        });
    }
    for number in 1..=5_usize {
        world.live(&["serve", &number.to_string()]).await;
        newest.store(number, Ordering::SeqCst);
    }
    over.store(true, Ordering::SeqCst);
    let counts = clients.join_all().await;
    assert!(counts.into_iter().all(|count| count > 0));
    let status = world.until(|status| status.replicas.len() == 2).await;
    assert_eq!((status.state, status.ready, status.number), (ServiceState::Ready, 2, Some(6)));
    assert_eq!(world.machine.running().len(), 2);
}

#[tokio::test]
async fn a_release_that_exits_is_said_and_the_live_one_stays() {
    let mut world = World::new().await;
    let live = world.live(&["serve", "old"]).await;
    let before = world.machine.running();
    let bad = world.release(&["exit", "3"], |_, _| {}).await;
    let failure = world.supervisor().prepare(bad.id, progress().0).await.unwrap().unwrap_err();
    assert!(failure.why.ends_with("exited with code 3 before it was ready"), "{}", failure.why);
    world.supervisor().abandon(bad.id, "not ready").await.unwrap();
    assert_eq!(world.get().await, Ok("old".to_owned()));
    let status = world.until(|status| status.replicas.len() == 2).await;
    assert_eq!((status.live, status.candidate), (Some(live.id), None));
    assert_eq!(world.machine.running(), before);
    let row = world.state.release(bad.id).await.unwrap().unwrap();
    assert!(matches!(row.fate, Fate::Abandoned(_)));
}

#[tokio::test]
async fn one_that_is_never_ready_says_what_its_probe_answered() {
    let mut world = World::new().await;
    let within = |behaviour: &mut crate::release::Behaviour,
                  _: &mut crate::release::ReleaseNotes| {
        behaviour.serving.ready.within = Duration::from_secs(2);
    };
    for (command, answer) in [
        ("unready", "GET /readyz answered 503"),
        ("moved", "GET /readyz answered 307, a redirect to /login"),
    ] {
        let (why, mut said) = loop {
            let bad = world.release(&[command], within).await;
            let (to, said) = progress();
            let failure = world.supervisor().prepare(bad.id, to).await.unwrap().unwrap_err();
            // The last probe met a moment in which this machine stood still.
            if !failure.why.contains("did not answer within") {
                break (failure.why, said);
            }
        };
        assert!(why.contains(&format!("not ready within 2s: {answer}")), "{why}");
        let mut words = Vec::new();
        while let Some(word) = said.recv().await {
            words.push(word);
        }
        assert!(words.iter().any(|word| word.contains("waiting for replica")), "{words:?}");
    }
    while !world.supervisor().status().await.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while !world.state.services(None).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(world.machine.running(), []);
}

#[tokio::test]
async fn the_next_supervisor_goes_on_with_the_same_replicas_at_once() {
    let mut world = World::new().await;
    world.live_with(&["serve", "v"], |_, notes| notes.route = Some("/iris".to_owned())).await;
    let running = world.machine.running();
    let world = world.new_supervisor().await;
    assert_eq!(world.get().await, Ok("v".to_owned()), "before any probe");
    let status = world.status().await;
    assert_eq!((status.state, status.ready), (ServiceState::Ready, 2));
    assert_eq!(world.machine.running(), running);
    assert_eq!(world.machine.started().len(), 2);
    while get(world.gateway(), "/iris/predict").await != Ok("v".to_owned()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_ended_while_nobody_looked_is_started_anew() {
    let mut world = World::new().await;
    world.live(&["serve", "v"]).await;
    let first = world.machine.running();
    let world = world.without_supervisor().await;
    world.machine.crash(&first[0]);
    let starts = folders::starts(&world.home.path().join("services"), &service()).unwrap();
    assert!(starts.iter().all(|start| start.path.join("work").exists()));
    let world = world.with_supervisor().await;
    let status = world.until(|status| status.ready == 2).await;
    assert_eq!(status.state, ServiceState::Ready);
    assert_eq!(world.machine.started().len(), 3);
    let over = starts.iter().find(|start| start.path.join("end.json").exists()).unwrap();
    while over.path.join("work").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_candidate_is_kept_while_its_run_has_an_owner_and_else_abandoned() {
    let mut world = World::new().await;
    world.live(&["serve", "old"]).await;
    let run = crate::names::RunId::new(1, 1);
    let folder = world.home.path().join("runs").join(run.to_string());
    let lock = world.state.try_own(run, &folder).await.unwrap().unwrap();
    let next = world.release(&["serve", "new"], |_, _| {}).await;
    let candidate = world.supervisor().prepare(next.id, progress().0).await.unwrap().unwrap();
    let at: SocketAddr = candidate.url.strip_prefix("http://").unwrap().parse().unwrap();
    assert_eq!(get(at, "/").await, Ok("new".to_owned()));
    assert_eq!(world.get().await, Ok("old".to_owned()));
    let running = world.machine.running();

    let world = world.new_supervisor().await;
    let again = world.supervisor().prepare(next.id, progress().0).await.unwrap().unwrap();
    let at: SocketAddr = again.url.strip_prefix("http://").unwrap().parse().unwrap();
    assert_eq!(get(at, "/").await, Ok("new".to_owned()));
    assert_eq!(world.machine.running(), running);

    drop(lock);
    let world = world.new_supervisor().await;
    let status = world.until(|status| status.replicas.len() == 2).await;
    assert_eq!(status.candidate, None);
    assert_eq!(world.get().await, Ok("old".to_owned()));
    assert_eq!(world.machine.running().len(), 2);
}

#[tokio::test]
async fn who_is_gone_leaves_no_candidate_behind() {
    let mut world = World::new().await;
    world.live(&["serve", "old"]).await;
    let next = world.release(&["serve", "new"], |_, _| {}).await;
    world.supervisor().prepare(next.id, progress().0).await.unwrap().unwrap();
    world.supervisor().caller_gone(&[next.id]).await;
    world.until(|status| status.candidate.is_none() && status.replicas.len() == 2).await;
    let failed = world.supervisor().promote(next.id, None).await.unwrap();
    assert!(matches!(failed, Promotion::Failed(_)), "{failed:?}");
    assert_eq!(world.get().await, Ok("old".to_owned()));
}

#[tokio::test]
async fn one_release_at_a_time_and_the_loser_hears_who_is_live() {
    let mut world = World::new().await;
    let live = world.live(&["serve", "0"]).await;
    let first = world.release(&["serve", "1"], |_, _| {}).await;
    let second = world.release(&["serve", "2"], |_, _| {}).await;
    world.supervisor().prepare(first.id, progress().0).await.unwrap().unwrap();
    let (to, mut said) = progress();
    let supervisor = world.supervisor().clone();
    let waiting = tokio::spawn(async move { supervisor.prepare(second.id, to).await });
    assert_eq!(said.recv().await.unwrap(), "waiting for serve@2, which is being rolled out");
    let promoted = world.supervisor().promote(first.id, Some(live.id)).await.unwrap();
    assert_eq!(promoted, Promotion::Promoted(Some(live.id)));
    waiting.await.unwrap().unwrap().unwrap();
    let lost = world.supervisor().promote(second.id, Some(live.id)).await.unwrap();
    assert_eq!(lost, Promotion::LiveIs(Some(first.id)));
    assert_eq!(world.get().await, Ok("1".to_owned()));
    let won = world.supervisor().promote(second.id, Some(first.id)).await.unwrap();
    assert_eq!(won, Promotion::Promoted(Some(first.id)));
    let again = world.supervisor().promote(second.id, Some(first.id)).await.unwrap();
    assert_eq!(again, won, "told twice it answers as the first time");
    assert_eq!(world.get().await, Ok("2".to_owned()));
}

#[tokio::test]
async fn a_candidate_that_ends_before_its_promotion_fails_it() {
    let mut world = World::new().await;
    let live = world.live(&["serve", "old"]).await;
    let before = world.machine.running();
    let next = world.release(&["serve", "new"], |_, _| {}).await;
    world.supervisor().prepare(next.id, progress().0).await.unwrap().unwrap();
    let running = world.machine.running();
    let new = running.iter().find(|job| !before.contains(job)).unwrap();
    world.machine.crash(new);
    world.until(|status| status.replicas.len() == 3).await;
    let failed = world.supervisor().promote(next.id, Some(live.id)).await.unwrap();
    let Promotion::Failed(failure) = failed else { panic!("{failed:?}") };
    assert!(failure.why.ends_with("exited with code 1 after it was ready"), "{}", failure.why);
    assert_eq!(world.get().await, Ok("old".to_owned()));
    world.until(|status| status.replicas.len() == 2).await;
}

#[tokio::test]
async fn a_replica_that_ends_is_started_anew_and_journalled() {
    let mut world = World::new().await;
    world.live(&["serve", "v"]).await;
    world.machine.crash(&world.machine.running()[0]);
    world
        .until(|status| status.ready == 2 && status.replicas.iter().any(|one| one.restarts == 1))
        .await;
    assert_eq!(world.get().await, Ok("v".to_owned()));
    // The replica does not wait for the journal.
    let is_last = async || {
        let events = world.state.service_events(&service(), 10).await.unwrap();
        matches!(events.last().unwrap().1, ServiceEvent::ReplicaEnded { replica: 1, .. })
    };
    let journalled = async {
        while !is_last().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), journalled).await.unwrap();
}

#[tokio::test]
async fn one_that_ends_again_and_again_is_crashing_and_says_how_to_mend_it() {
    let mut world = World::new().await;
    world.live_with(&["serve", "v"], |_, notes| notes.replicas = 1).await;
    for restarts in 1..5 {
        world.machine.crash(&world.machine.running()[0]);
        world.until(|status| status.ready == 1 && status.replicas[0].restarts == restarts).await;
    }
    world.machine.crash(&world.machine.running()[0]);
    let status = world.until(|status| status.state == ServiceState::Crashing).await;
    let message = status.message.unwrap();
    assert!(message.contains("exited with code 1, again and again"), "{message}");
    assert!(message.contains("`flowrun rollback serve`"), "{message}");
}

#[tokio::test]
async fn rolling_back_brings_the_release_before_back_and_forth() {
    let mut world = World::new().await;
    let first = world.live(&["serve", "1"]).await;
    let second = world.live(&["serve", "2"]).await;
    let supervisor = world.supervisor();
    let back = supervisor.roll_back(&service(), None, "me", progress().0).await.unwrap().unwrap();
    assert_eq!(back.id, first.id);
    assert_eq!(world.get().await, Ok("1".to_owned()));
    let forth = supervisor.roll_back(&service(), Some(2), "me", progress().0).await.unwrap();
    assert_eq!(forth.unwrap().id, second.id);
    assert_eq!(world.get().await, Ok("2".to_owned()));
    let none = supervisor.roll_back(&service(), Some(7), "me", progress().0).await.unwrap_err();
    assert_eq!(none, RolloutError::Unknown("there is no release serve@7".to_owned()));
    fs_err::remove_dir_all(world.home.path().join("mirror")).unwrap();
    let gone = supervisor.roll_back(&service(), Some(1), "me", progress().0).await.unwrap();
    assert!(gone.unwrap_err().why.starts_with("serve@1 cannot come back: "));
    assert_eq!(world.get().await, Ok("2".to_owned()));
}

#[tokio::test]
async fn a_restart_and_a_scale_keep_it_answering() {
    let mut world = World::new().await;
    world.live(&["serve", "v"]).await;
    let before = world.machine.running();
    world.supervisor().restart(&service(), "me", progress().0).await.unwrap().unwrap();
    assert_eq!(world.get().await, Ok("v".to_owned()));
    world.until(|status| status.replicas.len() == 2).await;
    let after = world.machine.running();
    assert!(after.iter().all(|job| !before.contains(job)));
    world.supervisor().scale(&service(), 0, "me").await.unwrap();
    world.until(|status| status.state == ServiceState::Stopped && status.replicas.is_empty()).await;
    assert!(world.get().await.unwrap_err().contains("503"));
    world.supervisor().keep(&service(), 3, Some("/x")).await.unwrap();
    let status = world.until(|status| status.ready == 3).await;
    assert_eq!(status.route.unwrap(), format!("http://{}/x", world.gateway()));
    let unknown = ServiceId { stage: "other".parse().unwrap(), ..service() };
    assert!(matches!(
        world.supervisor().keep(&unknown, 1, None).await,
        Err(RolloutError::Unknown(_))
    ));
}

#[tokio::test]
async fn a_restart_that_waited_for_a_rollout_starts_what_is_live_then() {
    let mut world = World::new().await;
    let old = world.live(&["serve", "old"]).await;
    let new = world.release(&["serve", "new"], |_, _| {}).await;
    let (supervisor, id) = (world.supervisor(), service());
    supervisor.prepare(new.id, progress().0).await.unwrap().unwrap();
    let (to, mut said) = progress();
    let promotion = async {
        assert!(said.recv().await.unwrap().contains("waiting for serve@2"));
        supervisor.promote(new.id, Some(old.id)).await.unwrap()
    };
    let (restarted, _) = tokio::join!(supervisor.restart(&id, "me", to), promotion);
    restarted.unwrap().unwrap();
    assert_eq!(world.get().await, Ok("new".to_owned()));
    let status = world.until(|status| status.replicas.len() == 2).await;
    assert_eq!((status.live, status.number), (Some(new.id), Some(2)));
    assert!(status.replicas.iter().all(|one| one.release == new.id));
}

#[tokio::test]
async fn a_server_with_another_state_leaves_the_replicas_of_the_first_alone() {
    let mut world = World::new().await;
    world.live(&["serve", "v"]).await;
    let running = world.machine.running();
    let mut world = world.without_supervisor().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let other = crate::state::State::open(elsewhere.path()).await.unwrap();
    let own = std::mem::replace(&mut world.state, other);
    let mut world = world.with_supervisor().await.without_supervisor().await;
    assert_eq!(world.machine.running(), running);
    world.state = own;
    let world = world.with_supervisor().await;
    world.until(|status| status.ready == 2).await;
    assert_eq!(world.machine.running(), running);
    assert_eq!(world.get().await, Ok("v".to_owned()));
}

#[tokio::test]
async fn what_could_not_be_forgotten_goes_with_the_next_down() {
    let mut world = World::new().await;
    let release = world.release(&["serve", "v"], |_, _| {}).await;
    world.state.promote(&release, None, 1).await.unwrap();
    assert_eq!(world.supervisor().status().await, []);
    assert_eq!(world.state.services(None).await.unwrap().len(), 1);
    world.supervisor().down(&service(), false, "me").await.unwrap();
    assert_eq!(world.state.services(None).await.unwrap(), []);
}

#[tokio::test]
async fn down_leaves_nothing_but_volumes_unless_told() {
    let mut world = World::new().await;
    let with_volume = |behaviour: &mut crate::release::Behaviour,
                       _: &mut crate::release::ReleaseNotes| {
        behaviour.volumes.insert("data".parse().unwrap(), "data".to_owned());
    };
    let volume = world.home.path().join("volumes/iris/data");
    world.live_with(&["serve", "v"], with_volume).await;
    assert_eq!(world.machine.running().len(), 1, "in place: one replica");
    fs_err::write(volume.join("kept"), "").unwrap();
    world.supervisor().down(&service(), false, "me").await.unwrap();
    assert_eq!(world.machine.running(), []);
    assert_eq!(world.supervisor().status().await, []);
    assert!(volume.join("kept").exists());
    assert!(world.get().await.is_err());
    assert_eq!(world.state.services(None).await.unwrap(), []);

    world.live_with(&["serve", "v"], with_volume).await;
    assert!(volume.join("kept").exists());
    world.supervisor().down(&service(), true, "me").await.unwrap();
    assert!(!volume.exists());
    let again = world.supervisor().down(&service(), false, "me").await;
    assert_eq!(again, Err(RolloutError::Unknown("there is no service `iris/serve`".to_owned())));
    let left = fs_err::read_dir(world.home.path()).unwrap().map(|item| item.unwrap().file_name());
    let is_temporary = |name: &std::ffi::OsString| name.to_string_lossy().starts_with("flowrun-");
    assert_eq!(left.filter(is_temporary).count(), 0);
}

#[tokio::test]
async fn what_a_start_leaves_is_removed_and_its_folder_numbers_go_on() {
    let mut world = World::new().await;
    let release = world.live_with(&["serve", "v"], |_, notes| notes.replicas = 1).await;
    world.machine.crash(&world.machine.running()[0]);
    world.until(|status| status.ready == 1 && status.replicas[0].restarts == 1).await;
    let services = world.home.path().join("services");
    let starts = folders::starts(&services, &service()).unwrap();
    assert_eq!(starts.iter().map(|start| start.start).collect::<Vec<_>>(), [1, 2]);
    assert!(!starts[0].path.join("work").exists());
    assert!(starts[1].path.join("work/serve.py").exists());
    let job = crate::runtime::ordered_job(&starts[1].path).unwrap();
    assert_eq!(job.env["FLOWRUN_RELEASE"], release.number.to_string());
    assert_eq!(job.env["FLOWRUN_LISTEN"], "127.0.0.1");
    assert_eq!(job.env["FLOWRUN_ATTEMPT"], "2");
    assert!(starts[1].was_ready());
    assert_eq!(world.machine.stopped(), []);
}

#[tokio::test]
async fn one_that_hangs_is_found_by_its_alive_probe_and_started_anew() {
    let mut world = World::new().await;
    let alive = |behaviour: &mut crate::release::Behaviour,
                 notes: &mut crate::release::ReleaseNotes| {
        notes.replicas = 1;
        let interval = Duration::from_millis(20);
        let http = "/livez".to_owned();
        behaviour.serving.alive = Some(crate::release::Alive { http, interval, failures: 2 });
    };
    world.live_with(&["serve", "v", "4"], alive).await;
    let status = world.until(|status| status.replicas.iter().any(|one| one.restarts > 0)).await;
    let message = status.message.unwrap_or_default();
    assert!(
        message.is_empty() || message.contains("GET /livez did not answer within 1s"),
        "{message}"
    );
    assert_eq!(world.machine.stopped()[0], world.machine.started()[0]);
}

#[tokio::test]
async fn a_start_gets_its_ports_paths_and_volumes_in_words_and_variables() {
    let mut world = World::new().await;
    let admin = free_port();
    let release = world
        .live_with(&["serve", "\u{1a}port\u{1a}"], |behaviour, _| {
            let check = "test \"$PORT\" = \u{1a}port\u{1a} && test -d \"$FLOWRUN_VOLUME_DATA\" && test -d data/x";
            let words = ["sh", "-e", "-c", check].map(str::to_owned).to_vec();
            behaviour.serving.ready.probe = Probe::Run(words);
            behaviour.serving.ports.insert("admin".parse().unwrap(), admin);
            behaviour.gpu = 2;
            behaviour.volumes.insert("data".parse().unwrap(), "data/x".to_owned());
            behaviour.env.insert("WHERE".to_owned(), "at \u{1a}port\u{1a}".to_owned());
            let url = "http://127.0.0.1:1".to_owned();
            behaviour.services.insert("other_one".parse().unwrap(), url);
        })
        .await;
    let starts = folders::starts(&world.home.path().join("services"), &service()).unwrap();
    let job = crate::runtime::ordered_job(&starts[0].path).unwrap();
    let port = job.env["PORT"].clone();
    assert_eq!(world.get().await, Ok(port.clone()));
    assert_eq!(job.env["WHERE"], format!("at {port}"));
    assert_ne!(job.env["PORT_ADMIN"], port);
    assert_eq!(job.env["FLOWRUN_SERVICE_OTHER_ONE_URL"], "http://127.0.0.1:1");
    assert_eq!(job.env["FLOWRUN_RUN_ID"], release.notes.run.to_string());
    assert_eq!(job.env["FLOWRUN_STAGE"], "serve");
    assert_eq!(job.env["FLOWRUN_PARAMS"], "{}");
    assert_eq!(job.env["CUDA_VISIBLE_DEVICES"], "0,1");
    assert!(std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, admin)).is_ok());
}

/// The lock of the run that all releases of the world belong to.
async fn owner(world: &super::world::World) -> RunLock {
    let run = crate::names::RunId::new(1, 1);
    let folder = world.home.path().join("runs").join(run.to_string());
    world.state.try_own(run, &folder).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_promotion_right_after_the_server_came_back_waits_until_it_has_looked() {
    let mut world = World::new().await;
    let live = world.live(&["serve", "old"]).await;
    let _owner = owner(&world).await;
    let next = world.release(&["serve", "new"], |_, _| {}).await;
    world.supervisor().prepare(next.id, progress().0).await.unwrap().unwrap();
    let world = world.new_supervisor().await;
    let promoted = world.supervisor().promote(next.id, Some(live.id)).await.unwrap();
    assert_eq!(promoted, Promotion::Promoted(Some(live.id)));
    assert_eq!(world.get().await, Ok("new".to_owned()));
}

#[tokio::test]
async fn what_is_given_up_while_it_is_promoted_blocks_nobody() {
    let mut world = World::new().await;
    let live = world.live(&["serve", "0"]).await;
    let next = world.release(&["serve", "1"], |_, _| {}).await;
    world.supervisor().prepare(next.id, progress().0).await.unwrap().unwrap();
    // It comes to nothing, as nothing else was said to be live.
    let (promotion, abandoned) = tokio::join!(
        world.supervisor().promote(next.id, None),
        world.supervisor().abandon(next.id, "stopped"),
    );
    abandoned.unwrap();
    assert!(!matches!(promotion.unwrap(), Promotion::Promoted(_)));
    let status = world.until(|status| status.candidate.is_none()).await;
    assert_eq!(status.live, Some(live.id));
    world.live(&["serve", "2"]).await;
    assert_eq!(world.get().await, Ok("2".to_owned()));
}

#[tokio::test]
async fn what_runs_of_a_service_that_is_no_more_is_ended() {
    let mut world = World::new().await;
    let first = world.release(&["serve", "v"], |_, _| {}).await;
    world.supervisor().prepare(first.id, progress().0).await.unwrap().unwrap();
    assert_eq!(world.machine.running().len(), 2);
    let world = world.without_supervisor().await;
    // What the supervisor before wrote last.
    world.state.abandon(first.id, "it was given up", 1).await.unwrap();
    assert_eq!(world.state.services(None).await.unwrap(), []);
    let world = world.with_supervisor().await;
    assert_eq!(world.machine.running(), []);
    assert_eq!(world.supervisor().status().await, []);
}

#[tokio::test]
async fn a_candidate_that_hangs_is_found_when_it_is_live() {
    let mut world = World::new().await;
    let alive = |behaviour: &mut crate::release::Behaviour,
                 notes: &mut crate::release::ReleaseNotes| {
        notes.replicas = 1;
        let interval = Duration::from_millis(20);
        let http = "/livez".to_owned();
        behaviour.serving.alive = Some(crate::release::Alive { http, interval, failures: 1 });
    };
    let next = world.release(&["serve", "v", "2"], alive).await;
    world.supervisor().prepare(next.id, progress().0).await.unwrap().unwrap();
    // Long enough for its first failure, of which nothing is to be seen.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    world.supervisor().promote(next.id, None).await.unwrap();
    world.until(|status| status.replicas.iter().any(|one| one.restarts > 0)).await;
}
