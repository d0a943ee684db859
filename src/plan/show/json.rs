//! The plan for machines.

use serde_json::{Map, Value, json};

use super::{detail, word};
use crate::plan::graph::Graph;
use crate::plan::verdict::{Plan, Verdict};
use crate::spec::Pipeline;

/// The plan as data.
///
/// ```json
/// {"pipeline": "iris",
///  "counts": {"reuse": 2, "run": 1, "depends": 0, "skip": 0, "fail": 0, "out": 1},
///  "tasks": [{"task": "train[trees=50]", "number": 2, "stage": "train", "copy": 1, "matrix": {"trees": 50},
///             "needs": ["prepare"], "verdict": "run", "key": "b3:…", "reason": {"changed": [{"field": "params.seed", "was": "7", "is": "8"}]},
///             "detail": "params.seed: 7 → 8", "on": null}]}
/// ```
///
/// Tasks stand in file order, also those that are not in the run (`out`). `needs` are stages. `key` is null where it is not
/// known; `reason` (as in the journal) only with `run`; `on` (stage and copy) only with `depends`.
pub fn json(pipeline: &Pipeline, graph: &Graph, plan: &Plan) -> Value {
    let counts = plan.counts();
    let tasks: Vec<Value> = graph
        .tasks
        .iter()
        .zip(&plan.verdicts)
        .enumerate()
        .map(|(index, (task, verdict))| {
            let matrix: Map<String, Value> = task
                .matrix
                .iter()
                .map(|(axis, value)| (axis.to_string(), value.to_json()))
                .collect();
            let (key, reason, on) = match verdict {
                Verdict::Reuse { key } => (Some(key), None, None),
                Verdict::Run { key, why } => (key.as_ref(), Some(why), None),
                Verdict::Depends { on } => (None, None, Some(on)),
                Verdict::Skip | Verdict::Fail { .. } | Verdict::Out => (None, None, None),
            };
            json!({
                "task": task.label,
                "number": index + 1,
                "stage": task.id.stage,
                "copy": task.id.copy,
                "matrix": matrix,
                "needs": pipeline.stages[&task.id.stage].needs,
                "verdict": word(verdict),
                "key": key,
                "reason": reason,
                "detail": detail(pipeline, graph, plan, index),
                "on": on,
            })
        })
        .collect();
    json!({
        "pipeline": pipeline.name,
        "counts": {
            "reuse": counts.reuse,
            "run": counts.run,
            "depends": counts.depends,
            "skip": counts.skip,
            "fail": counts.fail,
            "out": counts.out,
        },
        "tasks": tasks,
    })
}
