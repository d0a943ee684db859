//! What the Docker runtime promises beside the common text.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use flowrun::event::JobEnd;
use flowrun::runtime::docker::tool::Tool;
use flowrun::runtime::docker::{Docker, DockerError, DockerRuntime, DockerSettings};
use flowrun::runtime::{
    Beside, ContainerNetwork, ContainerUser, Job, Runtime, RuntimeError, Supervised,
};
use flowrun::secret::{HandedSecret, SecretText};

use crate::fixture::{Home, Place, WORK, end, pid_from, run, stderr, stdout, until, work};

async fn home() -> (Home, DockerRuntime, Docker, String) {
    let home = Home::docker().await;
    let Place::Docker { docker, image } = home.place.clone() else { panic!("it is") };
    (home, DockerRuntime::new(docker.clone()), docker, image)
}

/// What the program `docker` says; the engine as others see it.
fn engine_says(words: &[&str]) -> String {
    let output = std::process::Command::new("docker").args(words).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn containers_of(home: &Home) -> String {
    let name = format!("name=flowrun-{}", home.run.to_string().to_lowercase());
    engine_says(&["ps", "-aq", "--filter", &name])
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let host = Some(format!("unix://{}/no.sock", folder.path().display()));
    let settings = DockerSettings {
        host,
        config: None,
        env: BTreeMap::new(),
        installation: "runtime-tests".to_owned(),
    };
    let docker = Docker::open(settings).unwrap();
    assert!(matches!(docker.about().await, Err(DockerError::Absent { .. })));
    let home = Home::docker().await;
    let job = home.sh("true");
    let absent = DockerRuntime::new(docker);
    let error = absent.start(&job).await.unwrap_err();
    assert!(
        error.to_string().starts_with("the Docker Engine cannot be reached: there is no socket")
    );
    assert!(matches!(error, RuntimeError::Docker(DockerError::Absent { .. })));
    assert_eq!(run(&*home.runtime(), &job).await.end, JobEnd::Exited(0), "nothing was begun");
    let nonsense = DockerSettings { host: Some("ftp://x".to_owned()), ..home_settings() };
    assert!(matches!(Docker::open(nonsense), Err(DockerError::Absent { .. })));
}

fn home_settings() -> DockerSettings {
    DockerSettings {
        host: None,
        config: None,
        env: BTreeMap::new(),
        installation: "runtime-tests".to_owned(),
    }
}

#[tokio::test]
async fn nothing_of_a_job_stays_at_the_engine() {
    let (home, runtime, ..) = home().await;
    run(&runtime, &home.sh("exit 3")).await;
    let hanging = home.sh("sleep 1000");
    runtime.start(&hanging).await.unwrap();
    assert_ne!(containers_of(&home), "");
    runtime.stop(&hanging.name, true).await.unwrap();
    assert_eq!(end(&runtime, &hanging).await.end, JobEnd::Cancelled);
    assert_eq!(containers_of(&home), "");
}

#[tokio::test]
async fn a_job_is_contained_and_its_files_are_the_callers() {
    let (home, runtime, ..) = home().await;
    let mut job = home.sh(
        "id -u; id -g; pwd; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status; touch made; \
         touch /escaped 2>/dev/null && echo escaped; test -e /var/run/docker.sock && echo socket; \
         touch /tmp/t && echo temporary; grep -q eth0 /proc/net/dev && echo network; echo $GREETING",
    );
    job.env.insert("GREETING".to_owned(), "grüße".to_owned());
    assert_eq!(run(&runtime, &job).await.end, JobEnd::Exited(0));
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let expected = format!(
        "{}\n{}\n{WORK}\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\ntemporary\ngrüße\n",
        user.as_raw(),
        group.as_raw()
    );
    assert_eq!(stdout(&job), expected, "{}", stderr(&job));
    let made = fs_err::metadata(work(&job).join("made")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), user.as_raw());
}

#[tokio::test]
async fn a_removed_container_is_lost_and_never_starts_again() {
    let (home, runtime, ..) = home().await;
    let job = home.sh("echo $$ > main; sleep 1000");
    runtime.start(&job).await.unwrap();
    pid_from(&job, "main").await;
    engine_says(&["rm", "-f", job.name.as_str()]);
    let report = end(&runtime, &job).await;
    assert!(matches!(report.end, JobEnd::Lost { .. } | JobEnd::Exited(137)), "{report:?}");
    runtime.start(&job).await.unwrap();
    assert_eq!(end(&runtime, &job).await, report);
    assert_eq!(containers_of(&home), "");
}

#[tokio::test]
async fn a_container_that_was_made_and_not_started_is_started() {
    let (home, runtime, ..) = home().await;
    let job = home.sh("echo ran");
    // As a process leaves it that is killed between the two.
    let order = serde_json::to_string(&job).unwrap();
    fs_err::write(job.folder.join("order.json"), order + "\n").unwrap();
    let label = "flowrun.installation=runtime-tests";
    let image = job.container.as_ref().unwrap().image.as_str();
    let create = ["create", "--name", job.name.as_str(), "--label", label, "--network", "none"];
    engine_says(&[create.as_slice(), &["--log-driver", "local", image, "echo", "ran"]].concat());
    assert_eq!(end(&runtime, &job).await.end, JobEnd::Exited(0));
    assert_eq!(stdout(&job), "ran\n");
}

#[tokio::test]
async fn a_strangers_container_is_not_touched() {
    let (home, runtime, _, image) = home().await;
    let job = home.sh("true");
    let name = job.name.as_str();
    engine_says(&["run", "-d", "--name", name, "--network", "none", &image, "sleep", "1000"]);
    let error = runtime.start(&job).await.unwrap_err().to_string();
    assert!(error.contains("a container that flowrun did not make has it"), "{error}");
    let running = runtime.is_running(&job.name).await;
    assert!(running.is_err(), "{running:?}");
    assert_ne!(containers_of(&home), "", "it lives");
    engine_says(&["rm", "-f", name]);
}

fn handed(variable: &str, value: &str, file: bool) -> HandedSecret {
    let value = SecretText::new(value.to_owned());
    HandedSecret { variable: variable.to_owned(), value, file }
}

#[tokio::test]
async fn secrets_come_as_variables_and_as_files_in_memory() {
    let (home, runtime, ..) = home().await;
    let mut job = home.sh(
        "test \"$KEY\" = hun''ter2-variable; test \"$(cat $CERT)\" = hun''ter2-file; ls -l $CERT | cut -c 1-10; \
         touch $CERT.new 2>/dev/null && echo written; until test -e go; do sleep 0.01; done",
    );
    job.secrets =
        vec![handed("KEY", "hunter2-variable", false), handed("CERT", "hunter2-file", true)];
    runtime.start(&job).await.unwrap();
    until("its first line", || stdout(&job).ends_with('\n')).await;
    assert_eq!(stdout(&job), "-rw-------\n");
    let user = std::os::unix::fs::MetadataExt::uid(&fs_err::metadata(&job.folder).unwrap());
    let folder = format!("/dev/shm/flowrun-{user}/{}", job.name);
    assert!(std::path::Path::new(&folder).exists());
    let labels = engine_says(&["inspect", "-f", "{{json .Config.Labels}}", job.name.as_str()]);
    assert!(labels.contains("\"KEY,CERT\"") && !labels.contains("hunter2"), "{labels}");
    fs_err::write(work(&job).join("go"), "").unwrap();
    assert_eq!(end(&runtime, &job).await.end, JobEnd::Exited(0));
    assert!(!std::path::Path::new(&folder).exists(), "they go with the job");
    for file in fs_err::read_dir(&job.folder).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            assert!(
                !fs_err::read(&path).unwrap().windows(7).any(|at| at == b"hunter2"),
                "{path:?}"
            );
        }
    }
}

#[tokio::test]
async fn files_of_secrets_go_when_their_container_is_gone_and_nobody_settled_it() {
    let (home, runtime, docker, _) = home().await;
    let mut job = home.sh("sleep 1000");
    job.secrets = vec![handed("CERT", "hunter2-file", true)];
    runtime.start(&job).await.unwrap();
    let user = std::os::unix::fs::MetadataExt::uid(&fs_err::metadata(&job.folder).unwrap());
    let folder = format!("/dev/shm/flowrun-{user}/{}", job.name);
    let remove = async |below: &std::path::Path| {
        docker.remove_left_secrets(below, Duration::ZERO).await.unwrap()
    };
    drop(runtime);
    // Whoever followed it ends with the next turn of the loop.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(remove(home.folder.path()).await, 0, "it runs");
    engine_says(&["rm", "-f", job.name.as_str()]);
    assert_eq!(remove(std::path::Path::new("/another/home")).await, 0);
    assert!(std::path::Path::new(&folder).exists());
    assert_eq!(remove(home.folder.path()).await, 1);
    assert!(!std::path::Path::new(&folder).exists());
}

#[tokio::test]
async fn a_fork_bomb_ends_at_its_limit() {
    let (home, runtime, ..) = home().await;
    let mut job =
        home.sh("mkfifo wait; exec 3<>wait; i=0; while [ $i -lt 5000 ]; do read -r _ <&3 & i=$((i+1)); done; echo never");
    job.timeout = Some(Duration::from_secs(110));
    let report = run(&runtime, &job).await;
    assert_ne!(report.end, JobEnd::Exited(0));
    assert!(!stdout(&job).contains("never"));
    assert!(stderr(&job).contains("fork"), "{}", stderr(&job));
}

#[tokio::test]
async fn an_image_keeps_its_own_user_and_its_root() {
    let (home, runtime, ..) = home().await;
    let mut job = home.sh("id -u; touch /own && echo own; grep ^CapEff /proc/self/status");
    let container = job.container.as_mut().unwrap();
    container.user = ContainerUser::Image;
    container.read_only_root = false;
    assert_eq!(run(&runtime, &job).await.end, JobEnd::Exited(0));
    assert_eq!(stdout(&job), "0\nown\nCapEff:\t00000000a80425fb\n", "Docker's usual rights");
}

#[tokio::test]
async fn a_running_container_has_an_address_and_is_asked() {
    let (home, runtime, docker, _) = home().await;
    let network = docker.network("engine-runtime").await.unwrap();
    let mut job: Job = home.sh("echo $$ > main; sleep 1000");
    job.container.as_mut().unwrap().network = ContainerNetwork::Named(network.name.clone());
    assert_eq!(runtime.address(&job.name).await.unwrap(), None);
    runtime.start(&job).await.unwrap();
    pid_from(&job, "main").await;
    assert!(runtime.address(&job.name).await.unwrap().is_some_and(|address| address.is_ipv4()));
    let ask = |script: &str| Beside {
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        directory: WORK.into(),
        env: BTreeMap::from([("WORD".to_owned(), "yes".to_owned())]),
    };
    let asked = runtime.ask(&job.name, &ask("test -s main && test $WORD = yes")).await.unwrap();
    assert_eq!(asked, Ok(()));
    let asked = runtime.ask(&job.name, &ask("echo not yet; exit 3")).await.unwrap();
    assert_eq!(asked, Err("`sh -c 'echo not yet; exit 3'` exited with code 3: not yet".to_owned()));
    // Dropped midway.
    let slow = ask("echo $$ > slow; trap '' TERM; while :; do date +%N > beat; sleep 0.01; done");
    let beat = work(&job).join("beat");
    tokio::select! {
        answer = runtime.ask(&job.name, &slow) => panic!("{answer:?}"),
        () = until("its begin", || beat.exists()) => {}
    }
    until("its end", || {
        let last = fs_err::read(&beat).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        fs_err::read(&beat).unwrap() == last
    })
    .await;
    runtime.stop(&job.name, true).await.unwrap();
    end(&runtime, &job).await;
    assert_eq!(runtime.address(&job.name).await.unwrap(), None);
    assert!(runtime.ask(&job.name, &ask("true")).await.unwrap().is_err());
    assert!(docker.remove_network("engine-runtime").await.unwrap());
}

#[tokio::test]
async fn a_tool_runs_to_its_end_and_says_what_it_does() {
    let (_home, _, docker, image) = home().await;
    let lines = Mutex::new(Vec::new());
    let mut tool = Tool {
        name: "tool".to_owned(),
        image,
        command: ["sh", "-c", "echo one; echo two >&2; printf three; exit 9"]
            .map(str::to_owned)
            .to_vec(),
        directory: "/tmp".into(),
        env: BTreeMap::new(),
        mounts: Vec::new(),
    };
    let end = docker.run_tool(&tool, &|line| lines.lock().unwrap().push(line)).await.unwrap();
    assert_eq!(end.code, 9);
    assert_eq!(end.log.len(), "one\ntwo\nthree".len());
    let mut lines = lines.into_inner().unwrap();
    lines.sort();
    assert_eq!(lines, ["one", "three", "two"]);
    tool.command = vec!["no-such-tool".to_owned()];
    assert_eq!(docker.run_tool(&tool, &|_| ()).await.unwrap().code, 127);
}
