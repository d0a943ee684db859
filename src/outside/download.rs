//! A file from a web server: asked for, gone on with when it is cut, until all of it is here.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, RANGE,
};
use reqwest::{RequestBuilder, Response, StatusCode};

use super::login::with_login;
use super::part::Part;
use super::progress::Progress;
use super::trouble::Trouble;
use super::web::{Web, failed, refused, version_of};
use super::{Got, Patience, Version};
use crate::address::Address;
use crate::secret::SecretText;
use crate::store::Traffic;
use crate::words::{bytes, duration, millis};

/// What is asked, and with which login.
pub(super) struct Source<'a> {
    /// The client.
    pub(super) web: &'a Web,
    /// Where.
    pub(super) address: &'a Address,
    /// Sent along as a bearer token.
    pub(super) token: Option<&'a SecretText>,
}

impl Source<'_> {
    /// Bytes as they are: a compressed body would have another digest.
    fn ask(&self) -> RequestBuilder {
        let request = self.web.client.get(self.address.url().clone());
        with_login(request.header(ACCEPT_ENCODING, "identity"), self.web, self.address, self.token)
    }
}

/// No pause between two tries is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Fetches it, unless it still is what it was `before`.
///
/// A try that brings more than all before it is no failure, however often that happens; so a bad line is worked through, and a server that
/// always stops at one place is given up.
pub(super) async fn download(
    source: &Source<'_>,
    before: Option<&Version>,
    part: &mut Part,
    progress: &mut Progress<'_>,
    traffic: &Traffic,
) -> Result<Got, Trouble> {
    let mut tries = Tries::new(source.web.patience);
    let mut most = part.here;
    loop {
        let trouble = match once(source, before, part, progress, traffic).await {
            Ok(got) => return Ok(got),
            Err(trouble) => trouble,
        };
        if part.here > most {
            most = part.here;
            tries.begin_again();
        }
        let Trouble::Source { why, passes: true, wait, .. } = &trouble else { return Err(trouble) };
        let Some(pause) = tries.next(*wait) else { return Err(trouble) };
        progress.waits(&format!("it {why}; tries again in {}", duration(millis(pause))));
        tokio::time::sleep(pause).await;
    }
}

/// Asks whether the address still holds this version. Asked with GET, since a signed address is good for nothing else; the body of an
/// answer is not read.
pub(super) async fn is_same(source: &Source<'_>, version: &Version) -> Result<bool, Trouble> {
    let mut tries = Tries::new(source.web.patience);
    loop {
        let trouble = match ask_same(source, version).await {
            Ok(same) => return Ok(same),
            Err(trouble) => trouble,
        };
        let Trouble::Source { passes: true, wait, .. } = &trouble else { return Err(trouble) };
        let Some(pause) = tries.next(*wait) else { return Err(trouble) };
        tokio::time::sleep(pause).await;
    }
}

async fn ask_same(source: &Source<'_>, version: &Version) -> Result<bool, Trouble> {
    let request = unless(source.ask(), version);
    let answer = request.send().await.map_err(|error| failed(&error, &source.web.patience))?;
    match answer.status() {
        StatusCode::NOT_MODIFIED => Ok(true),
        StatusCode::OK => Ok(version_of(answer.headers()).is(version)),
        status => Err(refused(status, answer.headers())),
    }
}

/// One request, and all that comes of it.
async fn once(
    source: &Source<'_>,
    before: Option<&Version>,
    part: &mut Part,
    progress: &mut Progress<'_>,
    traffic: &Traffic,
) -> Result<Got, Trouble> {
    let request = source.ask();
    let (goes_on, request) = match (part.goes_on(), before) {
        (Some((from, validator)), _) => {
            (true, request.header(RANGE, format!("bytes={from}-")).header(IF_RANGE, validator))
        }
        (None, Some(version)) => (false, unless(request, version)),
        (None, None) => (false, request),
    };
    let answer = request.send().await.map_err(|error| failed(&error, &source.web.patience))?;
    let version = version_of(answer.headers());
    match answer.status() {
        StatusCode::NOT_MODIFIED if before.is_some() && !goes_on => return Ok(Got::Unchanged),
        StatusCode::PARTIAL_CONTENT if goes_on => rest_of(part, answer.headers(), &version)?,
        // The source changed since, or its server gives no parts of it.
        StatusCode::OK => {
            if before.is_some_and(|before| version.is(before)) {
                part.forget()?;
                return Ok(Got::Unchanged);
            }
            part.restart(version, length_of(answer.headers()))?;
        }
        StatusCode::RANGE_NOT_SATISFIABLE if goes_on => {
            part.forget()?;
            return Err(changed());
        }
        status => return Err(refused(status, answer.headers())),
    }
    read(source.web, answer, part, progress, traffic).await?;
    let version = part.version().clone();
    let (path, hashes) = part.finish()?;
    Ok(Got::Fetched { path, version, hashes: Some(hashes) })
}

/// Reads the body to its end.
async fn read(
    web: &Web,
    mut answer: Response,
    part: &mut Part,
    progress: &mut Progress<'_>,
    traffic: &Traffic,
) -> Result<(), Trouble> {
    loop {
        let chunk = answer.chunk().await.map_err(|error| cut(&error, part, &web.patience))?;
        let Some(chunk) = chunk else { break };
        part.write(&chunk)?;
        let came = chunk.len() as u64;
        traffic.receive(came);
        progress.moved(came, part.here, part.total);
    }
    match part.total {
        Some(total) if total != part.here => Err(short(part.here, total)),
        _ => Ok(()),
    }
}

fn cut(error: &reqwest::Error, part: &Part, patience: &Patience) -> Trouble {
    match part.total {
        Some(total) if !error.is_timeout() => short(part.here, total),
        _ => failed(error, patience),
    }
}

fn short(here: u64, total: u64) -> Trouble {
    Trouble::passing(
        format!("was cut off after {} of {}", bytes(here), bytes(total)),
        "go on with `flowrun resume`: what has come is kept",
    )
}

/// Sees to it that an answer is the rest of what is here.
fn rest_of(part: &mut Part, headers: &HeaderMap, version: &Version) -> Result<(), Trouble> {
    let range = headers.get(CONTENT_RANGE).and_then(|value| range_of(value.to_str().ok()?));
    let same_version = version.is_empty() || version.is(part.version());
    let fits = range.is_some_and(|(from, total)| {
        from == part.here && (total.is_none() || part.total.is_none() || total == part.total)
    });
    if fits && same_version {
        return Ok(());
    }
    part.forget()?;
    Err(changed())
}

/// `bytes 5-9/10` → 5 and 10.
fn range_of(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, _) = range.split_once('-')?;
    Some((from.parse().ok()?, total.parse().ok()))
}

fn changed() -> Trouble {
    Trouble::passing("changed while it was fetched", "try again later with `flowrun resume`")
}

fn unless(request: RequestBuilder, version: &Version) -> RequestBuilder {
    match (&version.etag, &version.modified) {
        (Some(etag), _) => request.header(IF_NONE_MATCH, etag),
        (None, Some(modified)) => request.header(IF_MODIFIED_SINCE, modified),
        (None, None) => request,
    }
}

fn length_of(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Tries in a row that bring nothing, and the pauses between them.
struct Tries {
    patience: Patience,
    made: u32,
}

impl Tries {
    fn new(patience: Patience) -> Self {
        Self { patience, made: 1 }
    }

    fn begin_again(&mut self) {
        self.made = 1;
    }

    /// The pause before the next try, if there is one: doubled each time, with up to a quarter more, so that many do not come back at once.
    fn next(&mut self, asked: Option<Duration>) -> Option<Duration> {
        if self.made >= self.patience.tries {
            return None;
        }
        let doubled = self.patience.pause.saturating_mul(1 << (self.made - 1).min(16));
        self.made += 1;
        let pause = asked.unwrap_or_default().max(doubled.min(LONGEST_PAUSE));
        let quarter = millis(pause) / 4;
        let more = RandomState::new().hash_one(self.made) % (quarter + 1);
        Some(pause + Duration::from_millis(more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_inside_a_bound() {
        let pause = Duration::from_secs(1);
        let patience = Patience { tries: 4, pause, ..Patience::default() };
        let mut tries = Tries::new(patience);
        let mut next = |asked| tries.next(asked).map(|pause| pause.as_millis());
        assert!((1000..=1250).contains(&next(None).unwrap()));
        assert!((2000..=2500).contains(&next(None).unwrap()));
        assert!((9000..=11250).contains(&next(Some(Duration::from_secs(9))).unwrap()));
        assert_eq!(next(None), None);
    }

    #[test]
    fn ranges_are_read() {
        assert_eq!(range_of("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(range_of("bytes 5-9/*"), Some((5, None)));
        assert_eq!(range_of("bytes */10"), None);
    }
}
