//! Services, with a scripted server: what goes live, what is kept, what is taken back, and crashes on the way.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;

use tokio::sync::oneshot;

use super::scripted_rollout::Preparing;
use super::*;
use crate::event::Failure;
use crate::names::{ReleaseId, ServiceId};
use crate::release::{Fate, Release};
use crate::rollout::RolloutError;

/// The stable address of every service.
pub(super) fn addresses(pipeline: &Pipeline) -> BTreeMap<StageName, String> {
    let services = pipeline.stages.values().filter(|stage| stage.service().is_some());
    services.map(|stage| (stage.name.clone(), format!("http://{}", stage.name))).collect()
}

const SHOP: &str = r#"version: "2"
name: shop
stages:
  train:
    run: train
    outputs: {model: m}
  judge:
    run: judge
    inputs: {model: train.model}
    metrics: metrics.json
  smoke:
    run: smoke ${{ services.serve.url }}
  serve:
    run: serve
    inputs: {model: train.model}
    service:
      port: 8000
      verify: smoke
      gate:
        - ${{ not live or judge.metrics.accuracy >= live.judge.metrics.accuracy }}
  after:
    run: call ${{ services.serve.url }}
"#;

/// A shop whose next model is as accurate as told, in percent, and whose smoke test ends so.
struct Shop {
    scene: Scene,
    accuracy: Arc<AtomicU32>,
    smoke: Arc<AtomicU32>,
    runs: AtomicU32,
}

impl Shop {
    async fn new(text: &str) -> Self {
        let accuracy = Arc::new(AtomicU32::new(50));
        let smoke = Arc::new(AtomicU32::new(0));
        let (reached, code) = (Arc::clone(&accuracy), Arc::clone(&smoke));
        let scene = Scene::new(text, move |job| {
            let reached = reached.load(Ordering::SeqCst);
            match job.env["FLOWRUN_STAGE"].as_str() {
                "train" => Script::exits(0).writing("m", format!("model {reached}")),
                "judge" => Script::exits(0)
                    .writing("metrics.json", format!("{{\"accuracy\": 0.{reached}}}")),
                "smoke" => {
                    let mut log = LogWriter::new(&job.folder, 1 << 20);
                    log.append(1, Stream::Stdout, b"asking\nno answer\n");
                    match code.load(Ordering::SeqCst) {
                        99 => Script::hangs(),
                        code => Script::exits(i32::try_from(code).unwrap()),
                    }
                }
                _ => Script::exits(0),
            }
        })
        .await;
        Self { scene, accuracy, smoke, runs: AtomicU32::new(0) }
    }

    /// Another version of the code, which makes a model so accurate.
    fn write_code(&self, accuracy: u32) {
        self.accuracy.store(accuracy, Ordering::SeqCst);
        let code = self.scene.root.path().join("project/code.py");
        fs_err::write(code, format!("accuracy = {accuracy}")).unwrap();
    }

    async fn begin(&self) -> RunId {
        let number = self.runs.fetch_add(1, Ordering::SeqCst) + 1;
        self.scene.begin(u128::from(number)).await
    }

    async fn go(&self) -> (RunOutcome, Vec<String>) {
        let run = self.begin().await;
        let (ended, heard) = self.scene.go(run, 1).await;
        (ended.unwrap(), heard)
    }

    /// Begins a run and dies just after `place` was heard of.
    async fn crash(&self, place: &'static str) -> RunId {
        let run = self.begin().await;
        let (sender, crash) = oneshot::channel();
        let act: Act = Box::new(move || sender.send(()).unwrap());
        let mut heard = Heard { cue: Some((place, act)), ..Heard::default() };
        let (_stop, wish) = watch::channel(Stop::No);
        tokio::select! {
            biased;
            crashed = crash => crashed.unwrap(),
            ended = self.scene.drive(run, 1, &mut heard, wish) => panic!("{place}: {ended:?}"),
        }
        run
    }

    async fn resume(&self, run: RunId) -> (RunOutcome, Vec<String>) {
        let epoch = self.scene.state.take_over(run, &owner(), 1).await.unwrap();
        let (ended, heard) = self.scene.go(run, epoch).await;
        (ended.unwrap(), heard)
    }

    async fn live(&self) -> Option<Release> {
        self.scene.state.live_release(&service()).await.unwrap()
    }

    async fn fates(&self) -> Vec<Fate> {
        let rows = self.scene.state.releases(Some(&service())).await.unwrap();
        rows.into_iter().rev().map(|row| row.fate).collect()
    }

    /// A release of somebody else, ready to become live at the next promotion.
    async fn rival(&self, accuracy: f64) {
        let live = self.live().await.unwrap();
        let mut behaviour = live.behaviour;
        behaviour.command.push("otherwise".to_owned());
        let mut notes = live.notes;
        let judged = BTreeMap::from([("accuracy".to_owned(), accuracy)]);
        notes.metrics.insert("judge".parse().unwrap(), judged);
        let id = ReleaseId::new(7, u128::from(self.runs.load(Ordering::SeqCst)));
        let state = &self.scene.state;
        let rival = state.create_release(id, &service(), behaviour, notes, 0).await.unwrap();
        self.scene.rollout.told().rival = Some(rival);
    }

    fn env_of(&self, stage: &str) -> BTreeMap<String, String> {
        let started = self.scene.runtime.started();
        started.iter().rfind(|job| job.env["FLOWRUN_STAGE"] == stage).unwrap().env.clone()
    }
}

fn service() -> ServiceId {
    ServiceId { pipeline: "shop".parse().unwrap(), stage: "serve".parse().unwrap() }
}

/// The first words of the events that were heard about services.
fn rollouts(heard: &[String]) -> Vec<&str> {
    heard
        .iter()
        .map(|word| word.split(" {").next().unwrap())
        .filter(|word| {
            word.starts_with("Rollout")
                || word.starts_with("Gate")
                || word.starts_with("LiveSeen")
                || word.starts_with("Verified")
                || (word.contains("serve") && !word.starts_with("preparing"))
                || word.contains("smoke")
        })
        .collect()
}

#[tokio::test]
async fn a_service_goes_live_and_stays_when_nothing_differs() {
    let shop = Shop::new(SHOP).await;
    let (outcome, heard) = shop.go().await;
    assert_eq!(outcome, RunOutcome::Done);
    let expected = [
        "LiveSeen",
        "GateDecided",
        "RolloutStarted",
        "RolloutPrepared",
        "started smoke 1",
        "ended smoke Exited(0)",
        "done smoke",
        "Verified",
        "RolloutPromoted",
    ];
    assert_eq!(rollouts(&heard), expected);
    assert_eq!(shop.scene.rollout.asked(), ["prepare 1", "promote 1"]);
    assert_eq!(shop.env_of("smoke")["FLOWRUN_SERVICE_SERVE_URL"], "http://candidate");
    assert_eq!(shop.env_of("after")["FLOWRUN_SERVICE_SERVE_URL"], "http://serve");
    let mut smoke = shop.scene.runtime.started().into_iter();
    let smoke = smoke.rfind(|job| job.env["FLOWRUN_STAGE"] == "smoke").unwrap();
    assert_eq!(smoke.command.last().unwrap(), "smoke http://candidate");

    // What it needs is kept for as long as it is.
    let live = shop.live().await.unwrap();
    let judge: StageName = "judge".parse().unwrap();
    assert_eq!(live.notes.metrics[&judge], BTreeMap::from([("accuracy".to_owned(), 0.5)]));
    assert_eq!(live.notes.gate.len(), 1);
    let root = shop.scene.root.path();
    assert!(root.join(format!("store/pin/release/{}", live.id)).exists());
    let name = live.id.to_string();
    let mut files = walkdir::WalkDir::new(root.join("mirror")).into_iter().flatten();
    assert!(files.any(|file| file.file_name().to_str() == Some(&name)), "its code is pinned");

    let (outcome, heard) = shop.go().await;
    assert_eq!(outcome, RunOutcome::Done);
    assert_eq!(rollouts(&heard), ["LiveSeen", "RolloutUnchanged"]);
    assert_eq!(shop.scene.rollout.asked(), ["keep serve 1"]);
    assert_eq!(shop.live().await.unwrap().id, live.id);
}

#[tokio::test]
async fn a_gate_that_does_not_pass_keeps_the_live_release() {
    let shop = Shop::new(SHOP).await;
    shop.go().await;
    shop.write_code(40);
    let (outcome, heard) = shop.go().await;
    assert_eq!(outcome, RunOutcome::Kept, "{heard:?}");
    assert_eq!(rollouts(&heard), ["LiveSeen", "GateDecided"]);
    let decided = heard.iter().find(|word| word.starts_with("GateDecided")).unwrap();
    assert!(decided.contains("passed: false") && decided.contains("0.4"), "{decided}");
    assert!(heard.iter().any(|word| word.starts_with("TaskSkipped")), "{heard:?}");
    assert_eq!(shop.live().await.unwrap().number, 1);

    shop.write_code(60);
    assert_eq!(shop.go().await.0, RunOutcome::Done);
    assert_eq!(shop.live().await.unwrap().number, 2);
    assert_eq!(shop.fates().await, [Fate::Replaced, Fate::Live]);
}

#[tokio::test]
async fn what_never_gets_ready_fails_and_resume_makes_a_new_release() {
    let shop = Shop::new(SHOP).await;
    shop.scene.rollout.told().preparing = Preparing::Fails;
    let run = shop.begin().await;
    let (ended, heard) = shop.scene.go(run, 1).await;
    assert_eq!(ended.unwrap(), RunOutcome::Failed);
    let failed = "failed serve Rollout { why: \"replica 1 never listened\", log: [\"starting\"] }";
    assert!(heard.contains(&failed.to_owned()), "{heard:?}");
    assert_eq!(shop.scene.rollout.asked(), ["prepare 1", "abandon 1"]);
    assert!(shop.live().await.is_none());

    shop.scene.rollout.told().preparing = Preparing::Ready;
    assert_eq!(shop.resume(run).await.0, RunOutcome::Done);
    assert_eq!(shop.live().await.unwrap().number, 2);
}

#[tokio::test]
async fn what_does_not_pass_its_verify_fails_with_the_lines_of_that() {
    let shop = Shop::new(SHOP).await;
    shop.smoke.store(1, Ordering::SeqCst);
    let (outcome, heard) = shop.go().await;
    assert_eq!(outcome, RunOutcome::Failed);
    let failed = "failed serve Rollout { why: \"`smoke` did not pass: exit code 1\", \
                  log: [\"asking\", \"no answer\"] }";
    assert!(heard.contains(&failed.to_owned()), "{heard:?}");
    assert!(heard.contains(&"failed smoke Job(Exited(1))".to_owned()), "{heard:?}");
    assert_eq!(shop.scene.rollout.asked(), ["prepare 1", "abandon 1"]);
    assert!(matches!(shop.fates().await[..], [Fate::Abandoned(_)]));
}

#[tokio::test]
async fn when_another_release_became_live_the_gate_is_asked_again() {
    let shop = Shop::new(SHOP).await;
    shop.go().await;
    shop.write_code(60);
    shop.rival(0.55).await;
    shop.scene.rollout.asked();
    let (outcome, heard) = shop.go().await;
    assert_eq!(outcome, RunOutcome::Done, "{heard:?}");
    let asked = ["prepare 3", "promote 3", "abandon 3", "prepare 4", "promote 4"];
    assert_eq!(shop.scene.rollout.asked(), asked);
    assert_eq!(shop.live().await.unwrap().number, 4);

    // A better one stays.
    shop.write_code(70);
    shop.rival(0.9).await;
    let (outcome, heard) = shop.go().await;
    assert_eq!(outcome, RunOutcome::Kept, "{heard:?}");
    assert_eq!(shop.live().await.unwrap().number, 5);
}

/// The judge gets the live model too.
fn judging() -> String {
    SHOP.replace(
        "inputs: {model: train.model}\n    metrics",
        "inputs:\n      model: train.model\n      current: {live: serve.model, optional: true}\n    metrics",
    )
}

#[tokio::test]
async fn an_attempt_that_outlived_its_process_ends_with_the_live_release_it_began_with() {
    let shop = Shop::new(&judging()).await;
    shop.go().await;
    shop.write_code(60);
    let run = shop.crash("ended judge").await;
    assert_eq!(shop.resume(run).await.0, RunOutcome::Done);
    let journal = shop.scene.state.events(run, 0).await.unwrap();
    let judged = journal.iter().find_map(|record| match &record.event {
        RunEvent::TaskDone { task, key, .. } if task.stage.as_str() == "judge" => Some(*key),
        _ => None,
    });
    assert!(judged.unwrap().is_some(), "its key could be made again");
}

#[tokio::test]
async fn a_live_input_is_placed_and_judged_for_that_release_only() {
    let shop = Shop::new(&judging()).await;
    assert_eq!(shop.go().await.0, RunOutcome::Done);
    assert!(!shop.env_of("judge").contains_key("FLOWRUN_INPUT_CURRENT"));

    shop.write_code(60);
    let (outcome, heard) = shop.go().await;
    assert_eq!(outcome, RunOutcome::Done, "{heard:?}");
    let placed = shop.env_of("judge")["FLOWRUN_INPUT_CURRENT"].clone();
    assert!(placed.ends_with("/m"), "{placed}");

    shop.write_code(70);
    shop.rival(0.1).await;
    let (outcome, heard) = shop.go().await;
    assert_eq!(outcome, RunOutcome::Failed);
    let changed = Failure::LiveChanged { service: service().stage };
    assert!(heard.contains(&format!("failed serve {changed:?}")), "{heard:?}");
}

#[tokio::test]
async fn an_interrupt_takes_back_what_is_being_prepared() {
    let shop = Shop::new(SHOP).await;
    shop.scene.rollout.told().preparing = Preparing::Hangs;
    let run = shop.begin().await;
    let (sender, wish) = watch::channel(Stop::No);
    let interrupt: Act = Box::new(move || sender.send(Stop::Gently).unwrap());
    let mut heard = Heard { cue: Some(("preparing serve", interrupt)), ..Heard::default() };
    let ended = shop.scene.drive(run, 1, &mut heard, wish).await;
    assert_eq!(ended.unwrap(), RunOutcome::Cancelled);
    assert_eq!(shop.scene.rollout.asked(), ["prepare 1", "abandon 1"]);

    shop.scene.rollout.told().preparing = Preparing::Ready;
    assert_eq!(shop.resume(run).await.0, RunOutcome::Done);
}

#[tokio::test]
async fn an_interrupt_stops_the_verify_stage_first() {
    let shop = Shop::new(SHOP).await;
    shop.smoke.store(99, Ordering::SeqCst);
    let run = shop.begin().await;
    let (sender, wish) = watch::channel(Stop::No);
    let interrupt: Act = Box::new(move || sender.send(Stop::Gently).unwrap());
    let mut heard = Heard { cue: Some(("started smoke", interrupt)), ..Heard::default() };
    let ended = shop.scene.drive(run, 1, &mut heard, wish).await;
    assert_eq!(ended.unwrap(), RunOutcome::Cancelled);
    let words = rollouts(&heard.words);
    let expected =
        ["ended smoke Cancelled", "cancelled smoke", "RolloutAbandoned", "cancelled serve"];
    assert_eq!(words[words.len() - 4..], expected);
}

#[tokio::test]
async fn a_server_that_errs_leaves_a_run_that_resume_finishes() {
    let shop = Shop::new(SHOP).await;
    shop.scene.rollout.told().preparing = Preparing::Breaks;
    let run = shop.begin().await;
    let (ended, _) = shop.scene.go(run, 1).await;
    assert!(matches!(ended, Err(EngineError::Rollout(RolloutError::Unknown(_)))), "{ended:?}");
    shop.scene.rollout.told().preparing = Preparing::Ready;
    assert_eq!(shop.resume(run).await.0, RunOutcome::Done);
    assert_eq!(shop.scene.rollout.asked(), ["prepare 1", "prepare 1", "promote 1"]);
}

/// The process dies just after something was journalled; the next one brings the same release live.
#[tokio::test]
async fn a_crash_anywhere_in_a_rollout_is_gone_on_from() {
    let places = [
        "LiveSeen",
        "GateDecided",
        "RolloutStarted",
        "RolloutPrepared",
        "started smoke",
        "ended smoke",
        "done smoke",
        "Verified",
        "RolloutPromoted",
    ];
    for place in places {
        let shop = Shop::new(SHOP).await;
        let run = shop.crash(place).await;
        let (outcome, heard) = shop.resume(run).await;
        assert_eq!(outcome, RunOutcome::Done, "{place}: {heard:?}");
        assert_eq!(shop.fates().await.last(), Some(&Fate::Live), "{place}");
        let started = shop.scene.runtime.started();
        let smoked = started.iter().filter(|job| job.env["FLOWRUN_STAGE"] == "smoke").count();
        assert_eq!(smoked, 1, "{place}: {heard:?}");
    }
}

/// The process dies between the wish to take a release back and the end of its task.
#[tokio::test]
async fn a_crash_while_a_release_is_abandoned_is_gone_on_from() {
    let shop = Shop::new(SHOP).await;
    shop.smoke.store(1, Ordering::SeqCst);
    let run = shop.crash("RolloutAbandoned").await;
    let (outcome, heard) = shop.resume(run).await;
    assert_eq!(outcome, RunOutcome::Failed);
    let failed = "failed serve Rollout { why: \"`smoke` did not pass: exit code 1\", \
                  log: [\"asking\", \"no answer\"] }";
    assert!(heard.contains(&failed.to_owned()), "{heard:?}");
    assert!(matches!(shop.fates().await[..], [Fate::Abandoned(_)]));
}

#[tokio::test]
async fn each_further_try_asks_where_the_release_is_reached_now() {
    let text =
        SHOP.replace("    run: smoke ", "    retries: {max: 1, backoff: 1ms}\n    run: smoke ");
    let shop = Shop::new(&text).await;
    shop.smoke.store(1, Ordering::SeqCst);
    assert_eq!(shop.go().await.0, RunOutcome::Failed);
    assert_eq!(shop.scene.rollout.asked(), ["prepare 1", "prepare 1", "abandon 1"]);
}
