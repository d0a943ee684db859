//! Pulling an image with the user's login, how far it is, and why it cannot be had.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bollard::errors::Error;
use bollard::models::ProgressDetail;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;
use http::HeaderValue;

use super::error::words;
use super::image::{Progress, Said};
use super::reference::Named;
use super::{Docker, DockerError, login};
use crate::words::{bytes, count, duration, millis};

/// A registry may take this long to begin an answer, and a builder to take the context in.
pub(super) const PATIENCE: Duration = Duration::from_mins(30);

/// The headers in which logins travel.
const LOGINS: [&str; 2] = ["x-registry-auth", "x-registry-config"];

impl Docker {
    /// Brings an image here, or what its tag means now. Dropped midway, the engine stops pulling and keeps whole layers.
    pub(super) async fn pull(
        &self,
        text: &str,
        named: &Named,
        progress: Progress<'_>,
    ) -> Result<(), DockerError> {
        let login = login::of_registry(self.settings(), &named.registry).await.map_err(|why| {
            DockerError::Image {
                image: text.to_owned(),
                why: format!("cannot be pulled: {why}"),
                help: format!("run `docker login {}` again, or mend `config.json`", named.registry),
            }
        })?;
        let has_login = login.is_some();
        let refused = |why: &str| {
            let (why, help) = explain(why, named, has_login);
            DockerError::Image { image: text.to_owned(), why, help }
        };
        let engine = self.for_registries().await?;
        let options =
            CreateImageOptionsBuilder::default().from_image(&named.name).tag(named.wanted());
        let mut said = engine.create_image(Some(options.build()), None, login);
        let mut tally = Tally::new(format!("pulling `{text}`"));
        progress(format!("pulling `{text}`").into());
        while let Some(step) = said.next().await {
            let step = match step {
                Ok(step) => step,
                Err(Error::DockerStreamError { error }) => return Err(refused(&error)),
                Err(error @ Error::DockerResponseServerError { .. }) => {
                    return Err(refused(&words(&error)));
                }
                Err(error) => return Err(DockerError::of(format!("pull image `{text}`"), &error)),
            };
            tally.hear(step.id.as_deref(), step.status.as_deref(), step.progress_detail.as_ref());
            if let Some(said) = tally.due() {
                progress(said);
            }
        }
        progress(tally.end(&format!("pulled `{text}`")).into());
        Ok(())
    }

    /// The engine's client for what waits for registries, with logins spelled as the engine reads them.
    pub(super) async fn for_registries(&self) -> Result<bollard::Docker, DockerError> {
        let engine = self.engine().await?.clone().with_timeout(PATIENCE);
        // The engine reads the alphabet for URLs, its client writes the usual one: a password with `~` or `?` would be lost.
        Ok(engine.with_request_modifier(|mut request| {
            for name in LOGINS {
                if let Some(value) = request.headers().get(name)
                    && let Ok(text) = value.to_str()
                    && let Ok(value) =
                        HeaderValue::from_str(&text.replace('+', "-").replace('/', "_"))
                {
                    request.headers_mut().insert(name, value);
                }
            }
            request
        }))
    }
}

/// What the engine says about a registry → why the image cannot be had, and what to do.
fn explain(said: &str, named: &Named, has_login: bool) -> (String, String) {
    let registry = &named.registry;
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let log_in = || format!("run `docker login {registry}`");
    if has(&[
        "unauthorized",
        "no basic auth credentials",
        "authentication required",
        "incorrect username or password",
        "401 Unauthorized",
    ]) {
        let why = if has_login { "does not accept the login" } else { "asks for a login" };
        (format!("is refused: `{registry}` {why}"), log_in())
    } else if has(&["manifest unknown", "manifest for ", "not found: name unknown", "name unknown"])
    {
        let what = if named.is_pinned() { "digest" } else { "tag" };
        (
            format!("is not in `{registry}`: there is no such name or {what}"),
            format!("look at the name, and at which {what}s there are"),
        )
    } else if has(&["repository does not exist", "access denied", "denied:", "403 Forbidden"]) {
        (
            format!("is not in `{registry}`, or you may not have it"),
            format!("look at the name, or {}", log_in()),
        )
    } else if has(&["toomanyrequests", "429 Too Many Requests"]) {
        (format!("is refused: `{registry}` has had too many requests"), log_in())
    } else if has(&["no matching manifest"]) {
        (
            "is not made for this machine's processor".to_owned(),
            "use an image for this platform".to_owned(),
        )
    } else if has(&["no space left on device"]) {
        (
            "does not fit on the engine's disk".to_owned(),
            "free some space: `docker system df` shows what takes it".to_owned(),
        )
    } else if has(&["certificate", "x509", "HTTP response to HTTPS client"]) {
        (
            format!("cannot be pulled: the engine does not trust `{registry}`: {said}"),
            "give its certificate to the engine, or list it in `insecure-registries`".to_owned(),
        )
    } else if has(&[
        "dial tcp",
        "no such host",
        "connection refused",
        "timeout",
        "Timeout exceeded",
        "deadline exceeded",
        "EOF",
        "reset",
    ]) {
        (
            format!("cannot be pulled: `{registry}` cannot be reached: {said}"),
            "look at the registry's name and at the network of the engine".to_owned(),
        )
    } else {
        (format!("cannot be pulled: {said}"), "try `docker pull` with it".to_owned())
    }
}

/// How far layers are. One line at a time: soon, and then now and then.
pub(super) struct Tally {
    what: String,
    layers: BTreeMap<String, Layer>,
    began: Instant,
    /// When the next line is said.
    next: Duration,
    /// When it is next said how far it is.
    next_look: Duration,
}

/// How often it is said how far it is, and how often as a line.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(5);
/// How wide a bar is, characters.
const BAR: u64 = 24;

#[derive(Default)]
struct Layer {
    done: bool,
    /// Was here already.
    old: bool,
    current: u64,
    total: u64,
}

impl Tally {
    pub(super) fn new(what: String) -> Self {
        let (layers, began, next) = (BTreeMap::new(), Instant::now(), Duration::from_secs(2));
        Self { what, layers, began, next, next_look: LOOK_EVERY }
    }

    /// Takes one message of the engine in.
    pub(super) fn hear(
        &mut self,
        id: Option<&str>,
        status: Option<&str>,
        detail: Option<&ProgressDetail>,
    ) {
        let (Some(id), Some(status)) = (id, status) else { return };
        // The first message is about the tag.
        if status.starts_with("Pulling from") {
            return;
        }
        let layer = self.layers.entry(id.to_owned()).or_default();
        match status {
            "Already exists" => (layer.done, layer.old) = (true, true),
            "Download complete" | "Verifying Checksum" => layer.current = layer.total,
            "Pull complete" => (layer.done, layer.current) = (true, layer.total),
            "Downloading" => {
                let number = |value: Option<i64>| value.and_then(|it| u64::try_from(it).ok());
                layer.current = number(detail.and_then(|it| it.current)).unwrap_or(layer.current);
                layer.total = number(detail.and_then(|it| it.total)).unwrap_or(layer.total);
            }
            _ => {}
        }
    }

    /// How far it is, when it is time to say so.
    pub(super) fn due(&mut self) -> Option<Said> {
        let passed = self.began.elapsed();
        if passed < self.next_look || self.layers.is_empty() {
            return None;
        }
        self.next_look = passed + LOOK_EVERY;
        let stays = passed >= self.next;
        if stays {
            self.next = passed + LINE_EVERY;
        }
        let text = format!("{}: {}{}", self.what, self.bar(), self.words(passed));
        Some(Said::SoFar { text, stays })
    }

    /// `[#####·····] `; nothing while no size is known.
    fn bar(&self) -> String {
        let layers = self.layers.values();
        let (current, total) = layers
            .fold((0, 0), |(current, total), layer| (current + layer.current, total + layer.total));
        let Some(full) = (current * BAR).checked_div(total) else { return String::new() };
        let full = usize::try_from(full.min(BAR)).unwrap_or_default();
        let rest = usize::try_from(BAR).unwrap_or_default() - full;
        format!("[{}{}] ", "#".repeat(full), "·".repeat(rest))
    }

    /// The last line.
    pub(super) fn end(&self, what: &str) -> String {
        let new: Vec<&Layer> = self.layers.values().filter(|layer| !layer.old).collect();
        if new.is_empty() {
            return format!("{what}: nothing new");
        }
        let size: u64 = new.iter().map(|layer| layer.total).sum();
        let took = duration(millis(self.began.elapsed()));
        format!("{what}: {}, {} in {took}", count(new.len(), "new layer"), bytes(size))
    }

    fn words(&self, passed: Duration) -> String {
        let layers = self.layers.values();
        let done = layers.clone().filter(|layer| layer.done).count();
        let all = count(self.layers.len(), "layer");
        let (current, total) = layers
            .fold((0, 0), |(current, total), layer| (current + layer.current, total + layer.total));
        let rate = u128::from(current) * 1000 / passed.as_millis().max(1);
        let rate = bytes(u64::try_from(rate).unwrap_or(u64::MAX));
        format!("{done} of {all}, {} of {}, {rate}/s", bytes(current), bytes(total))
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference::Reference;
    use super::*;

    fn named(text: &str) -> Named {
        match Reference::parse(text) {
            Ok(Reference::Named(named)) => named,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_registries_say_is_told_with_its_mend() {
        let of = |said: &str| explain(said, &named("h:5000/app:1"), false);
        for (said, why, help) in [
            (
                "Get \"http://h:5000/v2/app/manifests/1\": no basic auth credentials",
                "is refused: `h:5000` asks for a login",
                "run `docker login h:5000`",
            ),
            (
                "unauthorized: authentication required",
                "is refused: `h:5000` asks for a login",
                "run `docker login h:5000`",
            ),
            (
                "manifest for h:5000/app:1 not found: manifest unknown: manifest unknown",
                "is not in `h:5000`: there is no such name or tag",
                "look at the name, and at which tags there are",
            ),
            (
                "pull access denied for app, repository does not exist or may require 'docker login'",
                "is not in `h:5000`, or you may not have it",
                "look at the name, or run `docker login h:5000`",
            ),
            (
                "toomanyrequests: You have reached your pull rate limit",
                "is refused: `h:5000` has had too many requests",
                "run `docker login h:5000`",
            ),
            ("something odd", "cannot be pulled: something odd", "try `docker pull` with it"),
        ] {
            assert_eq!(of(said), (why.to_owned(), help.to_owned()));
        }
        let (why, _) = explain("unauthorized: no", &named("h:5000/app:1"), true);
        assert_eq!(why, "is refused: `h:5000` does not accept the login");
        // A port is no status.
        for port in ["5000", "42900"] {
            let said = format!(
                "Get \"http://h:{port}/v2/\": dial tcp h:{port}: connect: connection refused"
            );
            let (why, _) = of(&said);
            assert!(why.starts_with("cannot be pulled: `h:5000` cannot be reached"), "{why}");
        }
    }

    #[test]
    fn layers_are_counted_with_their_bytes() {
        let mut tally = Tally::new("pulling `a`".to_owned());
        let detail = |current, total| ProgressDetail { current: Some(current), total: Some(total) };
        tally.hear(Some("latest"), Some("Pulling from a"), None);
        tally.hear(Some("1"), Some("Already exists"), None);
        tally.hear(Some("2"), Some("Downloading"), Some(&detail(512, 2048)));
        tally.hear(Some("3"), Some("Waiting"), None);
        tally.hear(None, Some("Digest: sha256:1"), None);
        assert_eq!(tally.bar(), format!("[{}{}] ", "#".repeat(6), "·".repeat(18)));
        let words = tally.words(Duration::from_secs(2));
        assert_eq!(
            words,
            format!("1 of 3 layers, {} of {}, {}/s", bytes(512), bytes(2048), bytes(256))
        );
        assert_eq!(tally.due(), None, "the first line is not said at once");
        tally.hear(Some("2"), Some("Pull complete"), None);
        tally.hear(Some("3"), Some("Pull complete"), None);
        let end = tally.end("pulled `a`");
        assert!(
            end.starts_with(&format!("pulled `a`: 2 new layers, {} in ", bytes(2048))),
            "{end}"
        );
    }
}
