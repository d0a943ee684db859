//! All rules at once, at random.

use proptest::prelude::*;

use super::*;

/// A journal cut after `length` records and taken over by somebody else.
fn cut(journal: &[Recorded], length: usize) -> Vec<Recorded> {
    let mut events: Vec<RunEvent> =
        journal[..length].iter().map(|record| record.event.clone()).collect();
    if !matches!(events.last(), Some(RunEvent::Ended { .. })) {
        events.push(RunEvent::TakenOver { by: owner(), epoch: 2 });
    }
    recorded(events)
}

/// The random worlds know every way that a rollout can go; else the promises below say nothing of it.
#[test]
fn every_way_of_a_rollout_is_drawn() {
    let mut seen = BTreeMap::<String, u32>::new();
    for seed in 0..400 {
        let (graph, facts) = random_graph(&mut Dice::new(seed));
        let mut world = World::fresh(&graph, &facts, Fate::cruel(seed));
        world.go();
        for record in &world.journal {
            let way = match &record.event {
                RunEvent::GateDecided { passed, .. } => format!("gate {passed}"),
                RunEvent::Verified { passed, .. } => format!("verified {passed}"),
                RunEvent::RolloutAbandoned { why, .. } => why.clone(),
                RunEvent::RolloutPromoted { .. } => "promoted".to_owned(),
                RunEvent::RolloutUnchanged { .. } => "unchanged".to_owned(),
                RunEvent::Ended { outcome } => outcome.word().to_owned(),
                _ => continue,
            };
            *seen.entry(way).or_default() += 1;
        }
    }
    let ways = [
        "gate true",
        "gate false",
        "verified true",
        "verified false",
        "promoted",
        "unchanged",
        "kept",
        "replica 1 never listened",
        "the run was stopped",
        "the run's `timeout` was over",
        "another release is live by now; the service is looked at again",
        "another release is live by now, and an input of the one before was judged",
    ];
    for way in ways {
        assert!(seen.contains_key(way), "{way} is not among {seen:#?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random graphs in four worlds each: every promise after every step, and an end.
    #[test]
    fn any_run_keeps_every_promise(seed: u64) {
        let (graph, facts) = random_graph(&mut Dice::new(seed));
        for world in 0..4 {
            let seed = seed.wrapping_add(world);
            let fate = if world == 0 { Fate::kind(seed) } else { Fate::cruel(seed) };
            let mut world = World::fresh(&graph, &facts, fate);
            let outcome = world.go();
            if fate.bad_end > 0 && outcome != RunOutcome::Done {
                // Opened again in a better world, the run does the rest and only that.
                let mut events: Vec<RunEvent> =
                    world.journal.iter().map(|record| record.event.clone()).collect();
                events.push(RunEvent::Reopened { by: owner(), epoch: 2 });
                let finished = world.finished();
                let fate = Fate { lost: 0, ..Fate::kind(seed) };
                let mut again = World::new(&graph, &facts, recorded(events), fate, 1);
                again.jobs = world.jobs;
                again.server = world.server;
                again.go();
                for task in finished {
                    let beside = graph.tasks[graph.find(&task).unwrap()].part == Part::Out;
                    prop_assert!(beside || again.finished().contains(&task));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// A crash after any record: the next process brings the run to an end, and where nothing fails, to the same one.
    #[test]
    fn a_journal_cut_anywhere_recovers(seed: u64, cruel: bool) {
        let (graph, facts) = random_graph(&mut Dice::new(seed));
        // Losses that come too often in a row are a failure, and a crash can add one.
        let kind = Fate { lost: 0, ..Fate::kind(seed) };
        let fate = if cruel { Fate::cruel(seed) } else { kind };
        let mut whole = World::fresh(&graph, &facts, fate);
        let outcome = whole.go();
        for length in 1..=whole.journal.len() {
            let journal = cut(&whole.journal, length);
            let mut world = World::new(&graph, &facts, journal, fate, length as u64);
            // Jobs live on beside the crash; of the last one nobody knows whether it was really started.
            for (place, record) in whole.journal[..length].iter().enumerate() {
                if let RunEvent::AttemptStarted { task, attempt, .. } = &record.event
                    && (place + 1 < length || length % 2 == 0)
                {
                    world.jobs.insert((graph.find(task).unwrap(), *attempt));
                }
            }
            // Nor whether a promotion that was asked for had happened.
            if let RunEvent::Verified { release, passed: true, .. } =
                whole.journal[length - 1].event
                && length % 2 == 0
            {
                world.server.promoted.insert(release);
            }
            let again = world.go();
            if !cruel {
                prop_assert_eq!(again, outcome);
                if outcome == RunOutcome::Done {
                    prop_assert_eq!(world.finished(), whole.finished());
                }
            }
        }
    }
}
