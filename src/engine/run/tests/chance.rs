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
                again.go();
                let hooks = [graph.on_failure, graph.on_exit];
                for task in finished {
                    let hook = hooks.contains(&graph.find(&task));
                    prop_assert!(hook || again.finished().contains(&task));
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
        let fate = if cruel { Fate::cruel(seed) } else { Fate::kind(seed) };
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
