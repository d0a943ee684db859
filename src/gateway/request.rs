//! What makes a request one that can be forwarded. hyper has read it; here is refused what another reader could read in another way.

use http::header::{HOST, TRANSFER_ENCODING, UPGRADE};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, Version};

use super::headers::{Framing, tokens};
use super::refusal::Refusal;

/// What the checks found.
pub(super) struct Checked {
    pub(super) host: Option<HeaderValue>,
    pub(super) framing: Framing,
    /// It asks for a WebSocket; every other upgrade is left out when it is forwarded.
    pub(super) websocket: bool,
}

/// Errors: 400, with the reason.
pub(super) fn check<B>(request: &Request<B>) -> Result<Checked, Refusal> {
    if *request.method() == Method::CONNECT {
        return Err(Refusal::Request("`CONNECT` is not offered"));
    }
    if !is_target(request) {
        return Err(Refusal::Request("the target is neither a path nor a URL"));
    }
    Ok(Checked {
        host: host(request)?,
        framing: framing(request.headers())?,
        websocket: asks_for_websocket(request),
    })
}

/// A path, an `http` URL, or `*` of `OPTIONS` (RFC 9112 §3.2).
fn is_target<B>(request: &Request<B>) -> bool {
    let uri = request.uri();
    match (uri.scheme(), uri.authority()) {
        (None, None) => {
            uri.path().starts_with('/')
                || (uri.path() == "*" && request.method() == Method::OPTIONS)
        }
        (Some(scheme), Some(_)) => *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS,
        _ => false,
    }
}

/// The authority of an absolute target, else the one `Host` (RFC 9112 §3.2).
fn host<B>(request: &Request<B>) -> Result<Option<HeaderValue>, Refusal> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Refusal::Request("more than one `Host`"));
    }
    if first.is_none() && request.version() == Version::HTTP_11 {
        return Err(Refusal::Request("no `Host`"));
    }
    let host = match request.uri().authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => first.cloned(),
    };
    if host.as_ref().is_some_and(|host| !host.as_bytes().iter().all(|byte| is_of_host(*byte))) {
        return Err(Refusal::Request("`Host` is no host"));
    }
    Ok(host)
}

/// Of a name, an address or a port: no user, path or list.
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+;=".contains(&byte)
}

fn framing(headers: &HeaderMap) -> Result<Framing, Refusal> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(Framing::Length),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            Ok(Framing::Chunked)
        }
        _ => Err(Refusal::Request("`Transfer-Encoding` other than `chunked`")),
    }
}

fn asks_for_websocket<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && headers
            .get(UPGRADE)
            .is_some_and(|wanted| wanted.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && tokens(headers, &http::header::CONNECTION)
            .any(|token| token.eq_ignore_ascii_case("upgrade"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, lines: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri(target);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn one_host_is_needed() {
        let host = |target: &str, lines: &[(&str, &str)]| {
            host(&request(target, lines))
                .ok()
                .map(|host| host.unwrap().to_str().unwrap().to_owned())
        };
        assert_eq!(host("/", &[("host", "a:8080")]).as_deref(), Some("a:8080"));
        assert_eq!(host("/", &[("host", "[::1]:8080")]).as_deref(), Some("[::1]:8080"));
        assert_eq!(host("http://b/x", &[("host", "a")]).as_deref(), Some("b"));
        assert_eq!(host("http://user@b/x", &[("host", "a")]), None);
        assert_eq!(host("/", &[]), None);
        assert_eq!(host("/", &[("host", "a"), ("host", "a")]), None);
        for bad in ["a b", "a,b", "a/b", "u@a", "a#b", "a?b", "a\\b"] {
            assert_eq!(host("/", &[("host", bad)]), None, "{bad}");
        }
        let mut old = request("/", &[]);
        *old.version_mut() = Version::HTTP_10;
        assert!(matches!(super::host(&old), Ok(None)));
    }

    #[test]
    fn only_plain_chunks_are_taken() {
        let framing = |lines: &[(&str, &str)]| framing(request("/", lines).headers()).ok();
        assert!(framing(&[]) == Some(Framing::Length));
        assert!(framing(&[("transfer-encoding", "Chunked")]) == Some(Framing::Chunked));
        for bad in ["gzip, chunked", "chunked, chunked", "identity", "xchunked", "\"chunked\""] {
            assert!(framing(&[("transfer-encoding", bad)]).is_none(), "{bad}");
        }
        assert!(
            framing(&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")])
                .is_none()
        );
    }

    #[test]
    fn only_websockets_are_upgrades() {
        let asks = |upgrade: &str, connection: &str| {
            asks_for_websocket(&request("/", &[("upgrade", upgrade), ("connection", connection)]))
        };
        assert!(asks("websocket", "keep-alive, Upgrade"));
        assert!(!asks("h2c", "upgrade, http2-settings"));
        assert!(!asks("websocket, h2c", "upgrade"));
        assert!(!asks("websocket", "keep-alive"));
    }
}
