//! The plan for machines.

use serde_json::{Map, Value, json};

use super::service::in_place;
use super::{detail, word};
use crate::event::{FieldChange, Reason};
use crate::plan::graph::Graph;
use crate::plan::verdict::{Plan, Verdict};
use crate::spec::Pipeline;
use crate::spec::pipeline::Service;

/// The plan as data.
///
/// ```json
/// {"pipeline": "iris",
///  "counts": {"reuse": 2, "run": 1, "unchanged": 0, "rollout": 1, "keep": 0, "depends": 0, "skip": 0, "fail": 0, "out": 1},
///  "leaving": ["old"], "store": null,
///  "tasks": [{"task": "train[trees=50]", "number": 2, "stage": "train", "copy": 1, "matrix": {"trees": 50},
///             "needs": ["prepare"], "verdict": "run", "key": "b3:…", "reason": {"changed": [{"field": "params.seed", "was": "7", "is": "8"}]},
///             "detail": "params.seed: 7 → 8", "on": null, "from": null, "service": null},
///            {"task": "serve", "verdict": "rollout", …,
///             "service": {"live": 3, "gate": ["evaluate.metrics.accuracy >= 0.9"], "verify": "smoke", "in_place": null, "adjust": []}}]}
/// ```
///
/// Tasks stand in file order, also those that are not in the run (`out`). `needs` are stages. `key` is null where it is not
/// known; `store` only where machines share it, and then `from` says with `reuse` the run that made the result, who on which host, and
/// when (Unix milliseconds); `reason` (as in the journal) only with `run` and `rollout`; `on` (stage and copy) only with `depends`. `leaving` are the
/// services that are live and not in the file any more. `service`: the number of the live release where it stays what it is,
/// why the service is `in_place` replaced if so, and what of replicas and route changes in place.
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
                Verdict::Run { key, why } => (key.as_ref(), Some(why.clone()), None),
                Verdict::RollOut { why, .. } if why.is_empty() => {
                    (None, Some(Reason::FirstTime), None)
                }
                Verdict::RollOut { why, .. } => (None, Some(Reason::Changed(why.clone())), None),
                Verdict::Depends { on } => (None, None, Some(on)),
                Verdict::Unchanged { .. }
                | Verdict::Keep { .. }
                | Verdict::Skip
                | Verdict::Fail { .. }
                | Verdict::Out => (None, None, None),
            };
            let service = pipeline.stages[&task.id.stage].service();
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
                "from": from(plan, verdict),
                "service": service.map(|service| of_service(service, plan.in_containers, verdict)),
            })
        })
        .collect();
    json!({
        "pipeline": pipeline.name,
        "counts": {
            "reuse": counts.reuse,
            "run": counts.run,
            "unchanged": counts.unchanged,
            "rollout": counts.rollout,
            "keep": counts.keep,
            "depends": counts.depends,
            "skip": counts.skip,
            "fail": counts.fail,
            "out": counts.out,
        },
        "leaving": plan.leaving,
        "store": plan.shared.as_ref().map(|shared| &shared.place),
        "tasks": tasks,
    })
}

/// Who made what is reused.
fn from(plan: &Plan, verdict: &Verdict) -> Value {
    let Verdict::Reuse { key } = verdict else { return Value::Null };
    match plan.shared.as_ref().and_then(|shared| shared.made.get(key)) {
        Some((run, made)) => json!({"run": run, "on": made.on, "at": made.at}),
        None => Value::Null,
    }
}

fn of_service(service: &Service, in_containers: bool, verdict: &Verdict) -> Value {
    let (live, adjust): (Option<u64>, &[FieldChange]) = match verdict {
        Verdict::Unchanged { number, adjust, .. } => (Some(*number), adjust),
        _ => (None, &[]),
    };
    json!({
        "live": live,
        "gate": service.gate.iter().map(|one| one.source.as_str()).collect::<Vec<_>>(),
        "verify": service.verify,
        "in_place": in_place(service, in_containers),
        "adjust": adjust,
    })
}
