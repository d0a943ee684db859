//! Graphs for tests: by hand and at random.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::names::{RunId, StageName, TaskId};
use crate::plan::graph::Part;
use crate::plan::{Graph, PlannedTask, TaskIndex};
use crate::spec::pipeline::{OnOom, Retries};

use crate::engine::run::{Facts, ServiceFacts, TaskFacts};

/// Small, fast, the same everywhere (splitmix64).
pub(in crate::engine::run) struct Dice(pub(super) u64);

impl Dice {
    pub(in crate::engine::run) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(in crate::engine::run) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(in crate::engine::run) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % end.max(1) as u64).unwrap()
    }

    pub(in crate::engine::run) fn percent(&mut self, chance: u64) -> bool {
        self.roll() % 100 < chance
    }
}

/// Builds graphs: `Builder::new().task("a", &[]).task("b", &["a"])`.
#[derive(Default)]
pub(in crate::engine::run) struct Builder {
    tasks: Vec<PlannedTask>,
    pub(in crate::engine::run) facts: Vec<TaskFacts>,
    services: BTreeMap<TaskIndex, ServiceFacts>,
    on_failure: Option<TaskIndex>,
    on_exit: Option<TaskIndex>,
}

impl Builder {
    pub(in crate::engine::run) fn new() -> Self {
        Self::default()
    }

    pub(in crate::engine::run) fn task(self, name: &str, needs: &[&str]) -> Self {
        self.copies(name, needs, 1)
    }

    /// All copies need all copies of what they need.
    pub(in crate::engine::run) fn copies(
        mut self,
        name: &str,
        needs: &[&str],
        copies: u32,
    ) -> Self {
        let needs: Arc<[TaskIndex]> = self
            .tasks
            .iter()
            .enumerate()
            .filter(|(_, task)| needs.contains(&task.id.stage.as_str()))
            .map(|(index, _)| index)
            .collect();
        for copy in 1..=copies {
            self.tasks.push(PlannedTask {
                id: TaskId { stage: name.parse().unwrap(), copy },
                label: format!("{name}[{copy}]"),
                matrix: Vec::new(),
                needs: Arc::clone(&needs),
                needed_by: Arc::default(),
                depth: 1,
                part: Part::Wanted,
            });
            self.facts.push(TaskFacts::default());
        }
        self
    }

    pub(in crate::engine::run) fn part(mut self, name: &str, part: Part) -> Self {
        for (task, facts) in self.tasks.iter_mut().zip(&mut self.facts) {
            if task.id.stage.as_str() == name {
                task.part = part;
                facts.reuse_only = (part == Part::ReuseOnly).then_some("no record");
            }
        }
        self
    }

    pub(in crate::engine::run) fn on_failure(mut self, name: &str) -> Self {
        self.on_failure = Some(self.tasks.len());
        self.task(name, &[]).part(name, Part::Out)
    }

    pub(in crate::engine::run) fn on_exit(mut self, name: &str) -> Self {
        self.on_exit = Some(self.tasks.len());
        self.task(name, &[]).part(name, Part::Out)
    }

    /// Makes a task a service, and with `verify` adds that task beside the DAG, with the same needs.
    pub(in crate::engine::run) fn service(mut self, name: &str, verify: Option<&str>) -> Self {
        let task = self.find(name);
        let facts = ServiceFacts { verify: verify.map(|_| self.tasks.len()), judges: Vec::new() };
        self.services.insert(task, facts);
        let Some(verify) = verify else { return self };
        let needs = Arc::clone(&self.tasks[task].needs);
        let mut with = self.task(verify, &[]).part(verify, Part::Out);
        if let Some(task) = with.tasks.last_mut() {
            task.needs = needs;
        }
        with
    }

    /// Says that a task has an input of the live release of a service.
    pub(in crate::engine::run) fn judges(mut self, name: &str, service: &str) -> Self {
        let (task, service) = (self.find(name), self.find(service));
        self.services.get_mut(&service).unwrap().judges.push(task);
        self
    }

    fn find(&self, name: &str) -> TaskIndex {
        self.tasks.iter().position(|task| task.id.stage.as_str() == name).unwrap()
    }

    pub(in crate::engine::run) fn facts(
        mut self,
        name: &str,
        change: impl Fn(&mut TaskFacts),
    ) -> Self {
        for (task, facts) in self.tasks.iter().zip(&mut self.facts) {
            if task.id.stage.as_str() == name {
                change(facts);
            }
        }
        self
    }

    pub(in crate::engine::run) fn build(mut self) -> (Arc<Graph>, Facts) {
        let mut needed_by = vec![Vec::new(); self.tasks.len()];
        for index in (0..self.tasks.len()).rev() {
            let depth = self.tasks[index].depth;
            let beside = self.tasks[index].part == Part::Out;
            for &need in Arc::clone(&self.tasks[index].needs).iter().filter(|_| !beside) {
                needed_by[need].push(index);
                self.tasks[need].depth = self.tasks[need].depth.max(depth + 1);
            }
        }
        for (task, users) in self.tasks.iter_mut().zip(needed_by) {
            task.needed_by = users.into();
        }
        let graph = Graph::from_tasks(self.tasks, self.on_failure, self.on_exit);
        let facts = Facts {
            run: RunId::new(0, 7),
            host: "here".to_owned(),
            now: 0,
            jobs: 100,
            cpu: 8.0,
            memory: 1000,
            gpus: vec![0, 1],
            keep_going: false,
            tasks: self.facts,
            picks: BTreeMap::new(),
            held_gpus: BTreeMap::new(),
            services: self.services,
        };
        (Arc::new(graph), facts)
    }
}

/// A random graph with services, hooks, matrices, picks, requests, retries and selections.
pub(in crate::engine::run) fn random_graph(dice: &mut Dice) -> (Arc<Graph>, Facts) {
    let mut builder = Builder::new();
    let stages = 1 + dice.below(9);
    let mut picks = BTreeMap::new();
    let names: Vec<String> = (0..stages).map(|stage| format!("s{stage}")).collect();
    for stage in 0..stages {
        let needs: Vec<&str> =
            (0..stage).filter(|_| dice.percent(35)).map(|need| names[need].as_str()).collect();
        let copies = if dice.percent(25) { 1 + u32::try_from(dice.below(3)).unwrap() } else { 1 };
        builder = builder.copies(&names[stage], &needs, copies);
        if copies > 1 && dice.percent(60) {
            let pick = crate::spec::pipeline::Pick {
                metric: "score".to_owned(),
                largest: dice.percent(50),
            };
            picks.insert(names[stage].parse::<StageName>().unwrap(), pick);
        }
        let odd = dice.below(100);
        let retries = Retries {
            max: u32::try_from(dice.below(3)).unwrap(),
            backoff: Duration::from_secs(1),
            on_oom: dice.percent(50).then_some(OnOom { factor: 2.0, max: Some(700) }),
        };
        builder = builder.facts(&names[stage], |facts| {
            facts.retries = retries.clone();
            facts.cpu = (odd.is_multiple_of(3)).then_some(1.5);
            facts.memory = (odd.is_multiple_of(4)).then_some(if odd == 40 { 5000 } else { 300 });
            facts.gpu = u32::from(odd.is_multiple_of(5));
        });
        if copies == 1 && dice.percent(25) {
            let verify = format!("{}_verify", names[stage]);
            builder = builder.service(&names[stage], dice.percent(60).then_some(&verify));
            builder = builder.facts(&verify, |facts| facts.retries = retries.clone());
            if stage > 0 && dice.percent(50) {
                let judge = &names[dice.below(stage)];
                builder = builder.judges(judge, &names[stage]);
            }
        }
        if dice.percent(4) {
            builder = builder.part(&names[stage], Part::ReuseOnly);
        }
    }
    if dice.percent(40) {
        builder = builder.on_failure("alert");
    }
    if dice.percent(40) {
        builder = builder.on_exit("clean");
    }
    let (graph, mut facts) = builder.build();
    facts.jobs = 1 + u32::try_from(dice.below(4)).unwrap();
    facts.cpu = 2.0;
    facts.keep_going = dice.percent(50);
    facts.picks = picks;
    (graph, facts)
}
