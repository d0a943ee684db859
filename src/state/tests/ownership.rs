//! Who owns a run: on files, and with leases between homes.

use std::time::Duration;

use super::*;
use crate::testing::soon;

both! {
    one_owner_at_a_time,
}

mod leases {
    use super::*;

    in_postgres! {
        a_lease_is_of_one_home,
        a_lease_that_is_dropped_is_free_at_once,
        who_lost_a_run_does_not_remove_it,
        a_lease_that_is_over_is_taken_and_the_sleeper_changes_nothing,
        a_dead_process_of_the_same_home_is_followed_at_once,
        of_two_who_take_over_one_wins,
        who_lives_is_heard_before_its_lease_is_taken,
    }

    async fn a_lease_is_of_one_home(world: &World) {
        let run = id(1);
        let here = world.open().await;
        let lock = here.try_own(run, &folder(world, run)).await.unwrap().unwrap();
        here.bind_pipeline(&pipeline(), "/repo", 1, false).await.unwrap();
        add_run(&here, run, &[]).await;
        let there = world.elsewhere();
        let other = there.open().await;
        assert!(other.is_owned(run, &folder(&there, run)).await.unwrap());
        assert!(other.try_own(run, &folder(&there, run)).await.unwrap().is_none());
        assert!(!folder(&there, run).exists(), "nothing is made for runs of others");
        assert!(here.has_folder(&folder(world, run)));
        let alone = State::open(world.home.path()).await.unwrap();
        assert!(!alone.has_folder(&folder(world, run)), "it is of another state");
        lock.release().await;
        assert!(!other.is_owned(run, &folder(&there, run)).await.unwrap());
        let lock = other.try_own(run, &folder(&there, run)).await.unwrap();
        assert!(lock.is_some());
        assert!(here.try_own(run, &folder(world, run)).await.unwrap().is_none());
    }

    async fn a_lease_that_is_dropped_is_free_at_once(world: &World) {
        let run = id(1);
        let here = state_with_run(world, run, &[]).await;
        free(&here).await;
        let lock = here.try_own(run, &folder(world, run)).await.unwrap().unwrap();
        let there = world.elsewhere();
        let other = there.open().await;
        assert!(other.try_own(run, &folder(&there, run)).await.unwrap().is_none());
        // As an error on its way up does.
        drop(lock);
        assert!(other.try_own(run, &folder(&there, run)).await.unwrap().is_some());
    }

    /// A gc that was stopped in its middle, and wakes when somebody has opened the run again.
    async fn who_lost_a_run_does_not_remove_it(world: &World) {
        let run = id(1);
        let sleeper = state_with_run(world, run, &[]).await;
        let over = [RunEvent::Ended { outcome: RunOutcome::Failed }];
        sleeper.append(run, FIRST_EPOCH, 2, &over, &[]).await.unwrap();
        free(&sleeper).await;
        let mut lock = sleeper.try_own(run, &folder(world, run)).await.unwrap().unwrap();
        lock.fall_asleep().await;
        say(&sleeper, "UPDATE run SET lease_until = 1").await;
        let there = world.elsewhere();
        let next = there.open().await;
        let next_lock = next.try_own(run, &folder(&there, run)).await.unwrap().unwrap();
        let refused = sleeper.delete_run(run).await;
        assert!(matches!(refused, Err(StateError::Fenced { .. })), "{refused:?}");
        next.take_over(run, &owner(), 3).await.unwrap();
        let refused = next.delete_run(run).await;
        assert!(matches!(refused, Err(StateError::Fenced { .. })), "it goes on: {refused:?}");
        next_lock.release().await;
        assert!(next.run(run).await.unwrap().is_some());
    }

    async fn a_lease_that_is_over_is_taken_and_the_sleeper_changes_nothing(world: &World) {
        let run = id(1);
        let train = task("train", 1);
        let sleeper = world.open().await;
        let mut lock = sleeper.try_own(run, &folder(world, run)).await.unwrap().unwrap();
        lock.fall_asleep().await;
        sleeper.bind_pipeline(&pipeline(), "/repo", 1, false).await.unwrap();
        add_run(&sleeper, run, std::slice::from_ref(&train)).await;
        sleeper.confirm(run, FIRST_EPOCH).await.unwrap();
        // What 30 s of sleep do.
        say(&sleeper, "UPDATE run SET lease_until = 1").await;

        let there = world.elsewhere();
        let next = there.open().await;
        let _next_lock = next.try_own(run, &folder(&there, run)).await.unwrap().unwrap();
        // From here on, also before the epoch is raised.
        let event = [started(&train, 1, None, run)];
        let refused = sleeper.append(run, FIRST_EPOCH, 5, &event, &[]).await;
        assert!(matches!(refused, Err(StateError::Fenced { .. })), "{refused:?}");
        assert!(sleeper.confirm(run, FIRST_EPOCH).await.is_err());
        let late = sleeper.take_over(run, &owner(), 6).await;
        assert!(matches!(late, Err(StateError::Fenced { .. })), "{late:?}");
        let epoch = next.take_over(run, &owner(), 6).await.unwrap();
        next.append(run, epoch, 7, &event, &[]).await.unwrap();
        let before = next.events(run, 0).await.unwrap();
        let refused = sleeper.append(run, FIRST_EPOCH, 8, &event, &[]).await;
        assert!(matches!(refused, Err(StateError::Fenced { .. })), "{refused:?}");
        assert_eq!(next.events(run, 0).await.unwrap(), before);
        assert!(sleeper.try_own(run, &folder(world, run)).await.unwrap().is_none());
    }

    /// The database was away for longer than a lease lasts, and who waits for the run asks first.
    async fn who_lives_is_heard_before_its_lease_is_taken(world: &World) {
        let run = id(1);
        let owner = state_with_run(world, run, &[]).await;
        say(&owner, "UPDATE run SET lease_until = 1").await;
        let there = world.elsewhere();
        let other = there.open().await;
        let renew = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            say(&owner, "UPDATE run SET lease_until = 4000000000000").await;
        };
        let at = folder(&there, run);
        let (taken, ()) = tokio::join!(other.try_own(run, &at), renew);
        assert!(taken.unwrap().is_none());
        owner.confirm(run, FIRST_EPOCH).await.unwrap();
    }

    async fn a_dead_process_of_the_same_home_is_followed_at_once(world: &World) {
        let run = id(1);
        let first = world.open().await;
        first.bind_pipeline(&pipeline(), "/repo", 1, false).await.unwrap();
        let lock = first.try_own(run, &folder(world, run)).await.unwrap().unwrap();
        add_run(&first, run, &[]).await;
        lock.die();
        let second = world.open().await;
        assert!(!second.is_owned(run, &folder(world, run)).await.unwrap());
        let lock = second.try_own(run, &folder(world, run)).await.unwrap();
        assert!(lock.is_some(), "no need to wait until the lease is over");
        assert!(first.append(run, FIRST_EPOCH, 2, &[], &[]).await.is_err());
    }

    async fn of_two_who_take_over_one_wins(world: &World) {
        let run = id(1);
        state_with_run(world, run, &[]).await;
        say(&world.open().await, "UPDATE run SET lease_until = 1").await;
        let takers = (0..6).map(|_| {
            let there = world.elsewhere();
            tokio::spawn(async move {
                let state = there.open().await;
                let lock = state.try_own(run, &folder(&there, run)).await.unwrap();
                if lock.is_some() {
                    state.take_over(run, &owner(), 3).await.unwrap();
                }
                (there, lock)
            })
        });
        let done = futures_util::future::join_all(takers).await;
        let won = done.iter().filter(|done| done.as_ref().unwrap().1.is_some()).count();
        assert_eq!(won, 1);
        let row = world.open().await.run(run).await.unwrap().unwrap();
        assert_eq!(row.epoch, FIRST_EPOCH + 1);
    }
}

fn folder(world: &World, run: RunId) -> std::path::PathBuf {
    world.home.path().join("runs").join(run.to_string())
}

async fn one_owner_at_a_time(world: &World) {
    let run = id(1);
    let folder = folder(world, run);
    let (first, second) = (world.open().await, world.open().await);
    assert!(!first.is_owned(run, &folder).await.unwrap());
    let lock = first.try_own(run, &folder).await.unwrap().expect("nobody has it");
    assert!(second.is_owned(run, &folder).await.unwrap());
    assert!(second.try_own(run, &folder).await.unwrap().is_none());
    lock.release().await;
    assert!(soon(|| !super::super::lock::is_locked(&folder)));
    assert!(!second.is_owned(run, &folder).await.unwrap());
    assert!(second.try_own(run, &folder).await.unwrap().is_some());
}
