//! `kill -9` of flowrun and of its monitor at random instants of a real run, each followed by `flowrun resume`.
//!
//! `FLOWRUN_KILLS` says how many instants (12 unless told otherwise), `FLOWRUN_SEED` which ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::patience::await_that;
use crate::place::Place;

const STAGES: usize = 30;
const LINES: usize = 20;
/// Starts and ends of all commands.
const ALL_STEPS: u64 = 60;
/// Milliseconds that may pass after a step, so that death also comes between two of them. A command takes about 100.
const FURTHER: u64 = 60;

/// Thirty stages in a web of inputs. Every start and every end of a command is written to a ledger outside of flowrun's reach.
fn pipeline(ledger: &Path) -> String {
    let mut text = format!(
        "version: \"2\"\nname: web\ndefaults:\n  env: {{LEDGER: {}}}\nstages:\n",
        ledger.display()
    );
    for number in 0..STAGES {
        let sources: Vec<usize> =
            [number.checked_sub(3), number.checked_sub(7)].into_iter().flatten().collect();
        let inputs: Vec<String> =
            sources.iter().map(|from| format!("from_{from}: s{from}.data")).collect();
        text += &format!("  s{number}:\n    inputs: {{{}}}\n", inputs.join(", "));
        text += &format!(
            "    run: |\n      echo \"start $FLOWRUN_STAGE $FLOWRUN_ATTEMPT\" >> \"$LEDGER\"\n      \
             i=1; while [ $i -le 20 ]; do echo \"line $i\"; i=$((i+1)); sleep 0.004; done\n      \
             head -c 100000 /dev/zero | tr '\\0' 'x' > out/data\n      \
             echo s{number} >> out/data\n      \
             echo \"end $FLOWRUN_STAGE $FLOWRUN_ATTEMPT\" >> \"$LEDGER\"\n    files: []\n    outputs: {{data: out/data}}\n",
        );
    }
    text
}

/// Numbers that look random and are the same for the same seed (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }
}

#[expect(clippy::disallowed_methods, reason = "how often the test kills is said by its caller")]
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

struct World {
    place: Place,
    ledger: PathBuf,
}

impl World {
    fn new() -> Self {
        let place = Place::new();
        let ledger = place.outside("ledger");
        place.write("pipeline.yaml", &pipeline(&ledger));
        Self { place, ledger }
    }

    /// How often each stage's command was started, and how often it came to its end.
    fn ledger(&self) -> BTreeMap<String, (usize, usize)> {
        let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for line in fs_err::read_to_string(&self.ledger).unwrap_or_default().lines() {
            let mut words = line.split(' ');
            let (what, stage) = (words.next().unwrap(), words.next().unwrap());
            let entry = counts.entry(stage.to_owned()).or_default();
            match what {
                "start" => entry.0 += 1,
                "end" => entry.1 += 1,
                other => panic!("a torn ledger line: {other}"),
            }
        }
        counts
    }

    fn tasks(&self) -> Vec<serde_json::Value> {
        let status = self.place.json(&["status", "latest", "-o", "json"]);
        status["tasks"].as_array().unwrap().clone()
    }

    /// Every task is done, every log whole and in order, every artifact whole.
    fn assert_whole(&self) {
        let tasks = self.tasks();
        assert_eq!(tasks.len(), STAGES);
        let wanted: Vec<String> = (1..=LINES).map(|number| format!("line {number}")).collect();
        for task in &tasks {
            let stage = task["task"].as_str().unwrap();
            assert_eq!(task["state"], "done", "{task}");
            let log = self.place.run(&["logs", "latest", stage, "--stream", "stdout"]).success();
            let lines: Vec<&str> = log.stdout.lines().collect();
            assert_eq!(lines, wanted, "the log of {stage}");
            let target = self.place.outside(&format!("got-{stage}"));
            self.place
                .run(&[
                    "store",
                    "get",
                    task["outputs"]["data"].as_str().unwrap(),
                    target.to_str().unwrap(),
                ])
                .success();
            let data = fs_err::read_to_string(&target).unwrap();
            assert_eq!(data.len(), 100_000 + stage.len() + 1, "the output of {stage}");
            assert!(data.ends_with(&format!("x{stage}\n")), "the output of {stage}");
            fs_err::remove_file(&target).unwrap();
        }
        let check = self.place.run(&["store", "check"]).success();
        assert!(!check.stdout.contains("broken"), "{}", check.stdout);
    }

    /// How far the run has come: starts and ends of commands. Killing is timed by it, as moments of the clock would be none of the run
    /// where others keep the machine busy.
    fn steps(&self) -> u64 {
        let ledger = fs_err::read_to_string(&self.ledger).unwrap_or_default();
        u64::try_from(ledger.lines().count()).unwrap()
    }
}

#[test]
fn flowrun_killed_at_random_instants_loses_nothing() {
    let mut numbers = Numbers(setting("FLOWRUN_SEED", 1));
    let mut adopted = 0;
    for round in 0..setting("FLOWRUN_KILLS", 12) {
        let world = World::new();
        // One to three deaths in a row: the first resume may be killed as well.
        let mut deaths = 0;
        let mut arguments = vec!["apply", "--jobs", "4"];
        while deaths < 1 + round % 3 {
            let enough = world.steps() + numbers.below(ALL_STEPS / 2);
            let further = Duration::from_millis(numbers.below(FURTHER));
            let killed = world.place.kill_when(&arguments, || world.steps() >= enough, further);
            deaths += 1;
            if !killed {
                break;
            }
            if world.place.run(&["status", "latest"]).code == 0 {
                arguments = vec!["resume", "--jobs", "4"];
            }
        }
        let end = world.place.run(&["resume", "--jobs", "4"]);
        // A run that had ended before the kill, or never began, has nothing to resume.
        if end.code != 0 {
            assert!(
                end.stderr.contains("no run to resume"),
                "round {round}:\n{}{}",
                end.stdout,
                end.stderr
            );
            if world.place.runs().is_empty() {
                world.place.run(&["apply", "--jobs", "4"]).success();
            }
        }
        adopted += end.stderr.matches("was found running").count();
        for (stage, (starts, ends)) in world.ledger() {
            assert_eq!((starts, ends), (1, 1), "round {round}: starts and ends of {stage}");
        }
        world.assert_whole();
    }
    assert!(adopted > 0, "no round found a running job to adopt: the test did not test anything");
}

#[test]
fn the_monitor_killed_at_random_instants_costs_only_what_ran() {
    let mut numbers = Numbers(setting("FLOWRUN_SEED", 2));
    let mut lost = 0;
    for round in 0..setting("FLOWRUN_KILLS", 12).div_ceil(2) {
        let world = World::new();
        let flowrun = world.place.spawn(&["apply", "--jobs", "4"]);
        let enough = numbers.below(ALL_STEPS);
        await_that("it comes so far", || (world.steps() >= enough).then_some(()));
        std::thread::sleep(Duration::from_millis(numbers.below(FURTHER)));
        let done_before: Vec<String> = match world.place.run(&["status", "latest", "-o", "json"]) {
            output if output.code == 0 => serde_json::from_str::<serde_json::Value>(&output.stdout)
                .unwrap()["tasks"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|task| task["state"] == "done")
                .map(|task| task["task"].as_str().unwrap().to_owned())
                .collect(),
            _ => Vec::new(),
        };
        let starts_before = world.ledger();
        world.place.kill_monitors();
        let output = flowrun.finish();
        assert_eq!(output.code, 0, "round {round}:\n{}{}", output.stdout, output.stderr);
        let after = world.ledger();
        for stage in &done_before {
            assert_eq!(
                after[stage].0, starts_before[stage].0,
                "round {round}: {stage} was done and ran again"
            );
        }
        lost += output.stderr.matches("lost").count();
        world.assert_whole();
    }
    assert!(lost > 0, "no round lost an attempt: the test did not test anything");
}
