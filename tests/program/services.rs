//! Services: from the first release to `down`.

use serde_json::Value;

use crate::patience::await_that;
use crate::ports::free_port;
use crate::shop::{Shop, get};

const TWO: &str = "      replicas: 2\n      ready: {http: /readyz, within: 30s}\n";

#[test]
fn a_service_goes_live_and_an_unchanged_run_restarts_nothing() {
    let shop = Shop::with(TWO);
    let first = shop.apply("one").success();
    assert!(first.stderr.contains("started the server"), "{}", first.stderr);
    assert_eq!(shop.word(), "one");
    let status = shop.status();
    assert_eq!(status["state"], "ready", "{status}");
    assert_eq!(status["ready"], 2);
    let pids = shop.pids();
    assert_eq!(pids.len(), 2);

    // The same again, and a commit outside the files of everything.
    shop.apply("one").success();
    shop.place.write("README.md", "words");
    shop.place.commit("words");
    let again = shop.apply("one").success();
    assert!(!again.stderr.contains("started the server"), "{}", again.stderr);
    assert_eq!(shop.pids(), pids, "nothing was restarted");
    assert_eq!(shop.status()["number"], 1);
    let plan = shop.place.run(&["plan", "--exit-code"]);
    assert_eq!(plan.code, 0, "{}{}", plan.stdout, plan.stderr);
}

#[test]
fn a_gate_keeps_the_better_release_and_says_both_numbers() {
    let gate =
        "      gate: [\"${{ not live or judge.metrics.score >= live.judge.metrics.score }}\"]\n";
    let after = "  after: {run: 'echo after', needs: [serve]}\n";
    let shop = Shop::with_stages(gate, after);
    shop.apply_scored("good", "0.94").success();
    let worse = shop.apply_scored("worse", "0.91");
    assert_eq!(worse.code, 6, "{}", worse.stderr);
    assert!(worse.stderr.contains("0.91") && worse.stderr.contains("0.94"), "{}", worse.stderr);
    assert_eq!(shop.word(), "good");
    let states = shop.place.states();
    assert_eq!(states[2..], ["serve kept", "after skipped"]);
    assert_eq!(shop.place.runs()[0]["outcome"], "kept");

    shop.apply_scored("better", "0.95").success();
    assert_eq!(shop.word(), "better");
    assert_eq!(shop.place.states()[2..], ["serve done", "after done"]);
}

#[test]
fn a_release_that_does_not_work_leaves_the_old_one_and_shows_its_log() {
    let service =
        |within| format!("      ready: {{http: /readyz, within: {within}}}\n      verify: smoke\n");
    let smoke = "  smoke:\n    run: 'test \"${{ params.word }}\" != bad'\n";
    let shop = Shop::with_stages(&service("60s"), smoke);
    shop.apply("one").success();
    let pids = shop.pids();
    for (word, within, said) in [
        ("never", "8s", "not ready within 8s"),
        ("crash", "60s", "exited with code 3"),
        ("redirect", "8s", "307"),
        ("hang", "8s", "not ready within 8s"),
        ("bad", "60s", "`smoke`"),
    ] {
        shop.define(&service(within), smoke);
        shop.place.commit(word);
        let failed = shop.apply(word);
        assert_eq!(failed.code, 4, "{word}: {}", failed.stderr);
        assert!(failed.stderr.contains(said), "{word}: {}", failed.stderr);
        if word == "crash" {
            assert!(failed.stderr.contains("there is no model in this file"), "{}", failed.stderr);
        }
        assert_eq!(shop.word(), "one");
        shop.await_status("only the live release runs", |_| shop.pids() == pids);
    }
    let releases = shop.place.json(&["releases", "serve", "-o", "json"]);
    assert_eq!(releases.as_array().unwrap().len(), 6, "{releases}");
}

#[test]
fn rollback_brings_back_the_whole_release_also_when_the_repo_is_gone() {
    let shop = Shop::with(TWO);
    shop.apply("one").success();
    shop.apply("two").success();
    assert_eq!(shop.word(), "two");
    fs_err::remove_dir_all(shop.place.folder()).unwrap();
    fs_err::create_dir(shop.place.folder()).unwrap();
    let back = shop.place.run(&["rollback", "serve"]).success();
    assert!(back.stderr.contains("release 1 again"), "{back:?}");
    assert_eq!(shop.word(), "one");
    shop.place.run(&["rollback", "shop/serve", "--to", "2"]).success();
    assert_eq!(shop.word(), "two");
    // What was taken down comes back too: the last one that was live.
    shop.place.run(&["down", "serve", "--yes"]).success();
    let back = shop.place.run(&["rollback", "serve"]).success();
    assert!(back.stderr.contains("release 2 again"), "{back:?}");
    assert_eq!(shop.word(), "two");
    let unknown = shop.place.run(&["rollback", "serve", "--to", "9"]);
    assert_ne!(unknown.code, 0, "{unknown:?}");
    let difference = shop.place.run(&["diff", "serve@1", "serve@2"]).success();
    assert!(difference.stdout.contains("inputs.model"), "{}", difference.stdout);
}

#[test]
fn the_server_can_die_and_the_next_one_adopts_the_same_replicas() {
    let shop = Shop::with(TWO);
    shop.apply("one").success();
    let pids = shop.pids();
    for kill in [true, false] {
        if kill {
            let pid = shop.server_pid().to_string();
            assert!(
                std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success()
            );
        } else {
            shop.place.run(&["server", "--stop"]).success();
        }
        await_that("the gateway goes down", || get(shop.port, "/").err());
        let down = shop.place.run(&["status"]).success();
        assert!(down.stdout.contains("server") || down.stderr.contains("server"), "{down:?}");
        shop.apply("one").success();
        assert_eq!(shop.word(), "one");
        assert_eq!(shop.pids(), pids);
    }
}

#[test]
fn a_replica_that_ends_is_started_anew_and_a_stuck_one_too() {
    let alive = "      ready: {http: /readyz, within: 30s}\n      alive: {http: /readyz, interval: 5s, failures: 2}\n";
    let shop = Shop::with(alive);
    shop.apply("one").success();
    let before = shop.pids();
    drop(get(shop.port, "/exit"));
    let after = shop.await_status("a new replica", |status| {
        status["state"] == "ready" && status["replicas"][0]["restarts"].as_u64() >= Some(1)
    });
    assert_ne!(vec![after["replicas"][0]["pid"].as_i64().unwrap()], before);
    shop.get("/stick");
    shop.await_status("another one", |status| {
        status["state"] == "ready" && status["replicas"][0]["restarts"].as_u64() >= Some(2)
    });
    assert_eq!(shop.word(), "one");
}

#[test]
fn a_release_that_crashes_after_it_was_promoted_is_told() {
    let shop = Shop::with("      ready: {http: /readyz, within: 30s}\n");
    shop.apply("one").success();
    shop.apply("later").success();
    fs_err::write(shop.place.outside("go"), "").unwrap();
    let crashing =
        shop.await_status("it crashes again and again", |status| status["state"] == "crashing");
    assert!(crashing["message"].as_str().is_some_and(|text| !text.is_empty()), "{crashing}");
    let status = shop.place.run(&["status"]).success();
    assert!(status.stdout.contains("rollback"), "{}", status.stdout);
    shop.place.run(&["rollback", "serve"]).success();
    assert_eq!(shop.word(), "one");
}

#[test]
fn scale_restart_and_logs() {
    let shop = Shop::with("      ready: {http: /readyz, within: 30s}\n");
    shop.apply("one").success();
    shop.place.run(&["scale", "serve", "3"]).success();
    shop.await_status("three replicas", |status| status["ready"] == 3);
    let before = shop.pids();
    shop.place.run(&["restart", "serve"]).success();
    let after = shop.await_status("three new ones", |status| {
        status["ready"] == 3 && status["replicas"].as_array().unwrap().len() == 3
    });
    for replica in after["replicas"].as_array().unwrap() {
        assert!(!before.contains(&replica["pid"].as_i64().unwrap()), "{replica}");
    }
    let logs = shop.place.run(&["logs", "serve"]).success();
    assert!(logs.stdout.contains("answering one"), "{}", logs.stdout);
    shop.place.run(&["scale", "serve", "0"]).success();
    shop.await_status("none", |status| status["state"] == "stopped");
    assert_eq!(shop.get("/").0, 503);
}

#[test]
fn other_replicas_and_routes_are_changed_in_place_and_told() {
    let shop = Shop::with("      ready: {http: /readyz, within: 30s}\n");
    shop.apply("one").success();
    let before = shop.pids();
    shop.define(TWO, "");
    shop.place.commit("two of them");
    let told = shop.apply("one").success();
    assert!(
        told.stderr.contains("unchanged: release 1, changed in place: replicas: 1 → 2"),
        "{told:?}"
    );
    assert!(!told.stderr.contains("nothing had changed"), "{told:?}");
    shop.await_status("two replicas", |status| status["ready"] == 2);
    assert!(before.iter().all(|pid| shop.pids().contains(pid)), "nothing was started anew");
    let why = shop.place.run(&["why", "serve"]).success();
    assert!(why.stdout.contains("replicas: 1 → 2"), "{why:?}");
    let again = shop.apply("one").success();
    assert!(again.stderr.contains("nothing had changed"), "{again:?}");
}

#[test]
fn down_takes_away_what_flowrun_made_and_keeps_volumes() {
    let service = "      ready: {http: /readyz, within: 30s}\n    volumes: {data: data}\n";
    let shop = Shop::with_stages(service, "volumes: {data: {}}\n");
    let plan = shop.place.run(&["plan"]).success();
    assert!(plan.stdout.contains("in place"), "{}", plan.stdout);
    shop.apply("one").success();
    let volume = shop.place.home().join("volumes/shop/data");
    fs_err::write(volume.join("kept"), "x").unwrap();
    shop.apply("two").success();
    assert_eq!(shop.word(), "two");
    assert!(volume.join("kept").exists(), "a volume keeps its data across releases");

    let asked = shop.place.run(&["down", "shop"]);
    assert_eq!(asked.code, 2, "nobody is there to be asked: {}", asked.stderr);
    shop.place.run(&["down", "shop", "--yes"]).success();
    assert!(get(shop.port, "/").is_err(), "nothing listens any more");
    assert!(volume.join("kept").exists());
    assert_eq!(shop.service("serve"), Value::Null);
    shop.apply("three").success();
    assert_eq!(shop.word(), "three");
    shop.place.run(&["down", "--volumes", "--yes"]).success();
    assert!(!volume.exists());
}

#[test]
fn a_service_that_leaves_the_file_goes_after_a_successful_run() {
    let other = free_port();
    let second = format!(
        "  second:\n    run: [python3, serve.py]\n    inputs: {{model: train.model}}\n    service: {{port: {other}}}\n"
    );
    let shop = Shop::with_stages(TWO, &second);
    shop.apply("one").success();
    assert_eq!(get(other, "/").unwrap().0, 200);
    shop.define(TWO, "");
    shop.place.commit("without the second");
    let plan = shop.place.run(&["plan"]).success();
    assert!(plan.stdout.contains("second"), "{}", plan.stdout);
    let asked = shop.apply("one");
    assert_eq!(asked.code, 2, "{}", asked.stderr);
    shop.place.run(&["apply", "--yes"]).success();
    await_that("the second goes", || get(other, "/").err());
    assert_eq!(shop.word(), "one");
}

#[test]
fn services_call_services_and_stages_after_them_call_both() {
    let other = free_port();
    let stages = format!(
        r#"  front:
    run: [python3, serve.py]
    inputs: {{model: train.model}}
    env: {{BACK: "${{{{ services.serve.url }}}}"}}
    service: {{port: {other}, ready: {{run: python3 ready.py}}}}
  call:
    run: >-
      python3 -c "import os, urllib.request as r; print(r.urlopen(os.environ['FLOWRUN_SERVICE_FRONT_URL']).read().decode())"
      > "$FLOWRUN_OUTPUT_ANSWER"
    needs: [front]
    outputs: {{answer: answer.txt}}
"#
    );
    let shop = Shop::with_stages(TWO, &stages);
    shop.place.write(
        "ready.py",
        "import os, socket\nassert os.environ['BACK'] == os.environ['FLOWRUN_SERVICE_SERVE_URL']\n\
         socket.create_connection(('127.0.0.1', int(os.environ['PORT'])))\n",
    );
    shop.place.commit("a probe");
    shop.apply("one").success();
    assert!(shop.place.output("call", "answer").starts_with("one "));
    assert_eq!(get(other, "/x").unwrap().0, 200);
}

#[test]
fn a_live_input_judges_both_models_on_the_same_data() {
    let stages = r#"  compare:
    run: 'cat "${FLOWRUN_INPUT_CURRENT:-/dev/null}" > "$FLOWRUN_OUTPUT_SEEN"; test -s "$FLOWRUN_OUTPUT_SEEN" || echo nothing > "$FLOWRUN_OUTPUT_SEEN"'
    inputs: {current: {live: serve.model, optional: true}}
    outputs: {seen: seen.txt}
"#;
    let shop = Shop::with_stages(TWO, stages);
    shop.apply("one").success();
    assert_eq!(shop.place.output("compare", "seen"), "nothing\n");
    shop.apply("two").success();
    assert_eq!(shop.place.output("compare", "seen"), "one");
    let plan = shop.place.run(&["plan", "--param", "word=two"]).success();
    assert!(plan.stdout.contains("inputs.current"), "{}", plan.stdout);
}

#[test]
fn ports_that_cannot_be_had_are_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let shop = Shop::with("      ready: {http: /readyz, within: 30s}\n");
    let text = fs_err::read_to_string(shop.place.folder().join("pipeline.yaml")).unwrap();
    shop.place.write(
        "pipeline.yaml",
        &text.replace(&format!("port: {}", shop.port), &format!("port: {port}")),
    );
    let failed = shop.apply("one");
    assert_eq!(failed.code, 4, "{}", failed.stderr);
    assert!(failed.stderr.contains(&format!("port {port} is taken")), "{}", failed.stderr);
}

#[test]
fn changed_replicas_and_route_apply_in_place() {
    let shop = Shop::with("      replicas: 1\n      ready: {http: /readyz, within: 30s}\n");
    shop.apply("one").success();
    let before = shop.pids();
    shop.define(
        "      replicas: 2\n      route: /shop\n      ready: {http: /readyz, within: 30s}\n",
        "",
    );
    shop.place.commit("more");
    shop.apply("one").success();
    let status = shop.await_status("two replicas", |status| status["ready"] == 2);
    assert!(shop.pids().contains(&before[0]), "the first goes on");
    assert_eq!(status["number"], 1, "no new release");
    let route = status["route"].as_str().unwrap();
    let gateway: u16 = route.split(':').nth(2).unwrap().split('/').next().unwrap().parse().unwrap();
    let (code, body) = get(gateway, "/shop/hello").unwrap();
    assert_eq!(code, 200);
    assert!(body.ends_with("/hello\n"), "the prefix is stripped: {body}");
    assert_eq!(get(gateway, "/other").unwrap().0, 404);
}

#[test]
fn a_resumed_run_takes_down_what_left_the_file() {
    let shop = Shop::with_stages(
        "      ready: {http: /readyz, within: 30s}\n",
        &format!(
            "  other:\n    run: [python3, serve.py]\n    files: [serve.py]\n    inputs: {{model: train.model}}\n    service: {{port: {}}}\n",
            free_port()
        ),
    );
    shop.apply("one").success();
    shop.define(
        "      ready: {http: /readyz, within: 30s}\n",
        "  last:\n    run: test -e \"$GO\"\n    env: {GO: ${{ params.go }}}\n    needs: [serve]\n",
    );
    let text = fs_err::read_to_string(shop.place.folder().join("pipeline.yaml")).unwrap();
    let go = shop.place.folder().parent().unwrap().join("go");
    let text = text.replace("  score: 1.0\n", &format!("  score: 1.0\n  go: {}\n", go.display()));
    shop.place.write(
        "pipeline.yaml",
        &text.replace("{GO: ${{ params.go }}}", "{GO: \"${{ params.go }}\"}"),
    );
    shop.place.commit("other left");
    let failed = shop.place.run(&["apply", "--yes"]);
    assert_eq!(failed.code, 4, "{}", failed.stderr);
    assert_ne!(shop.service("other"), Value::Null, "after a failed run it stays");
    fs_err::write(go, "").unwrap();
    let asked = shop.place.run(&["resume"]);
    assert_eq!(asked.code, 2, "nobody is there to be asked: {}", asked.stderr);
    let resumed = shop.place.run(&["resume", "--yes"]).success();
    assert!(resumed.stderr.contains("took down `shop/other`"), "{}", resumed.stderr);
    assert_eq!(shop.service("other"), Value::Null);
}

#[test]
fn a_gateway_that_is_elsewhere_is_told() {
    let shop = Shop::with("      route: /shop\n      ready: {http: /readyz, within: 30s}\n");
    shop.apply("one").success();
    let wanted = format!("127.0.0.1:{}", free_port());
    let told = shop.place.run(&["apply", "--gateway", &wanted, "--param", "word=two"]).success();
    assert!(told.stderr.contains(&format!("not at {wanted} as set")), "{}", told.stderr);
    let silent = shop.apply("one").success();
    assert!(!silent.stderr.contains("as set"), "{}", silent.stderr);
}
