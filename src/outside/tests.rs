mod server;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use server::{Answer, Asked, Server, answer, part};

use super::hashing::Hashing;
use super::*;
use crate::store::dir::DirStore;

/// A store, and a fetcher without patience.
struct Place {
    root: tempfile::TempDir,
    store: Arc<dyn Store>,
    outside: Outside,
    traffic: Traffic,
    told: Mutex<Vec<String>>,
}

impl Place {
    fn new() -> Self {
        Self::with_stall(Duration::from_secs(20))
    }

    /// Where a source that says nothing for so long is silent.
    fn with_stall(stall: Duration) -> Self {
        let root = tempfile::tempdir().unwrap();
        let tmp = root.path().join("tmp");
        fs_err::create_dir(&tmp).unwrap();
        let store: Arc<dyn Store> =
            Arc::new(DirStore::open(&root.path().join("store"), &tmp).unwrap());
        let patience = Patience {
            connect: Duration::from_secs(5),
            stall,
            tries: 3,
            pause: Duration::from_millis(1),
        };
        let settings = OutsideSettings { folder: tmp, patience, netrc: None };
        let outside = Outside::new(settings, Arc::clone(&store));
        Self { root, store, outside, traffic: Traffic::default(), told: Mutex::default() }
    }

    async fn pin(&self, wanted: &Wanted) -> Result<Pinned, OutsideError> {
        let fetcher = Fetcher { run: RunId::new(1, 1), now: 1 };
        let tell = |line: String| self.told.lock().unwrap().push(line);
        self.outside.pin(wanted, None, fetcher, &self.traffic, &tell).await
    }

    /// The content of what was fetched.
    async fn content(&self, wanted: &Wanted) -> Vec<u8> {
        let pinned = self.pin(wanted).await.unwrap();
        self.read(&pinned.artifact).await
    }

    async fn read(&self, artifact: &Digest) -> Vec<u8> {
        let target = tempfile::tempdir_in(self.root.path()).unwrap();
        let file = target.path().join("file");
        self.store.place(artifact, &file, true, &self.traffic).await.unwrap();
        fs_err::read(file).unwrap()
    }

    async fn error(&self, wanted: &Wanted) -> String {
        let error = self.pin(wanted).await.unwrap_err();
        assert!(error.help().is_some(), "{error}");
        self.nothing_is_left();
        error.to_string().replace(&wanted.address.to_string(), "URL")
    }

    /// Locks stay; bytes that came may, for the next try.
    fn nothing_is_left(&self) {
        let tmp = self.root.path().join("tmp");
        let names = fs_err::read_dir(tmp).unwrap().map(|entry| entry.unwrap().path());
        let left: Vec<_> =
            names.filter(|path| path.extension().is_some_and(|one| one == "whole")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn wanted(url: &str, expected: Option<&str>) -> Wanted {
    Wanted {
        address: url.parse().unwrap(),
        expected: expected.map(|expected| expected.parse().unwrap()),
        token: None,
    }
}

fn sha256(bytes: &[u8]) -> String {
    let mut hashing = Hashing::new(false);
    hashing.update(bytes);
    Expected::Sha256(hashing.end().sha256).to_string()
}

/// Many different bytes.
fn body(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// A good server of one file.
fn good(body: Vec<u8>, etag: &'static str) -> impl Fn(&Asked) -> Answer + Send + Sync + 'static {
    move |asked| {
        if asked.header("if-none-match") == Some(etag) {
            return answer(304);
        }
        part(&body, asked.from().filter(|_| asked.header("if-range") == Some(etag)), etag)
    }
}

#[tokio::test]
async fn a_file_is_fetched_once_and_asked_about_after() {
    let place = Place::new();
    let bytes = body(100_000);
    let server = Server::start(good(bytes.clone(), "\"1\"")).await;
    let data = wanted(&server.url("data.csv"), None);
    assert_eq!(place.outside.look(&data, None).await.unwrap(), Outlook::NotFetched);
    assert!(server.asked().is_empty());
    let first = place.pin(&data).await.unwrap();
    assert_eq!(first.version, "etag \"1\"");
    assert_eq!(place.read(&first.artifact).await, bytes);
    assert_eq!(place.traffic.moved().received, 100_000);
    assert_eq!(place.pin(&data).await.unwrap(), first);
    assert_eq!(place.outside.look(&data, None).await.unwrap(), Outlook::Known(first.artifact));
    let asked = server.asked();
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[1].header("if-none-match"), Some("\"1\""));
    assert_eq!(asked[0].header("accept-encoding"), Some("identity"));
    assert_eq!(place.traffic.moved().received, 100_000);
    // By now its digest is known too.
    let digest = wanted(&server.url("elsewhere"), Some(&sha256(&bytes)));
    let blake = wanted(&server.url("elsewhere"), Some(&Digest::of(&bytes).to_string()));
    for known in [digest, blake] {
        assert_eq!(place.outside.look(&known, None).await.unwrap(), Outlook::Known(first.artifact));
        assert_eq!(place.pin(&known).await.unwrap().artifact, first.artifact);
    }
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn a_source_that_changed_is_fetched_again() {
    let place = Place::new();
    let version = Arc::new(AtomicUsize::new(1));
    let now = Arc::clone(&version);
    let server = Server::start(move |asked| {
        let number = now.load(Ordering::Relaxed);
        let etag = format!("\"{number}\"");
        if asked.header("if-none-match") == Some(etag.as_str()) {
            return answer(304);
        }
        part(format!("content {number}").as_bytes(), None, &etag)
    })
    .await;
    let data = wanted(&server.url("data"), None);
    assert_eq!(place.content(&data).await, b"content 1");
    version.store(2, Ordering::Relaxed);
    assert_eq!(place.outside.look(&data, None).await.unwrap(), Outlook::Changed);
    assert_eq!(place.content(&data).await, b"content 2");
    // The server went back: the first content is in the store, but an entity tag is only believed of what was found last.
    version.store(1, Ordering::Relaxed);
    assert_eq!(place.outside.look(&data, None).await.unwrap(), Outlook::Changed);
    assert_eq!(place.content(&data).await, b"content 1");
}

#[tokio::test]
async fn servers_with_dates_or_without_versions() {
    let place = Place::new();
    let then = "Sat, 01 Nov 2025 10:00:00 GMT";
    let dated = Server::start(move |asked| match asked.header("if-modified-since") {
        Some(since) if since == then => answer(304),
        _ => answer(200).with("Last-Modified", then).body(b"dated"),
    })
    .await;
    let data = wanted(&dated.url("data"), None);
    let pinned = place.pin(&data).await.unwrap();
    assert_eq!(pinned.version, format!("modified {then}"));
    assert_eq!(place.outside.look(&data, None).await.unwrap(), Outlook::Known(pinned.artifact));
    let silent = Server::start(|_| answer(200).body(b"unversioned")).await;
    let data = wanted(&silent.url("data"), None);
    let pinned = place.pin(&data).await.unwrap();
    assert_eq!(place.outside.look(&data, None).await.unwrap(), Outlook::Untold);
    assert_eq!(place.pin(&data).await.unwrap(), pinned);
    assert_eq!(silent.asked().len(), 2);
}

#[tokio::test]
async fn what_is_cut_goes_on() {
    let place = Place::new();
    let bytes = body(50_000);
    let whole = bytes.clone();
    // More cuts than tries: each brings something new.
    let server = Server::start(move |asked| {
        let from = asked.from().filter(|_| asked.header("if-range") == Some("\"1\""));
        part(&whole, from, "\"1\"").cut(10_000)
    })
    .await;
    let data = wanted(&server.url("data"), Some(&sha256(&bytes)));
    assert_eq!(place.content(&data).await, bytes);
    let froms: Vec<_> = server.asked().iter().map(Asked::from).collect();
    assert_eq!(froms, [None, Some(10_000), Some(20_000), Some(30_000), Some(40_000)]);
    assert_eq!(place.traffic.moved().received, 50_000);
}

#[tokio::test]
async fn a_source_that_changes_in_the_middle_is_never_mixed() {
    let (old, new) = (body(40_000), vec![7; 50_000]);
    for honest in [true, false] {
        let place = Place::new();
        let (first, second) = (old.clone(), new.clone());
        let server = Server::start(move |asked| match asked.number {
            0 => part(&first, None, "\"old\"").cut(10_000),
            // Whoever minds `If-Range` gives all of the new one, others the rest of it.
            _ if honest => part(&second, None, "\"new\""),
            _ => part(&second, asked.from(), "\"new\""),
        })
        .await;
        let data = wanted(&server.url("data"), None);
        assert_eq!(place.content(&data).await, new);
        assert_eq!(server.asked()[1].header("if-range"), Some("\"old\""));
        assert_eq!(server.asked().len(), if honest { 2 } else { 3 });
    }
}

#[tokio::test]
async fn a_server_that_lies_about_the_length_is_found_out() {
    let place = Place::new();
    let bytes = body(1_000);
    for ranges in [true, false] {
        let whole = bytes.clone();
        let server = Server::start(move |asked| {
            let mut longer = whole.clone();
            longer.extend([0; 500]);
            match asked.from().filter(|_| ranges) {
                None => part(&longer, None, "\"1\"").cut(1_000),
                Some(from) => part(&longer, Some(from), "\"1\"").cut(0),
            }
        })
        .await;
        let data = wanted(&server.url("data"), None);
        assert_eq!(place.error(&data).await, "`URL` was cut off after 1000 B of 1.5 KiB");
        assert_eq!(server.asked().len(), 3);
    }
}

#[tokio::test]
async fn the_next_process_goes_on_with_what_came() {
    let bytes = body(30_000);
    let place = Place::new();
    let whole = bytes.clone();
    let server = Server::start(move |asked| match asked.number {
        0 => part(&whole, None, "\"1\"").cut(20_000).silent(),
        _ => part(&whole, asked.from(), "\"1\""),
    })
    .await;
    let data = wanted(&server.url("data"), None);
    {
        let mut fetching = std::pin::pin!(place.pin(&data));
        // As far as the bytes are on the disk, and no further.
        let part = part::Part::path_of(&place.root.path().join("tmp"), &data.address.id());
        while fs_err::metadata(&part).map_or(0, |found| found.len()) < 20_000 {
            assert!(futures_util::poll!(fetching.as_mut()).is_pending());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(place.content(&data).await, bytes);
    assert_eq!(server.asked()[1].from(), Some(20_000));
}

#[tokio::test]
async fn a_wrong_digest_names_both() {
    let place = Place::new();
    let server = Server::start(good(b"evil".to_vec(), "\"1\"")).await;
    for (expected, is) in [
        (sha256(b"good"), sha256(b"evil")),
        (Digest::of(b"good").to_string(), Digest::of(b"evil").to_string()),
    ] {
        let data = wanted(&server.url("data"), Some(&expected));
        let error = place.error(&data).await;
        assert_eq!(
            error,
            format!(
                "`URL` has another content: its digest is `{is}`, and the file asks for `{expected}`"
            )
        );
        assert_eq!(place.outside.look(&data, None).await.unwrap(), Outlook::NotFetched);
    }
    assert_eq!(place.store.summary().await.unwrap().files, 0);
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let place = Place::new();
    let server = Server::start(|asked| {
        let status = asked.path.trim_start_matches('/').split('/').next().unwrap();
        answer(status.parse().unwrap()).body(b"<html>")
    })
    .await;
    for (path, said, tries) in [
        ("404/a", "`URL` is not there (404)", 1),
        ("410/a", "`URL` is not there (410)", 1),
        ("401/a", "`URL` asks for a login (401)", 1),
        ("403/a", "`URL` may not be read (403)", 1),
        ("204/a", "`URL` is not given out by its server (204)", 1),
        ("302/a", "`URL` is redirected to no address (302)", 1),
        ("503/a", "`URL` cannot be had now: its server answers 503", 3),
        ("429/a", "`URL` cannot be had now: its server answers 429", 3),
    ] {
        let before = server.asked().len();
        assert_eq!(place.error(&wanted(&server.url(path), None)).await, said);
        assert_eq!(server.asked().len() - before, tries, "{path}");
    }
}

#[tokio::test]
async fn a_server_that_is_busy_is_asked_again() {
    let place = Place::new();
    let server = Server::start(|asked| match asked.number {
        0 => answer(503).with("Retry-After", "0"),
        1 => answer(500),
        _ => part(b"here", None, "\"1\""),
    })
    .await;
    assert_eq!(place.content(&wanted(&server.url("data"), None)).await, b"here");
    let told = place.told.lock().unwrap().join("\n");
    assert!(told.contains("its server answers 503; tries again in"), "{told}");
}

#[tokio::test]
async fn silence_and_absence_are_told_apart() {
    let place = Place::with_stall(Duration::from_millis(300));
    let server = Server::start(|_| part(&body(100), None, "\"1\"").cut(10).silent()).await;
    let data = wanted(&server.url("data"), None);
    assert_eq!(place.error(&data).await, "`URL` went silent: nothing came for 0.3s");
    let place = Place::new();
    let gone = wanted(&format!("http://127.0.0.1:{}/data", crate::ports::free_port()), None);
    assert_eq!(place.error(&gone).await, "`URL` cannot be reached: its server refuses connections");
    let unknown = wanted("https://no-such-host.invalid/data", None);
    let error = place.error(&unknown).await;
    assert!(error.starts_with("`URL` cannot be reached: "), "{error}");
    assert!(error.contains("host"), "{error}");
    let clear = Server::start(|_| answer(200)).await;
    let tls = wanted(&clear.url("data").replace("http:", "https:"), None);
    let error = place.error(&tls).await;
    assert_eq!(error, "`URL` cannot be reached: TLS fails: tls handshake eof");
}

#[tokio::test]
async fn without_its_source_a_remembered_file_needs_a_digest() {
    let place = Place::new();
    let server = Server::start(good(b"here".to_vec(), "\"1\"")).await;
    let url = server.url("data");
    let data = wanted(&url, None);
    assert_eq!(place.content(&data).await, b"here");
    drop(server);
    let error = place.pin(&data).await.unwrap_err();
    assert!(error.to_string().ends_with("so nobody can tell whether it changed"), "{error}");
    assert_eq!(error.help().unwrap(), "give the input a `digest` to work without its source");
    assert!(place.outside.look(&data, None).await.is_err());
    assert_eq!(place.content(&wanted(&url, Some(&sha256(b"here")))).await, b"here");
}

#[tokio::test]
async fn redirects_are_followed_to_an_end() {
    let place = Place::new();
    let end = Server::start(good(b"end".to_vec(), "\"1\"")).await;
    let to = end.url("real.csv");
    let server = Server::start(move |asked| match asked.path.as_str() {
        "/latest.csv" => answer(302).with("Location", &to),
        _ => answer(302).with("Location", &format!("{}x", asked.path)),
    })
    .await;
    let data = wanted(&server.url("latest.csv"), None);
    assert_eq!(place.content(&data).await, b"end");
    assert_eq!(data.address.file_name().unwrap(), "latest.csv");
    let endless = wanted(&server.url("a"), None);
    assert_eq!(place.error(&endless).await, "`URL` leads from one address to the next without end");
}

#[tokio::test]
async fn secrets_of_an_address_are_sent_and_never_said() {
    let place = Place::new();
    let server = Server::start(|asked| match asked.header("authorization") {
        Some(_) if asked.path == "/data?token=hush" => part(b"secret", None, "\"1\""),
        _ => answer(403),
    })
    .await;
    let url = server.url("data?token=hush").replace("://", "://me:pass@");
    assert_eq!(place.content(&wanted(&url, None)).await, b"secret");
    let refused = place.pin(&wanted(&url.replace("hush", "hush2"), None)).await.unwrap_err();
    let records = format!("{:?}", place.store.records().await.unwrap());
    for text in [refused.to_string(), records, place.told.lock().unwrap().join("")] {
        assert!(!text.contains("hush") && !text.contains("pass"), "{text}");
    }
}

#[tokio::test]
async fn a_file_of_this_machine_is_copied() {
    let place = Place::new();
    let path = place.root.path().join("my data.csv");
    fs_err::write(&path, "one").unwrap();
    let data = wanted(&format!("file://{}", path.display()).replace(' ', "%20"), None);
    let first = place.pin(&data).await.unwrap();
    assert_eq!(place.outside.look(&data, None).await.unwrap(), Outlook::Known(first.artifact));
    assert_eq!(place.pin(&data).await.unwrap(), first);
    fs_err::write(&path, "two!").unwrap();
    assert_eq!(place.read(&first.artifact).await, b"one");
    assert_eq!(place.outside.look(&data, None).await.unwrap(), Outlook::Changed);
    assert_eq!(place.content(&data).await, b"two!");
    let expects = |text: &[u8]| wanted(data.address.url().as_str(), Some(&sha256(text)));
    assert_eq!(place.content(&expects(b"two!")).await, b"two!");
    assert!(place.error(&expects(b"three")).await.contains("has another content"));
    fs_err::remove_file(&path).unwrap();
    assert_eq!(place.error(&data).await, "`URL` is not there");
}

#[tokio::test]
async fn a_folder_of_this_machine_is_an_artifact() {
    let place = Place::new();
    let folder = place.root.path().join("images");
    fs_err::create_dir_all(folder.join("cats/empty")).unwrap();
    fs_err::write(folder.join("cats/one.png"), "png").unwrap();
    std::os::unix::fs::symlink("cats/one.png", folder.join("latest")).unwrap();
    let url = format!("file://{}", folder.display());
    let data = wanted(&url, None);
    let first = place.pin(&data).await.unwrap();
    let entries = place.store.entries(&first.artifact).await.unwrap();
    let paths: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths, ["cats", "cats/empty", "cats/one.png", "latest"]);
    assert_eq!(place.pin(&data).await.unwrap(), first);
    let known = wanted(&url, Some(&first.artifact.to_string()));
    assert_eq!(place.outside.look(&known, None).await.unwrap(), Outlook::Known(first.artifact));
    assert!(place.error(&wanted(&url, Some(&sha256(b"a")))).await.contains("has no SHA-256"));
    fs_err::write(folder.join("cats/two.png"), "png").unwrap();
    assert_eq!(place.outside.look(&data, None).await.unwrap(), Outlook::Changed);
    assert_ne!(place.pin(&data).await.unwrap(), first);
    std::os::unix::fs::symlink("/etc/passwd", folder.join("out")).unwrap();
    assert!(place.error(&data).await.starts_with("`URL` cannot be stored: `out`"));
}
