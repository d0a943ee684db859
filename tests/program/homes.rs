//! Homes that may not do everything: one with a store that it only reads, one whose service belongs to another, one whose server keeps another state.

use crate::colleagues::Colleagues;
use crate::place::Output;
use crate::shop::Shop;
use crate::team::server;

/// Two homes of one pipeline with a service, and one Postgres.
struct Homes {
    shop: Shop,
    state: String,
}

impl Homes {
    fn new(schema: &str) -> Self {
        let url = server("FLOWRUN_TEST_POSTGRES");
        let sign = if url.contains('?') { '&' } else { '?' };
        let state = format!("{url}{sign}schema={schema}_{}", std::process::id());
        Self { shop: Shop::with(""), state }
    }

    /// In the home of the place.
    fn ann(&self, arguments: &[&str]) -> Output {
        self.shop.place.run_with(&[("FLOWRUN_STATE", &self.state)], arguments)
    }

    fn bob(&self, arguments: &[&str]) -> Output {
        let home = self.shop.place.outside("bob");
        let variables =
            [("FLOWRUN_STATE", self.state.as_str()), ("FLOWRUN_HOME", home.to_str().unwrap())];
        self.shop.place.run_with(&variables, arguments)
    }
}

#[test]
fn a_service_of_another_home_is_left_as_it_is_and_changes_only_there() {
    let homes = Homes::new("elsewhere");
    homes.ann(&["apply", "--param", "word=one"]).success();

    let same = homes.bob(&["apply", "--param", "word=one"]).success();
    assert!(same.stderr.contains("serve unchanged: release 1"), "{}", same.stderr);
    assert!(same.stderr.contains("`serve` is kept up by the home "), "{}", same.stderr);
    assert_eq!(homes.bob(&["server", "--status"]).code, 5, "no server was needed");

    let other = homes.bob(&["apply", "--param", "word=two"]);
    assert_eq!(other.code, 4, "{}", other.stderr);
    assert!(other.stderr.contains("it is kept up by the home "), "{}", other.stderr);
    assert!(other.stderr.contains("apply on that machine, or take the service down there first"));
    assert!(!other.stderr.contains("flowrun logs"), "there is no log: {}", other.stderr);
    let releases = homes.ann(&["releases", "serve", "-o", "json"]).success().stdout;
    assert!(!releases.contains("\"number\": 2"), "no release was made for nothing: {releases}");
    assert_eq!(homes.shop.word(), "one");

    homes.ann(&["apply", "--param", "word=two"]).success();
    assert_eq!(homes.shop.word(), "two");
    homes.ann(&["down", "--yes"]).success();
    homes.ann(&["server", "--stop"]).success();
}

#[test]
fn a_server_that_keeps_another_state_is_named() {
    let homes = Homes::new("other_state");
    homes.ann(&["apply"]).success();
    let status = homes.ann(&["server", "--status"]).success().stdout;
    assert!(status.contains("state     postgres://"), "{status}");

    let moved = homes.shop.place.run(&["apply"]);
    assert_eq!(moved.code, 5, "{}", moved.stderr);
    for words in ["keeps services recorded in `postgres://", "works with `sqlite`", "--stop"] {
        assert!(moved.stderr.contains(words), "{words}: {}", moved.stderr);
    }
    homes.ann(&["down", "--yes"]).success();
    homes.ann(&["server", "--stop"]).success();
    homes.shop.place.run(&["resume"]).success();
    assert_eq!(homes.shop.word(), "one");
}

#[test]
fn a_job_that_only_reads_the_store_runs_what_is_new_and_stores_it_at_home() {
    let team = Colleagues::new("", None);
    team.open_gate();
    team.run("ann", &["apply"]).success();
    let bucket = || -> Vec<_> {
        let walk = walkdir::WalkDir::new(team.place.outside("bucket")).sort_by_file_name();
        walk.into_iter().map(|entry| entry.unwrap().into_path()).collect()
    };
    let before = bucket();
    let read_only = |arguments: &[&str]| {
        let mut command = team.command("ci", arguments);
        Output::of(command.env("FLOWRUN_STORE_ACCESS", "read-only"))
    };
    let same = read_only(&["apply"]).success();
    assert!(same.stderr.contains("by ann@"), "{}", same.stderr);
    team.place.write("words.txt", "what a pull request changes\n");
    let changed = read_only(&["apply"]).success();
    assert!(changed.stderr.contains("1 done, 1 reused"), "{}", changed.stderr);
    let target = team.place.outside("model.txt");
    read_only(&["store", "get", "train.model", target.to_str().unwrap()]).success();
    let model = fs_err::read_to_string(target).unwrap();
    assert!(model.contains("what a pull request changes"), "{model}");
    let again = read_only(&["apply"]).success();
    assert!(again.stderr.contains("2 reused"), "{}", again.stderr);
    assert_eq!(bucket(), before, "nothing was written where all read");
    let plan = team.run("ann", &["plan"]).success().stdout;
    assert!(plan.contains("run        train"), "others know nothing of it: {plan}");
}
