//! Stages that wait for each other.

use std::collections::HashMap;

use super::super::draft::Draft;
use super::super::problem::{Problem, Span};
use super::super::reader::Reader;
use super::edges::Edges;

/// Reports one cycle for each knot of stages.
///
/// Takes away every stage that waits for nothing that is left, until only cycles and what waits for them is left;
/// from there, following needs must come round. Then what was said is taken away too. No recursion: chains are long.
pub(super) fn report(draft: &Draft, edges: &Edges, reader: &mut Reader<'_>) {
    let count = draft.stages.len();
    let mut needs: Vec<Vec<(usize, Span)>> = Vec::with_capacity(count);
    for name in draft.stages.keys() {
        let known = edges.of(name);
        needs.push(
            known.filter_map(|(n, span)| Some((draft.stages.get_index_of(n)?, *span))).collect(),
        );
    }
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); count];
    let mut waiting: Vec<usize> = needs.iter().map(Vec::len).collect();
    for (stage, needs) in needs.iter().enumerate() {
        for (needed, _) in needs {
            needed_by[*needed].push(stage);
        }
    }
    let mut left = vec![true; count];
    let mut free: Vec<usize> = (0..count).filter(|stage| waiting[*stage] == 0).collect();
    let mut first = 0;
    loop {
        while let Some(stage) = free.pop() {
            if !std::mem::replace(&mut left[stage], false) {
                continue;
            }
            for later in &needed_by[stage] {
                waiting[*later] = waiting[*later].saturating_sub(1);
                if waiting[*later] == 0 {
                    free.push(*later);
                }
            }
        }
        while first < count && !left[first] {
            first += 1;
        }
        if first == count {
            return;
        }
        let cycle = cycle_from(first, &needs, &left);
        say(draft, &cycle, reader);
        free.extend(cycle.iter().map(|(stage, _)| *stage));
    }
}

/// The stages of a cycle that `start` is in or waits for, each with the place of its need.
fn cycle_from(start: usize, needs: &[Vec<(usize, Span)>], left: &[bool]) -> Vec<(usize, Span)> {
    let mut path: Vec<(usize, Span)> = Vec::new();
    let mut position: HashMap<usize, usize> = HashMap::new();
    let mut at = start;
    loop {
        if let Some(from) = position.get(&at) {
            return path.split_off(*from);
        }
        // Every stage that is left waits for one that is left.
        let Some((next, span)) = needs[at].iter().find(|(needed, _)| left[*needed]) else {
            return path;
        };
        position.insert(at, path.len());
        path.push((at, *span));
        at = *next;
    }
}

fn say(draft: &Draft, cycle: &[(usize, Span)], reader: &mut Reader<'_>) {
    let Some((_, span)) = cycle.first() else { return };
    let name = |index: usize| {
        draft.stages.get_index(index).map(|(name, _)| format!("`{name}`")).unwrap_or_default()
    };
    let shown: Vec<String> = cycle.iter().take(8).map(|(stage, _)| name(*stage)).collect();
    let message = match (shown.as_slice(), cycle.len() - shown.len()) {
        ([one], _) => format!("stage {one} needs itself"),
        (shown, 0) => format!("stages need each other: {} → {}", shown.join(" → "), shown[0]),
        (shown, more) => {
            format!("stages need each other: {} and {more} more", shown.join(" → "))
        }
    };
    reader.report(
        Problem::new("cycle", *span, message)
            .help("remove one of these needs, inputs or expressions")
            .label("closes the circle"),
    );
}
