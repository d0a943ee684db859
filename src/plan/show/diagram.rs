//! The plan as a picture: Graphviz and Mermaid.

use std::fmt::Write as _;

use super::{Row, rows, word};
use crate::plan::graph::{Graph, Part};
use crate::plan::verdict::{Plan, Verdict};
use crate::spec::Pipeline;

/// One box of the picture.
struct Node {
    /// The number of its first task.
    number: usize,
    row: Row,
    word: &'static str,
    colour: &'static str,
}

/// The boxes by stage, and the arrows between them by number.
fn picture(pipeline: &Pipeline, graph: &Graph, plan: &Plan) -> (Vec<Node>, Vec<(usize, usize)>) {
    let mut by_stage: Vec<Vec<Node>> = pipeline
        .stages
        .keys()
        .map(|stage| {
            rows(pipeline, graph, plan, stage)
                .into_iter()
                .map(|row| {
                    let verdict = &plan.verdicts[row.tasks.start];
                    let (word, colour) = (word(verdict), colour(verdict));
                    Node { number: row.tasks.start + 1, row, word, colour }
                })
                .collect()
        })
        .collect();
    let in_run = |position: usize| {
        pipeline
            .stages
            .get_index(position)
            .and_then(|(stage, _)| graph.copies(stage).next())
            .is_some_and(|index| graph.tasks[index].part != Part::Out)
    };
    let mut arrows = Vec::new();
    for (position, stage) in pipeline.stages.values().enumerate() {
        if !in_run(position) {
            continue;
        }
        for need in stage.needs.iter().filter_map(|need| pipeline.stages.get_index_of(need)) {
            for from in &by_stage[need] {
                arrows.extend(by_stage[position].iter().map(|to| (from.number, to.number)));
            }
        }
    }
    (by_stage.drain(..).flatten().collect(), arrows)
}

fn colour(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Reuse { .. } | Verdict::Unchanged { .. } | Verdict::Skip | Verdict::Out => {
            "#e0e0e0"
        }
        Verdict::Run { .. } | Verdict::RollOut { .. } => "#b7e1a1",
        Verdict::Keep { .. } => "#f3dfa2",
        Verdict::Depends { .. } => "#a8dadc",
        Verdict::Fail { .. } => "#f4a6a6",
    }
}

/// The plan for Graphviz.
pub fn dot(pipeline: &Pipeline, graph: &Graph, plan: &Plan) -> String {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ");
    let (nodes, arrows) = picture(pipeline, graph, plan);
    let mut text = format!("digraph \"{}\" {{\n  rankdir=LR;\n", pipeline.name);
    text.push_str("  node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\"];\n");
    for node in nodes {
        let tooltip = node.row.detail.unwrap_or_else(|| node.word.to_owned());
        writeln!(
            text,
            "  t{} [label=\"{}\\n{}\", fillcolor=\"{}\", tooltip=\"{}\"];",
            node.number,
            escaped(&node.row.label),
            node.word,
            node.colour,
            escaped(&tooltip)
        )
        .ok();
    }
    for (from, to) in arrows {
        writeln!(text, "  t{from} -> t{to};").ok();
    }
    text.push_str("}\n");
    text
}

/// The plan for Mermaid (GitHub shows it in Markdown).
pub fn mermaid(pipeline: &Pipeline, graph: &Graph, plan: &Plan) -> String {
    let escaped = |text: &str| {
        text.replace('&', "&amp;")
            .replace('"', "#quot;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('\n', " ")
    };
    let (nodes, arrows) = picture(pipeline, graph, plan);
    let mut text = "flowchart LR\n".to_owned();
    for node in &nodes {
        writeln!(text, "  t{}[\"{}<br/>{}\"]", node.number, escaped(&node.row.label), node.word)
            .ok();
    }
    for (from, to) in arrows {
        writeln!(text, "  t{from} --> t{to}").ok();
    }
    for node in &nodes {
        writeln!(text, "  style t{} fill:{},color:#000", node.number, node.colour).ok();
    }
    text
}
