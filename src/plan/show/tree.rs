//! The plan for people.

use owo_colors::{OwoColorize, Style};

use super::service::leaving;
use super::{rows, word};
use crate::plan::graph::{Graph, Part};
use crate::plan::stages::StageGraph;
use crate::plan::verdict::{Plan, Verdict};
use crate::spec::Pipeline;
use crate::words::visible;

/// Levels that are still indented: a chain of a thousand stages stays on the screen.
const DEEPEST: usize = 12;

/// Characters of the column of verdicts, unless a longer word stands in it.
const NARROWEST: usize = 8;

/// One line a task, each after all it needs, indented below what it needs, with its verdict and the reason; then a line of
/// counts, and one for each service that leaves the file. Copies of a stage that are all alike stand on one line.
pub fn tree(pipeline: &Pipeline, graph: &Graph, plan: &Plan, colour: bool) -> String {
    let stages = StageGraph::of(pipeline);
    let order = stages.order();
    let mut levels = vec![0_usize; pipeline.stages.len()];
    let in_run: Vec<bool> = pipeline
        .stages
        .keys()
        .map(|stage| graph.copies(stage).any(|index| graph.tasks[index].part != Part::Out))
        .collect();
    for position in order.iter().copied().filter(|position| in_run[*position]) {
        for user in stages.needed_by(position) {
            levels[user] = levels[user].max(levels[position] + 1);
        }
    }
    let lines: Vec<(&Verdict, String, Option<String>)> = order
        .into_iter()
        .filter_map(|position| Some((levels[position], pipeline.stages.get_index(position)?.0)))
        .flat_map(|(level, stage)| {
            let indent = "  ".repeat(level.min(DEEPEST));
            rows(pipeline, graph, plan, stage).into_iter().map(move |row| {
                let verdict = &plan.verdicts[row.tasks.start];
                let detail = row.detail.map(|detail| visible(&detail).into_owned());
                (verdict, format!("{indent}{}", visible(&row.label)), detail)
            })
        })
        .collect();

    let width = lines.iter().map(|(_, label, _)| label.chars().count()).max().unwrap_or(0);
    let words = lines.iter().map(|(verdict, ..)| word(verdict).len()).fold(NARROWEST, usize::max);
    let mut text = String::new();
    for (verdict, label, detail) in &lines {
        let word = format!("{:<words$}", word(verdict));
        let word = painted(&word, style(verdict), colour);
        let line = match detail {
            Some(detail) => {
                let label = format!("{label:<width$}");
                let label = match verdict {
                    Verdict::Reuse { .. } => painted(&label, Style::new().dimmed(), colour),
                    _ => label,
                };
                format!("{word} {label}  {}", painted(detail, Style::new().dimmed(), colour))
            }
            None if matches!(verdict, Verdict::Reuse { .. }) => {
                format!("{word} {}", painted(label, Style::new().dimmed(), colour))
            }
            None => format!("{word} {label}"),
        };
        text.push_str(&line);
        text.push('\n');
    }
    if !lines.is_empty() {
        text.push('\n');
    }
    for line in leaving(plan) {
        text.push_str(&painted(&line, Style::new().yellow(), colour));
        text.push('\n');
    }
    text.push_str(&legend(pipeline, graph, plan));
    text.push('\n');
    if let Some(shared) = plan.shared.as_ref().filter(|shared| !shared.made.is_empty()) {
        let line = format!("results come from the store at {}", visible(&shared.place));
        text.push_str(&painted(&line, Style::new().dimmed(), colour));
        text.push('\n');
    }
    text
}

/// `2 to reuse, 3 to run, 1 depends`; tasks that are not selected are counted, hooks are not.
fn legend(pipeline: &Pipeline, graph: &Graph, plan: &Plan) -> String {
    let counts = plan.counts();
    let hooks: usize = pipeline
        .stages
        .values()
        .filter(|stage| stage.outside_dag)
        .map(|stage| graph.copies(&stage.name).len())
        .sum();
    let mut parts: Vec<String> = [
        (counts.reuse, "to reuse"),
        (counts.run, "to run"),
        (counts.unchanged, "unchanged"),
        (counts.rollout, "to roll out"),
        (counts.keep, "to keep"),
        (counts.depends, if counts.depends == 1 { "depends" } else { "depend" }),
        (counts.skip, "to skip"),
        (counts.fail, "would fail"),
        (counts.out.saturating_sub(hooks), "not in this run"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, words)| format!("{count} {words}"))
    .collect();
    if parts.is_empty() {
        parts.push("no tasks".to_owned());
    }
    parts.join(", ")
}

fn style(verdict: &Verdict) -> Style {
    match verdict {
        Verdict::Reuse { .. } | Verdict::Unchanged { .. } | Verdict::Skip | Verdict::Out => {
            Style::new().dimmed()
        }
        Verdict::Run { .. } | Verdict::RollOut { .. } => Style::new().green(),
        Verdict::Keep { .. } => Style::new().yellow(),
        Verdict::Depends { .. } => Style::new().cyan(),
        Verdict::Fail { .. } => Style::new().red().bold(),
    }
}

fn painted(text: &str, style: Style, colour: bool) -> String {
    if colour { text.style(style).to_string() } else { text.to_owned() }
}
