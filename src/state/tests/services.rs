//! Releases and services.

use std::collections::BTreeMap;

use super::*;
use crate::event::JobEnd;
use crate::names::{ReleaseId, ServiceId};
use crate::release::testing::{behaviour, notes, service};
use crate::release::{Fate, Release, ServiceEvent};

both! {
    a_service_from_its_first_release_to_its_end,
    services_are_listed_by_name_and_pipeline,
    a_promotion_twice_is_one_and_an_old_one_is_none,
    what_is_abandoned_leaves_what_is_live,
    of_promotions_at_once_one_wins,
    the_history_is_pruned_and_numbers_are_not_given_again,
    a_service_has_its_own_journal,
}

pub(super) fn serve() -> ServiceId {
    service("iris/serve")
}

fn id(number: u64) -> ReleaseId {
    ReleaseId::new(1_700_000_000_000 + number, u128::from(number))
}

/// A release of `iris/serve`, made at its number.
pub(super) async fn made(state: &State, number: u64) -> Release {
    state.create_release(id(number), &serve(), behaviour(), notes(), number).await.unwrap()
}

/// A release that replaced whatever was live, at time `now`.
pub(super) async fn live(state: &State, number: u64, now: u64) -> Release {
    let release = made(state, number).await;
    go_live(state, &release, now).await;
    release
}

pub(super) async fn go_live(state: &State, release: &Release, now: u64) {
    let before = state.live_release(&release.service).await.unwrap().map(|release| release.id);
    state.set_candidate(release, None, now).await.unwrap();
    let swap = state.promote(release, before, now).await.unwrap();
    assert_eq!(swap, Swap::Done(before));
}

async fn fates(state: &State) -> Vec<(u64, Fate)> {
    let rows = state.releases(Some(&serve())).await.unwrap();
    rows.into_iter().map(|row| (row.release.number, row.fate)).collect()
}

async fn row(state: &State) -> Option<ServiceRow> {
    state.services(None).await.unwrap().pop()
}

async fn a_service_from_its_first_release_to_its_end(world: &World) {
    let state = world.open().await;
    let run = RunId::new(5, 5);
    let first = made(&state, 1).await;
    assert_eq!((first.number, first.service.clone(), first.made_at), (1, serve(), 1));
    let stored = state.release(first.id).await.unwrap().unwrap();
    assert_eq!((&stored.release, stored.fate, stored.fate_at), (&first, Fate::Candidate, 1));
    assert_eq!(row(&state).await, None, "nothing shall run yet");

    state.set_candidate(&first, Some(run), 2).await.unwrap();
    let service = row(&state).await.unwrap();
    assert_eq!((service.live, service.candidate), (None, Some((first.id, Some(run)))));
    assert_eq!((service.wanted, service.port), (1, 8000));
    assert_eq!(service.route.as_deref(), Some("/iris"));
    assert_eq!(state.live_release(&serve()).await.unwrap(), None);

    assert_eq!(state.promote(&first, None, 3).await.unwrap(), Swap::Done(None));
    let promoted = row(&state).await.unwrap();
    assert_eq!((promoted.live, promoted.candidate), (Some(first.id), None));
    assert!(promoted.generation > service.generation);
    assert_eq!(promoted.changed_at, 3);
    assert_eq!(state.live_release(&serve()).await.unwrap(), Some(first.clone()));

    state.scale_service(&serve(), 4, 4).await.unwrap();
    assert_eq!(row(&state).await.unwrap().wanted, 4);
    assert_eq!(state.live_release(&serve()).await.unwrap().unwrap().notes.replicas, 1);
    state.adjust_service(&serve(), 3, None, 5).await.unwrap();
    let adjusted = row(&state).await.unwrap();
    assert_eq!((adjusted.wanted, adjusted.route), (3, None));
    let notes = state.live_release(&serve()).await.unwrap().unwrap().notes;
    assert_eq!((notes.replicas, notes.route), (3, None));

    let second = made(&state, 2).await;
    state.set_candidate(&second, Some(run), 6).await.unwrap();
    state.remove_service(&serve(), 7).await.unwrap();
    assert_eq!(row(&state).await, None);
    let down = Fate::Abandoned("the service was taken down".to_owned());
    assert_eq!(fates(&state).await, [(2, down), (1, Fate::TakenDown)]);
    let before = state.live_before(&serve()).await.unwrap().unwrap();
    assert_eq!(before.release.number, 1, "what a rollback brings back");
    state.remove_service(&serve(), 8).await.unwrap();
}

async fn services_are_listed_by_name_and_pipeline(world: &World) {
    let state = world.open().await;
    for (number, name) in [(1, "iris/web"), (2, "digits/serve"), (3, "iris/serve")] {
        let service = service(name);
        let made = state.create_release(id(number), &service, behaviour(), notes(), number);
        let release = made.await.unwrap();
        assert_eq!(release.number, 1, "numbers count per service");
        state.set_candidate(&release, None, number).await.unwrap();
    }
    let names = |rows: Vec<ServiceRow>| -> Vec<String> {
        rows.iter().map(|row| row.service.to_string()).collect()
    };
    let all = state.services(None).await.unwrap();
    assert_eq!(names(all), ["digits/serve", "iris/serve", "iris/web"]);
    let of_iris = state.services(Some(&"iris".parse().unwrap())).await.unwrap();
    assert_eq!(names(of_iris), ["iris/serve", "iris/web"]);
    let newest = state.releases(None).await.unwrap();
    assert_eq!(newest[0].release.service, serve());
}

async fn a_promotion_twice_is_one_and_an_old_one_is_none(world: &World) {
    let state = world.open().await;
    let first = live(&state, 1, 10).await;
    let second = made(&state, 2).await;
    assert_eq!(
        state.promote(&second, None, 11).await.unwrap(),
        Swap::LiveIs(Some(first.id)),
        "it was judged when nothing was live"
    );
    assert_eq!(fates(&state).await, [(2, Fate::Candidate), (1, Fate::Live)]);
    for _ in 0..2 {
        let swap = state.promote(&second, Some(first.id), 12).await.unwrap();
        assert_eq!(swap, Swap::Done(Some(first.id)));
    }
    assert_eq!(fates(&state).await, [(2, Fate::Live), (1, Fate::Replaced)]);
    // Scaled since: the answer that was lost and asked for again does not undo it.
    state.scale_service(&serve(), 5, 13).await.unwrap();
    state.promote(&second, Some(first.id), 14).await.unwrap();
    assert_eq!(row(&state).await.unwrap().wanted, 5);
    // The other one comes late.
    assert_eq!(state.promote(&first, None, 15).await.unwrap(), Swap::LiveIs(Some(second.id)));

    state.abandon(second.id, "too late", 16).await.unwrap();
    state.abandon(first.id, "too late", 16).await.unwrap();
    assert_eq!(fates(&state).await, [(2, Fate::Live), (1, Fate::Replaced)]);
    assert_eq!(state.live_release(&serve()).await.unwrap().unwrap().id, second.id);
}

async fn what_is_abandoned_leaves_what_is_live(world: &World) {
    let state = world.open().await;
    let first = made(&state, 1).await;
    state.set_candidate(&first, None, 2).await.unwrap();
    state.abandon(first.id, "it crashed", 3).await.unwrap();
    assert_eq!(row(&state).await, None, "it never had a live release");
    let crashed = Fate::Abandoned("it crashed".to_owned());
    assert_eq!(fates(&state).await, [(1, crashed.clone())]);

    state.set_candidate(&first, None, 4).await.unwrap();
    assert_eq!(fates(&state).await, [(1, Fate::Candidate)], "tried again");
    state.promote(&first, None, 5).await.unwrap();
    let (second, third) = (made(&state, 2).await, made(&state, 3).await);
    state.set_candidate(&second, None, 6).await.unwrap();
    state.set_candidate(&third, None, 7).await.unwrap();
    state.abandon(second.id, "it crashed", 8).await.unwrap();
    let service = row(&state).await.unwrap();
    assert_eq!(service.candidate, Some((third.id, None)), "the other one goes on");
    assert_eq!(service.live, Some(first.id));
    state.promote(&third, Some(first.id), 9).await.unwrap();

    // A rollback that fails: the release was live once, and stays so in the history.
    state.set_candidate(&first, None, 10).await.unwrap();
    assert_eq!(row(&state).await.unwrap().candidate, Some((first.id, None)));
    state.abandon(first.id, "it does not start any more", 11).await.unwrap();
    assert_eq!(row(&state).await.unwrap().candidate, None);
    assert_eq!(fates(&state).await, [(3, Fate::Live), (2, crashed), (1, Fate::Replaced)]);
    state.abandon(id(99), "nobody knows it", 12).await.unwrap();
}

async fn of_promotions_at_once_one_wins(world: &World) {
    let state = world.open().await;
    let first = live(&state, 1, 1).await;
    let tasks = (2..=9).map(|number| {
        let (world, first) = (world.clone(), first.id);
        tokio::spawn(async move {
            // A state of its own: what another process would have.
            let state = world.open().await;
            let release = made(&state, number).await;
            state.set_candidate(&release, None, number).await.unwrap();
            (release.clone(), state.promote(&release, Some(first), number).await.unwrap())
        })
    });
    let mut winner = None;
    let mut told = Vec::new();
    let mut numbers = std::collections::BTreeSet::from([1]);
    for done in futures_util::future::join_all(tasks).await {
        let (release, swap) = done.unwrap();
        assert!(numbers.insert(release.number), "a number was given twice");
        match swap {
            Swap::Done(before) => {
                assert_eq!(before, Some(first.id));
                assert_eq!(winner.replace(release.id), None, "two won");
            }
            Swap::LiveIs(live) => told.push(live),
        }
    }
    assert!(winner.is_some());
    assert_eq!(told, vec![winner; 7]);
    assert_eq!(numbers, (1..=9).collect());
    assert_eq!(row(&state).await.unwrap().live, winner);
    let live = fates(&state).await.into_iter().filter(|(_, fate)| *fate == Fate::Live);
    assert_eq!(live.count(), 1);
}

async fn the_history_is_pruned_and_numbers_are_not_given_again(world: &World) {
    let state = world.open().await;
    let mut all = BTreeMap::new();
    for number in 1..=4 {
        all.insert(number, live(&state, number, number * 10).await);
    }
    // Back to 2, so that 4 was live before; 3 and 1 are only old.
    go_live(&state, &all[&2], 50).await;
    for number in 5..=7 {
        let release = made(&state, number).await;
        state.set_candidate(&release, None, number).await.unwrap();
        state.abandon(release.id, "no", 60).await.unwrap();
    }
    let candidate = made(&state, 8).await;
    let numbers = |rows: Vec<ReleaseRow>| -> Vec<u64> {
        let mut numbers: Vec<u64> = rows.iter().map(|row| row.release.number).collect();
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(numbers(state.releases_beyond(20).await.unwrap()), Vec::<u64>::new());
    assert_eq!(numbers(state.releases_beyond(2).await.unwrap()), [1, 3, 5, 6]);
    assert_eq!(numbers(state.prune_releases(2).await.unwrap()), [1, 3, 5, 6]);
    assert_eq!(numbers(state.releases(Some(&serve())).await.unwrap()), [2, 4, 7, 8]);
    assert_eq!(state.release(all[&3].id).await.unwrap(), None);
    let error = state.set_candidate(&all[&3], None, 70).await.unwrap_err();
    assert!(error.to_string().contains("there is no release"), "{error}");
    let error = state.promote(&all[&3], Some(all[&2].id), 70).await.unwrap_err();
    assert!(error.to_string().contains("there is no release"), "{error}");
    assert_eq!(row(&state).await.unwrap().live, Some(all[&2].id));

    // What is not forgotten yet is told again: a gc may have been cut off.
    state.forget_release(all[&1].id).await.unwrap();
    state.forget_release(all[&2].id).await.unwrap();
    assert_eq!(numbers(state.prune_releases(2).await.unwrap()), [3, 5, 6]);
    for number in [3, 5, 6] {
        state.forget_release(id(number)).await.unwrap();
    }
    state.abandon(candidate.id, "no", 71).await.unwrap();
    assert_eq!(numbers(state.prune_releases(0).await.unwrap()), [7]);
    assert_eq!(numbers(state.releases(None).await.unwrap()), [2, 4, 8]);
    assert_eq!(made(&state, 9).await.number, 9);
    let before = state.live_before(&serve()).await.unwrap().unwrap();
    assert_eq!(before.release.number, 4);
}

async fn a_service_has_its_own_journal(world: &World) {
    let state = world.open().await;
    let other = service("iris/web");
    assert_eq!(state.service_events(&serve(), 10).await.unwrap(), []);
    let ended =
        |replica| ServiceEvent::ReplicaEnded { replica, release: id(1), end: JobEnd::Exited(1) };
    for number in 1..=1003 {
        state.append_service(&serve(), &ended(number), u64::from(number)).await.unwrap();
    }
    state.append_service(&other, &ServiceEvent::Recovered { replica: 1 }, 5).await.unwrap();
    let last = state.service_events(&serve(), 2).await.unwrap();
    assert_eq!(last, [(1002, ended(1002)), (1003, ended(1003))]);
    let all = state.service_events(&serve(), 5000).await.unwrap();
    assert_eq!((all.len(), all[0].0), (1000, 4), "old ones go");
    assert_eq!(state.service_events(&other, 5).await.unwrap().len(), 1);
}
