//! The client for `https:` and `http:`, and what its answers and errors mean for people.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use reqwest::header::{HeaderMap, LAST_MODIFIED, RETRY_AFTER};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, StatusCode, Url};
use rustls::{CertificateError, Error as TlsError};

use super::trouble::Trouble;
use super::{OutsideError, Patience, Version};
use crate::address::is_overheard;
use crate::words::{duration, millis};

/// More redirects than this lead nowhere.
const MOST_REDIRECTS: usize = 10;

/// A server that asks for a longer pause is not waited for.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// Everything that one process asks servers with: connections are shared.
pub(super) struct Web {
    pub(super) client: Client,
    pub(super) patience: Patience,
    /// The text of the user's `.netrc`; empty: none.
    pub(super) netrc: String,
}

impl Web {
    /// Reads the certificates of the system (or of `SSL_CERT_FILE`) and the proxies of the environment.
    pub(super) fn new(patience: Patience, netrc: Option<&Path>) -> Result<Self, OutsideError> {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            // Another part of the process may have installed one; any does.
            rustls::crypto::ring::default_provider().install_default().ok();
        });
        let client = Client::builder()
            .user_agent(concat!("flowrun/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(patience.connect)
            .read_timeout(patience.stall)
            .redirect(Policy::custom(follow))
            .referer(false)
            .retry(reqwest::retry::never())
            .build()
            .map_err(|error| {
                let why = innermost(&error).to_string();
                OutsideError::Io(io::Error::other(format!("no HTTPS client can be made: {why}")))
            })?;
        // One that cannot be read is none, as for all other tools.
        let netrc = netrc.and_then(|path| fs_err::read_to_string(path).ok()).unwrap_or_default();
        Ok(Self { client, patience, netrc })
    }
}

/// A redirect that is not followed.
#[derive(Debug, thiserror::Error)]
enum Redirected {
    #[error("leads to an address in the clear, at `{host}`")]
    Clear { host: String },
    #[error("leads from one address to the next without end")]
    TooOften,
}

fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    match not_followed(attempt.previous(), attempt.url()) {
        Some(why) => attempt.error(why),
        None => attempt.follow(),
    }
}

/// Never from https to anything else, and into the clear only from an address that needed a digest for being there.
fn not_followed(before: &[Url], next: &Url) -> Option<Redirected> {
    if before.len() > MOST_REDIRECTS {
        return Some(Redirected::TooOften);
    }
    let was_safe = before.iter().any(|url| url.scheme() == "https");
    let had_no_digest = before.first().is_some_and(|first| !is_overheard(first));
    let worse = was_safe && next.scheme() != "https" || had_no_digest && is_overheard(next);
    worse.then(|| Redirected::Clear { host: next.host_str().unwrap_or_default().to_owned() })
}

/// What the headers of an answer say of its version.
pub(super) fn version_of(headers: &HeaderMap) -> Version {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Version { etag: text(reqwest::header::ETAG), modified: text(LAST_MODIFIED) }
}

/// What it means that a server answered so, and not with the content.
pub(super) fn refused(status: StatusCode, headers: &HeaderMap) -> Trouble {
    let number = status.as_u16();
    let lasting = |why: &str, help: &str| Trouble::lasting(format!("{why} ({number})"), help);
    match number {
        401 => lasting(
            "asks for a login",
            "give the input a `token` from a secret, put a login into `~/.netrc`, or use a signed address or `s3:`",
        ),
        403 => lasting(
            "may not be read",
            "ask its owner for access; if the address is signed, its time may be over",
        ),
        404 | 410 => lasting("is not there", "check the address"),
        407 => {
            lasting("is behind a proxy that asks for a login", "put the login into `HTTPS_PROXY`")
        }
        408 | 425 | 429 | 500 | 502 | 503 | 504 => {
            let seconds =
                headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            Trouble::Source {
                why: format!("cannot be had now: its server answers {number}"),
                help: "try again later with `flowrun resume`".to_owned(),
                passes: true,
                wait: seconds.map(Duration::from_secs).filter(|wait| *wait <= LONGEST_WAIT),
            }
        }
        300..=399 => lasting("is redirected to no address", "check the address with a browser"),
        _ => lasting("is not given out by its server", "check the address with a browser"),
    }
}

/// What a failed request or a cut answer means.
pub(super) fn failed(error: &reqwest::Error, patience: &Patience) -> Trouble {
    let chain: Vec<&(dyn Error + 'static)> = chain(error).collect();
    if let Some(redirected) = chain.iter().find_map(|one| one.downcast_ref::<Redirected>()) {
        let help = "check the address with a browser, and write the one it ends at";
        return Trouble::lasting(redirected.to_string(), help);
    }
    if let Some(tls) = chain.iter().find_map(|one| tls_error(*one)) {
        return of_tls(tls);
    }
    let text = innermost(error).to_string();
    let said = |words: &[&str]| {
        chain.iter().any(|one| words.iter().any(|word| one.to_string().contains(word)))
    };
    let network = "check the address, the network and `HTTPS_PROXY`";
    if said(&["dns error", "failed to lookup address"]) {
        let help = "check the host's name, and the network";
        return if said(&["Temporary failure", "try again"]) {
            Trouble::passing("cannot be reached: names of hosts cannot be looked up", help)
        } else {
            Trouble::lasting("cannot be reached: there is no such host", help)
        };
    }
    let kind = |kind| {
        chain.iter().any(|one| one.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == kind))
    };
    if said(&["tunnel", "proxy"]) {
        return Trouble::passing(format!("cannot be reached through the proxy: {text}"), network);
    }
    if kind(io::ErrorKind::ConnectionRefused) {
        return Trouble::passing("cannot be reached: its server refuses connections", network);
    }
    if error.is_timeout() && error.is_connect() {
        let after = duration(millis(patience.connect));
        return Trouble::passing(format!("cannot be reached: no answer in {after}"), network);
    }
    if error.is_timeout() {
        let after = duration(millis(patience.stall));
        let why = format!("went silent: nothing came for {after}");
        return Trouble::passing(why, "try again later with `flowrun resume`");
    }
    if said(&["handshake"]) {
        let help = "check the address: its server may not speak TLS there";
        return Trouble::passing(format!("cannot be reached: TLS fails: {text}"), help);
    }
    if error.is_connect() {
        return Trouble::passing(format!("cannot be reached: {text}"), network);
    }
    let text =
        if said(&["close_notify"]) { "its server hung up in the middle".into() } else { text };
    Trouble::passing(
        format!("was cut off: {text}"),
        "go on with `flowrun resume`: what has come is kept",
    )
}

fn of_tls(error: &TlsError) -> Trouble {
    let why = |what: &str| format!("cannot be trusted: {what}");
    match error {
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer) => Trouble::lasting(
            why("nobody known has signed the certificate of its server"),
            "if it is a server of your own, name its authority's certificate in `SSL_CERT_FILE`",
        ),
        TlsError::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => Trouble::lasting(
            why("the certificate of its server is out of date"),
            "check this machine's clock, or tell whoever runs that server",
        ),
        TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Trouble::lasting(
            why("the certificate of its server is for another host"),
            "check the host's name in the address",
        ),
        // The verifier hands it on without a name of its own.
        TlsError::InvalidCertificate(CertificateError::Other(other))
            if other.to_string().contains("CaUsedAsEndEntity") =>
        {
            Trouble::lasting(
                why("its server shows the certificate of an authority as its own"),
                "give the server a certificate with `CA:FALSE`; `openssl req -x509` alone makes one of an authority",
            )
        }
        other => Trouble::lasting(
            why(&format!("TLS with its server fails: {other}")),
            "check the address with a browser, and `SSL_CERT_FILE`",
        ),
    }
}

/// The error and what lies behind it, outermost first; also what `io::Error` wraps.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |outer| {
        let outer: &'a (dyn Error + 'static) = *outer;
        match outer.downcast_ref::<io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => outer.source(),
        }
    })
}

fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a TlsError> {
    error.downcast_ref()
}

/// Its words hold no address: those of the errors of the client do.
fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    chain(error).last().unwrap_or(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_nowhere_worse() {
        let leads = |before: &[&str], next: &str| {
            let before: Vec<Url> = before.iter().map(|url| url.parse().unwrap()).collect();
            not_followed(&before, &next.parse().unwrap()).is_none()
        };
        assert!(leads(&["https://a.org/x"], "https://b.org/y"));
        assert!(!leads(&["https://a.org/x"], "http://b.org/y"));
        assert!(!leads(&["https://a.org/x"], "http://127.0.0.1/y"));
        assert!(leads(&["http://127.0.0.1/x"], "http://localhost/y"));
        assert!(!leads(&["http://127.0.0.1/x"], "http://b.org/y"));
        // It has a digest, else it would not have been asked for.
        assert!(leads(&["http://a.org/x"], "http://b.org/y"));
        assert!(leads(&["http://a.org/x"], "https://b.org/y"));
        assert!(!leads(&["http://a.org/x", "https://b.org/y"], "http://c.org/z"));
        assert!(!leads(&["https://a.org/x"; 11], "https://a.org/x"));
    }
}
