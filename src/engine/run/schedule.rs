//! What the machine has, who holds what of it, and who is next.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use crate::plan::TaskIndex;

use super::facts::{Facts, thousandths};

/// How often smaller tasks may start past the first of the queue before everything is kept for it.
const PASSES: u32 = 8;

/// What an attempt asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Request {
    /// Thousandths of processors.
    pub(super) cpu: u64,
    /// Bytes.
    pub(super) memory: u64,
    /// Graphics processors.
    pub(super) gpu: u32,
}

/// What an attempt holds, besides one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Thousandths of processors; 0: none were asked for.
    pub cpu: u64,
    /// Bytes; 0: none were asked for.
    pub memory: u64,
    /// Numbers of graphics processors.
    pub gpus: Vec<u32>,
    /// Taken over from an earlier process, which may have had more to give.
    pub adopted: bool,
}

/// Longest remaining path first, then file order.
type Place = (u32, Reverse<TaskIndex>);

/// Slots, processors, memory and graphics processors, and the queue for them. Queued tasks lie in one heap for each
/// different request, so finding the next costs the number of different requests, not of tasks.
#[derive(Debug)]
pub(super) struct Pool {
    jobs: u32,
    cpu: u64,
    memory: u64,
    gpus: BTreeSet<u32>,
    slots_used: u32,
    cpu_used: u64,
    memory_used: u64,
    gpus_free: BTreeSet<u32>,
    queues: BTreeMap<Request, BinaryHeap<Place>>,
    /// The first of the queue that did not fit, and how many started past it.
    passed: Option<(TaskIndex, u32)>,
}

impl Pool {
    pub(super) fn new(facts: &Facts) -> Self {
        let gpus_free: BTreeSet<u32> = facts.gpus.iter().copied().collect();
        Self {
            jobs: facts.jobs.max(1),
            cpu: thousandths(facts.cpu),
            memory: facts.memory,
            gpus: gpus_free.clone(),
            slots_used: 0,
            cpu_used: 0,
            memory_used: 0,
            gpus_free,
            queues: BTreeMap::new(),
            passed: None,
        }
    }

    /// Why this can never fit, if so.
    pub(super) fn impossible(&self, request: &Request) -> Option<String> {
        let thousand = |value: u64| format!("{}.{:03}", value / 1000, value % 1000);
        if request.cpu > self.cpu {
            let (asked, has) = (thousand(request.cpu), thousand(self.cpu));
            let short = |text: &str| text.trim_end_matches('0').trim_end_matches('.').to_owned();
            return Some(format!(
                "it asks for {} processors and there are {}",
                short(&asked),
                short(&has)
            ));
        }
        if request.memory > self.memory {
            return Some(format!(
                "it asks for {} of memory and there are {}",
                mebibytes(request.memory),
                mebibytes(self.memory)
            ));
        }
        if request.gpu as usize > self.gpus.len() {
            return Some(format!(
                "it asks for {} graphics processors and there are {}",
                request.gpu,
                self.gpus.len()
            ));
        }
        None
    }

    pub(super) fn push(&mut self, task: TaskIndex, depth: u32, request: Request) {
        self.queues.entry(request).or_default().push((depth, Reverse(task)));
    }

    /// Forgets the queue; what is held stays held.
    pub(super) fn clear_queue(&mut self) {
        self.queues.clear();
        self.passed = None;
    }

    pub(super) fn slot_free(&self) -> bool {
        self.slots_used < self.jobs
    }

    /// Takes the first task that fits out of the queue. One that does not fit may be passed by later ones a few times;
    /// then everything is kept for it, so that large tasks do not starve.
    pub(super) fn next(&mut self) -> Option<(TaskIndex, Grant)> {
        if !self.slot_free() {
            return None;
        }
        let mut first: Option<(Place, Request)> = None;
        let mut fitting: Option<(Place, Request)> = None;
        for (request, queue) in &self.queues {
            let Some(&place) = queue.peek() else { continue };
            if first.is_none_or(|(best, _)| place > best) {
                first = Some((place, *request));
            }
            if self.fits(request) && fitting.is_none_or(|(best, _)| place > best) {
                fitting = Some((place, *request));
            }
        }
        let (first, (place, request)) = (first?, fitting?);
        if place == first.0 {
            self.passed = None;
        } else {
            let Reverse(head) = first.0.1;
            let passes = match self.passed {
                Some((task, passes)) if task == head => passes,
                _ => 0,
            };
            if passes >= PASSES {
                return None;
            }
            self.passed = Some((head, passes + 1));
        }
        let queue = self.queues.get_mut(&request)?;
        queue.pop();
        if queue.is_empty() {
            self.queues.remove(&request);
        }
        let Reverse(task) = place.1;
        let gpus: Vec<u32> = self.gpus_free.iter().copied().take(request.gpu as usize).collect();
        Some((task, self.hold(&request, gpus, false)))
    }

    /// What an attempt of an earlier process holds; it may be more than there is now.
    pub(super) fn adopt(&mut self, request: &Request, gpus: Vec<u32>) -> Grant {
        self.hold(request, gpus, true)
    }

    pub(super) fn release(&mut self, grant: &Grant) {
        self.slots_used -= 1;
        self.cpu_used -= grant.cpu;
        self.memory_used -= grant.memory;
        self.gpus_free.extend(grant.gpus.iter().copied().filter(|gpu| self.gpus.contains(gpu)));
    }

    fn hold(&mut self, request: &Request, gpus: Vec<u32>, adopted: bool) -> Grant {
        self.slots_used += 1;
        self.cpu_used += request.cpu;
        self.memory_used += request.memory;
        for gpu in &gpus {
            self.gpus_free.remove(gpu);
        }
        Grant { cpu: request.cpu, memory: request.memory, gpus, adopted }
    }

    fn fits(&self, request: &Request) -> bool {
        let within = |asked: u64, used: u64, all: u64| {
            asked == 0 || used.checked_add(asked).is_some_and(|sum| sum <= all)
        };
        within(request.cpu, self.cpu_used, self.cpu)
            && within(request.memory, self.memory_used, self.memory)
            && request.gpu as usize <= self.gpus_free.len()
    }

    /// What does not hold of the given grants, if anything.
    pub(super) fn check<'a>(
        &self,
        held: impl Iterator<Item = &'a Grant>,
        queued: usize,
    ) -> Result<(), String> {
        let (mut slots, mut cpu, mut memory, mut adopted) = (0, 0, 0, false);
        let mut gpus = self.gpus_free.clone();
        for grant in held {
            slots += 1;
            cpu += grant.cpu;
            memory += grant.memory;
            adopted |= grant.adopted;
            for gpu in &grant.gpus {
                if !gpus.insert(*gpu) {
                    return Err(format!("graphics processor {gpu} is held twice or held and free"));
                }
            }
        }
        if (slots, cpu, memory) != (self.slots_used, self.cpu_used, self.memory_used) {
            return Err("what is held is not what was counted".to_owned());
        }
        if !adopted && (slots > self.jobs || cpu > self.cpu || memory > self.memory) {
            return Err("more is held than there is".to_owned());
        }
        let in_queues: usize = self.queues.values().map(BinaryHeap::len).sum();
        if in_queues != queued {
            return Err(format!("{queued} tasks are queued and {in_queues} are in the queue"));
        }
        Ok(())
    }
}

fn mebibytes(bytes: u64) -> String {
    const MEBI: u64 = 1024 * 1024;
    if bytes.is_multiple_of(1024 * MEBI) {
        format!("{}Gi", bytes / (1024 * MEBI))
    } else {
        format!("{}Mi", bytes.div_ceil(MEBI))
    }
}
