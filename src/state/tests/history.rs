//! What earlier runs say, and wishes.

use super::*;

both! {
    history_gives_the_newest_keys_and_median_durations,
    wishes_only_rise,
}

async fn history_gives_the_newest_keys_and_median_durations(world: &World) {
    let (train, judge) = (task("train", 1), task("judge", 1));
    let state = world.open().await;
    state.bind_pipeline(&pipeline(), "/repo", 1, false).await.unwrap();
    for (number, took) in [(1, 1000), (2, 5000), (3, 3000)] {
        let run = id(number);
        add_run(&state, run, &[train.clone(), judge.clone()]).await;
        let text = format!("run {number}");
        let key = parts(&text).key();
        let begin = [started(&train, 1, Some(key), run), started(&judge, 1, Some(key), run)];
        state.append(run, FIRST_EPOCH, 0, &begin, &[parts(&text)]).await.unwrap();
        let mut events = vec![ended(&train, 1, 0), done(&train, Some(key)), ended(&judge, 1, 1)];
        events.push(if number == 1 {
            done(&judge, Some(key))
        } else {
            RunEvent::TaskFailed { task: judge.clone(), cause: Failure::RunTimedOut }
        });
        events.push(finished(RunOutcome::Done));
        state.append(run, FIRST_EPOCH, took, &events, &[]).await.unwrap();
    }
    let keys = state.last_keys(&pipeline(), None).await.unwrap();
    assert_eq!(keys[&train], parts("run 3"));
    assert_eq!(keys[&judge], parts("run 1"));
    assert_eq!(state.last_keys(&pipeline(), Some(id(2))).await.unwrap()[&train], parts("run 1"));
    assert_eq!(state.keys_of_run(id(2)).await.unwrap()[&train], parts("run 2"));
    let durations = state.durations(&pipeline()).await.unwrap();
    assert_eq!(durations, BTreeMap::from([(train.clone(), 3.0)]));
    assert_eq!(state.metrics(id(1)).await.unwrap()[&train]["accuracy"].to_string(), "0.5");

    state.delete_run(id(1)).await.unwrap();
    assert_eq!(state.run(id(1)).await.unwrap(), None);
    assert_eq!(state.forget_unused_parts().await.unwrap(), 1);
    assert_eq!(state.find_run("latest").await.unwrap(), FoundRun::One(id(3)));
    let text = id(2).to_string().to_ascii_lowercase();
    assert_eq!(state.find_run(&text[..26]).await.unwrap(), FoundRun::One(id(2)));
    assert_eq!(state.find_run("01").await.unwrap(), FoundRun::Several(vec![id(3), id(2)]));
    assert_eq!(state.find_run("%").await.unwrap(), FoundRun::Missing);
    let limit = RunFilter { limit: Some(1), ..RunFilter::default() };
    assert_eq!(state.runs(&limit).await.unwrap()[0].id, id(3));
    let unended = RunFilter { pipeline: Some(pipeline()), unended: true, limit: None };
    assert_eq!(state.runs(&unended).await.unwrap(), []);
}

async fn wishes_only_rise(world: &World) {
    let state = state_with_run(world, id(1), &[]).await;
    for (wish, then) in
        [(Wish::Stop, Wish::Stop), (Wish::Kill, Wish::Kill), (Wish::Stop, Wish::Kill)]
    {
        state.wish(id(1), wish).await.unwrap();
        assert_eq!(state.wished(id(1)).await.unwrap(), Some(then));
    }
}
