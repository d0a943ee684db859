use std::collections::BTreeMap;

use super::*;
use crate::event::JobEnd;
use crate::release::{Fate, ReplicaStatus};
use crate::report::service_detail::{status_service, status_service_json};
use crate::report::testing::{failed_run, release_row};
use crate::report::{HomeView, status_home, status_home_json};

const NOW: u64 = 1_700_000_400_000;

fn replica(replica: u32, state: &str) -> ReplicaStatus {
    ReplicaStatus {
        replica,
        release: release_row(4, Fate::Live).release.id,
        number: 4,
        state: state.to_owned(),
        pid: (state == "ready").then_some(4711),
        address: (state == "ready").then(|| "127.0.0.1:21034".to_owned()),
        started_at: (state == "ready").then_some(NOW - 72_000),
        restarts: u32::from(state != "ready"),
        last_end: (state != "ready").then_some(JobEnd::Exited(3)),
    }
}

fn view(name: &str, state: ServiceState, message: Option<&str>) -> ServiceView {
    let live = release_row(4, Fate::Live);
    ServiceView {
        status: ServiceStatus {
            service: crate::names::ServiceId {
                pipeline: "iris".parse().unwrap(),
                stage: name.parse().unwrap(),
            },
            state,
            message: message.map(str::to_owned),
            live: Some(live.release.id),
            number: Some(4),
            candidate: None,
            wanted: 2,
            ready: u32::from(state == ServiceState::Degraded)
                + 2 * u32::from(state == ServiceState::Ready),
            url: "http://127.0.0.1:8000".to_owned(),
            route: (name == "serve").then(|| "http://127.0.0.1:8080/iris".to_owned()),
            replicas: vec![replica(1, "ready"), replica(2, "waiting")],
        },
        live: Some(live),
        events: Vec::new(),
    }
}

fn home(services: &[ServiceView], server: bool) -> String {
    let runs = [(failed_run(), Vec::new())];
    let left = &BTreeMap::new();
    let home = HomeView { services, server, runs: &runs, left, host: "here" };
    status_home(NOW, &home, false)
}

#[test]
fn one_screen_says_what_is_live_what_runs_and_what_happened() {
    let mut ready = view("serve", ServiceState::Ready, None);
    ready.status.candidate = Some((release_row(5, Fate::Candidate).release.id, 5));
    let mut crashing =
        view("tracker", ServiceState::Crashing, Some("replica 2 ended: exit code 3"));
    crashing.events = vec![
        (NOW - 100_000_000, ServiceEvent::Scaled { wanted: 2, by: "ann@here".to_owned() }),
        (
            NOW - 60_000,
            ServiceEvent::RolledBack {
                to: crashing.status.live.unwrap(),
                number: 4,
                by: "ann@here".to_owned(),
            },
        ),
        (NOW - 7_000, ServiceEvent::CrashLooping { replica: 2, restarts: 5, next: NOW + 20_000 }),
    ];
    insta::assert_snapshot!(home(&[ready, crashing], true), @r"
    live
      service       release  state       replicas  commit          since      metrics                 address
      iris/serve    @4       ✓ ready     2/2       1a2b3c4 (main)  6 min ago  evaluate.accuracy 0.95  http://127.0.0.1:8080/iris
        release 5 is being rolled out
      iris/tracker  @4       ✗ crashing  0/2       1a2b3c4 (main)  6 min ago  evaluate.accuracy 0.95  http://127.0.0.1:8000
        replica 2 ended: exit code 3
        flowrun logs iris/tracker  shows its log
        flowrun rollback iris/tracker  puts what was live before back

    running
      nothing

    last
      run                         pipeline  outcome   when       took    commit
      01HF7YAT000000000000000001  iris      ✗ failed  5 min ago  1m 12s  1a2b3c4 (main) with changes

      7 s ago    iris/tracker  replica 2 ends again and again, after 5 restarts; the next start is in 20.0s
      1 min ago  iris/tracker  rolled back to release 4 by ann@here
    ");
}

#[test]
fn without_a_server_nobody_knows_and_it_is_said() {
    let mut unknown = view("serve", ServiceState::Unknown, None);
    unknown.status.replicas.clear();
    let mut first = view("tracker", ServiceState::Starting, None);
    (first.live, first.status.live, first.status.number) = (None, None, None);
    first.status.candidate = Some((release_row(1, Fate::Candidate).release.id, 1));
    insta::assert_snapshot!(home(&[unknown, first], false), @r"
    live
      service       release  state       replicas  commit          since      metrics                 address
      iris/serve    @4       ? unknown   ?/2       1a2b3c4 (main)  6 min ago  evaluate.accuracy 0.95  http://127.0.0.1:8080/iris
      iris/tracker           ▶ starting  0/2                                                          http://127.0.0.1:8000
        release 1 is being rolled out
        flowrun logs iris/tracker  shows its log
      the server does not run: replicas go on, nothing restarts them and the gateway is down; start it with `flowrun server` or any `flowrun apply`

    running
      nothing

    last
      run                         pipeline  outcome   when       took    commit
      01HF7YAT000000000000000001  iris      ✗ failed  5 min ago  1m 12s  1a2b3c4 (main) with changes
    ");
}

#[test]
fn one_service_in_detail() {
    let mut service = view("serve", ServiceState::Degraded, Some("replica 2 ended: exit code 3"));
    service.events = vec![
        (
            NOW - 60_000,
            ServiceEvent::Promoted {
                release: service.status.live.unwrap(),
                number: 4,
                replaced: None,
                by: "run 01HF7YAT000000000000000001".to_owned(),
            },
        ),
        (
            NOW - 7_000,
            ServiceEvent::ReplicaEnded {
                replica: 2,
                release: service.status.live.unwrap(),
                end: JobEnd::Exited(3),
            },
        ),
    ];
    let releases = [
        release_row(5, Fate::Abandoned("not ready".to_owned())),
        release_row(4, Fate::Live),
        release_row(3, Fate::Replaced),
    ];
    insta::assert_snapshot!(status_service(NOW, &service, &releases, true, false), @r"
    iris/serve  ! degraded  release 4, 1 of 2 ready
      replica 2 ended: exit code 3
      flowrun logs iris/serve  shows its log

    address     http://127.0.0.1:8080/iris
    port        http://127.0.0.1:8000
    live since  6 min ago
    commit      1a2b3c4 (main)
    run         01HF7YAT000000000000000001
    metrics     evaluate.accuracy 0.95
    gate        evaluate.accuracy >= 0.9

    replica  release  state    process  listens          for     restarts  last end
    1        @4       ready    4711     127.0.0.1:21034  1m 12s  0
    2        @4       waiting                                    1         exit code 3

    last
      7 s ago    replica 2 ended: exit code 3
      1 min ago  release 4 went live, by run 01HF7YAT000000000000000001

    releases
      @5  ✗ abandoned  6 min ago  1a2b3c4 (main)  evaluate.accuracy 0.95
      @4  ✓ live       6 min ago  1a2b3c4 (main)  evaluate.accuracy 0.95
      @3  · replaced   6 min ago  1a2b3c4 (main)  evaluate.accuracy 0.95
    ");
    let data = status_service_json(&service, &releases, true);
    assert_eq!(data["events"][1]["event"]["replica_ended"]["replica"], 2);
    assert_eq!(data["releases"].as_array().unwrap().len(), 3);
}

#[test]
fn a_stopped_service_names_the_command_that_starts_it() {
    let mut stopped = view("serve", ServiceState::Stopped, None);
    stopped.status.wanted = 0;
    let plain = Paint { colour: false };
    assert_eq!(remarks(&stopped.status, plain), ["flowrun scale iris/serve 1  starts it again"]);
    let taken = view("serve", ServiceState::Unreachable, Some("port 8000 is taken\x1b[2J"));
    assert_eq!(
        remarks(&taken.status, plain),
        ["port 8000 is taken␛[2J", "flowrun logs iris/serve  shows its log"]
    );
}

#[test]
fn data_of_a_service_says_what_the_screen_says() {
    let services = [view("serve", ServiceState::Ready, None)];
    let left = &BTreeMap::new();
    let home = HomeView { services: &services, server: true, runs: &[], left, host: "here" };
    let data = status_home_json(&home);
    assert_eq!(data["server"], true);
    let service = &data["services"][0];
    assert_eq!(service["service"], "iris/serve");
    assert_eq!(service["state"], "ready");
    assert_eq!(service["number"], 4);
    assert_eq!(service["candidate"], serde_json::Value::Null);
    assert_eq!(service["replicas"][0]["pid"], 4711);
    assert_eq!(service["metrics"]["evaluate"]["accuracy"], 0.95);
    assert_eq!(service["address"], "http://127.0.0.1:8080/iris");
}
