//! What a run tells the store while it goes on.

use super::*;
use crate::store::{PinOwner, Store};

#[tokio::test]
async fn a_run_whose_end_cannot_be_pinned_is_left_and_ends_when_it_is_resumed() {
    let scene = Scene::new(TWO, obedient).await;
    let run = scene.begin(1).await;
    scene.store.pins_nothing.store(true, Ordering::SeqCst);
    let (ended, heard) = scene.go(run, 1).await;
    assert!(matches!(ended, Err(EngineError::Store(StoreError::Io(_)))), "{ended:?}");
    assert_eq!(heard.last().unwrap(), "left: permission denied");
    let row = scene.state.run(run).await.unwrap().unwrap();
    assert_eq!((row.state, row.ended_at), (crate::state::RunState::Active, None));

    scene.store.pins_nothing.store(false, Ordering::SeqCst);
    let epoch = scene.state.take_over(run, &owner(), 1).await.unwrap();
    let (ended, heard) = scene.go(run, epoch).await;
    assert_eq!(ended.unwrap(), RunOutcome::Done);
    assert_eq!(heard, ["end Done"]);
    assert_eq!(scene.store.pins().await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_run_needs_is_pinned_while_it_goes_on() {
    let director = |job: &Job| match job.env["FLOWRUN_STAGE"].as_str() {
        "one" => obedient(job),
        _ => Script::hangs(),
    };
    let scene = Scene::new(TWO, director).await;
    let run = scene.begin(1).await;
    let (sender, stop) = watch::channel(Stop::No);
    let mut heard = Heard::default();
    let seen = async {
        loop {
            let pins = scene.store.pins().await.unwrap();
            if let [pin] = pins.as_slice() {
                sender.send(Stop::Now).unwrap();
                return pin.clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let (ended, pin) = tokio::join!(scene.drive(run, 1, &mut heard, stop), seen);
    assert_eq!(ended.unwrap(), RunOutcome::Cancelled);
    assert_eq!(pin.owner, PinOwner::Run(run));
    assert_eq!(pin.artifacts.len(), 1, "what `one` made");
}
