//! The words of other tools, and keys at the wrong place: what to write here instead.

/// The help for a key that a table (by its name) does not have.
pub(super) fn meant(table: &str, word: &str) -> Option<&'static str> {
    let words: &[(&[&str], &str)] = match table {
        "pipeline" => FILE,
        "stage" => STAGE,
        "service" => SERVICE,
        "resources" => RESOURCES,
        "retries" => RETRIES,
        "source" => SOURCE,
        "schedule" => SCHEDULE,
        "param" => PARAM,
        "input" => INPUT,
        _ => &[],
    };
    words.iter().find(|(names, _)| names.contains(&word)).map(|(_, help)| *help)
}

type Words = [(&'static [&'static str], &'static str)];

const FILE: &Words = &[
    (&["services"], "make each a stage with a `service` key: `stages.x.service`"),
    (&["jobs", "steps", "tasks", "nodes", "rules"], "write them under `stages`"),
    (&["parameters", "vars", "variables", "inputs", "config"], "write them under `params`"),
    (&["cron"], "write it under `schedule`: `schedule: {cron: …}`"),
    (
        &["on", "trigger", "triggers"],
        "write `schedule: {cron: …}`, or call `flowrun apply` from your CI",
    ),
    (&["repo", "repository", "git", "url"], "write it under `source`: `source: {git: …}`"),
    (
        &[
            "env",
            "image",
            "build",
            "pull",
            "python",
            "requirements",
            "requirements_file",
            "secrets",
            "resources",
            "retries",
            "container",
        ],
        "write it under `defaults`",
    ),
    (&["pipeline", "project"], "name the pipeline with `name`"),
    (
        &["on_success"],
        "write a stage that needs the last one; `on_failure` and `on_exit` are for the rest",
    ),
    (&["max_parallel", "concurrency"], "use the flag `--jobs`"),
];

const STAGE: &Words = &[
    (
        &["depends_on", "depends", "dependencies", "after", "requires", "need", "upstream"],
        "write `needs`",
    ),
    (&["if", "only", "unless", "condition", "rules"], "write `when`"),
    (
        &[
            "cmd",
            "command",
            "commands",
            "entrypoint",
            "script",
            "exec",
            "shell",
            "executable_module_path",
        ],
        "write `run`",
    ),
    (
        &["deps", "input", "in", "consumes"],
        "write `inputs` for artifacts and `files` for files of the repo",
    ),
    (&["outs", "output", "out", "artifacts", "produces"], "write `outputs`"),
    (&["port", "ports", "expose"], "write `service.port`"),
    (
        &["replicas", "ready", "alive", "drain", "route", "gate", "verify", "listen", "protocol"],
        "write it under `service`",
    ),
    (&["healthcheck", "health_check", "readiness", "readinessProbe"], "write `service.ready`"),
    (&["livenessProbe", "liveness"], "write `service.alive`"),
    (&["strategy", "foreach", "for_each", "parallel", "sweep"], "write `matrix`"),
    (
        &[
            "limits",
            "requests",
            "cpu",
            "memory",
            "gpu",
            "mem",
            "cpus",
            "cpu_request",
            "memory_request_mb",
        ],
        "write it under `resources`",
    ),
    (&["environment", "variables", "vars", "envs"], "write `env`"),
    (
        &["working_directory", "working-directory", "working_dir", "cwd", "wdir", "directory"],
        "write `workdir`",
    ),
    (&["retry", "attempts"], "write `retries`"),
    (
        &["timeout-minutes", "timeout_minutes", "max_completion_time_seconds", "deadline"],
        "write `timeout` with a unit, like `30m`",
    ),
    (&["secret"], "write `secrets`"),
    (&["pip", "packages", "pip_install"], "write `requirements`"),
    (&["python_version", "python-version"], "write `python`"),
    (&["docker", "docker_image", "container_image"], "write `image`"),
    (&["dockerfile"], "write `build: {dockerfile: …}`"),
    (&["on_failure", "on_exit", "schedule", "stages", "source"], "write it at the top of the file"),
    (&["arguments", "argv"], "write the command as a list in `run`"),
    (&["always_changed"], "write `cache: false`"),
    (&["param"], "write `params`"),
    (&["mounts"], "write `volumes`, for services"),
    (&["batch"], "leave it out: a stage without `service` is a batch stage"),
];

const SERVICE: &Words = &[
    (&["healthcheck", "health_check", "readiness", "readinessProbe"], "write `ready`"),
    (&["livenessProbe", "liveness"], "write `alive`"),
    (&["ingress", "path", "url", "prefix"], "write `route`"),
    (&["scale", "instances", "workers", "count"], "write `replicas`"),
    (&["target_port", "targetPort", "container_port"], "write `listen`"),
    (&["max_startup_time_seconds"], "write `ready.within` with a unit"),
    (
        &["run", "inputs", "env", "image", "resources", "volumes", "secrets"],
        "write it in the stage, beside `service`",
    ),
];

const RESOURCES: &Words = &[
    (
        &["limits", "requests"],
        "write `cpu` and `memory` here; they are requests and limits (`limit: false` for requests only)",
    ),
    (&["cpus", "cores"], "write `cpu`"),
    (&["mem", "ram", "memory_mb"], "write `memory` with a unit, like `4Gi`"),
    (&["gpus", "nvidia.com/gpu"], "write `gpu`"),
];

const RETRIES: &Words = &[
    (
        &["attempts", "count", "times", "limit", "retries"],
        "write `max`: retries after the first attempt",
    ),
    (&["delay", "wait", "interval", "sleep"], "write `backoff`"),
    (&["oom", "memory"], "write `on_oom: {memory: 2x}`"),
];

const SOURCE: &Words = &[
    (&["url", "repo", "repository", "git_url"], "write `git`"),
    (&["branch", "tag", "commit", "revision", "rev"], "write `ref`"),
];

const SCHEDULE: &Words = &[
    (&["tz", "time_zone", "timeZone"], "write `timezone`"),
    (&["concurrency", "concurrencyPolicy"], "write `overlap`"),
    (&["catchup", "backfill"], "write `catch_up`"),
    (&["every", "interval"], "write `cron`"),
];

const PARAM: &Words = &[
    (&["value"], "write `default`"),
    (&["description", "doc"], "write `help`"),
    (&["kind"], "write `type`"),
    (&["minimum"], "write `min`"),
    (&["maximum"], "write `max`"),
];

const INPUT: &Words = &[
    (&["stage", "output", "artifact", "source"], "write `from: stage.output`"),
    (&["to", "at", "dest", "target"], "write `path`"),
    (&["sha256", "checksum", "hash", "md5"], "write `digest`"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::keys::{FILE as FILE_KEYS, SERVICE as SERVICE_KEYS, STAGE as STAGE_KEYS};

    #[test]
    fn no_word_is_a_key_itself() {
        for (table, words) in [(&FILE_KEYS, FILE), (&STAGE_KEYS, STAGE), (&SERVICE_KEYS, SERVICE)] {
            for word in words.iter().flat_map(|(names, _)| *names) {
                assert!(!table.has(word), "{word} is a key of {}", table.what);
            }
        }
        assert_eq!(meant("stage", "depends_on"), Some("write `needs`"));
    }
}
