//! `pick`: the winner among a stage's copies.

use crate::event::Metrics;
use crate::spec::pipeline::Pick;

/// The copy with the best metric, and its value: the first one wins a tie, a copy without the metric cannot win.
/// None when no copy reported it. Copies come in matrix order.
pub fn pick_winner<'a>(
    pick: &Pick,
    copies: impl Iterator<Item = (u32, &'a Metrics)>,
) -> Option<(u32, f64)> {
    copies
        .filter_map(|(copy, metrics)| Some((copy, *metrics.get(&pick.metric)?)))
        .filter(|(_, value)| !value.is_nan())
        .reduce(|best, next| {
            let better = if pick.largest { next.1 > best.1 } else { next.1 < best.1 };
            if better { next } else { best }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn winner(largest: bool, values: &[Option<f64>]) -> Option<(u32, f64)> {
        let copies: Vec<Metrics> = values
            .iter()
            .map(|value| value.map(|value| ("accuracy".to_owned(), value)).into_iter().collect())
            .collect();
        let pick = Pick { metric: "accuracy".to_owned(), largest };
        pick_winner(&pick, (1..).zip(&copies))
    }

    #[test]
    fn the_best_wins_and_the_first_of_equals() {
        assert_eq!(winner(true, &[Some(0.5), Some(0.9), Some(0.9)]), Some((2, 0.9)));
        assert_eq!(winner(false, &[Some(0.5), Some(0.1), Some(0.1)]), Some((2, 0.1)));
        assert_eq!(winner(true, &[None, Some(-1.0)]), Some((2, -1.0)));
        assert_eq!(winner(true, &[None, None]), None);
        assert_eq!(winner(true, &[]), None);
    }
}
