//! What is changed in the headers of requests and answers: fields of one connection stay on it (RFC 9110 §7.6.1), and what the
//! backend is told about the client is never the client's own word.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// What the backend is told about the client.
pub(super) struct Told<'a> {
    pub(super) client: HeaderValue,
    /// As it was asked for; none only in HTTP/1.0.
    pub(super) host: Option<HeaderValue>,
    /// What was taken from the path; empty for nothing.
    pub(super) prefix: &'a str,
}

/// How the body of a request is framed on the backend's connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// By `Content-Length`, or there is none.
    Length,
    /// In chunks.
    Chunked,
}

/// Makes the headers of a client's request those of the gateway's request.
pub(super) fn to_backend(
    headers: &mut HeaderMap,
    told: Told<'_>,
    framing: Framing,
    websocket: bool,
) {
    let trailers = takes_trailers(headers);
    strip_connection(headers);
    strip(headers, |name| is_of_request_connection(name) || is_claim(name));
    if framing == Framing::Chunked {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if websocket {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    } else if trailers {
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    headers.insert(FORWARDED_FOR, told.client);
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    if let Ok(prefix) = HeaderValue::from_str(told.prefix)
        && !prefix.is_empty()
    {
        headers.insert(FORWARDED_PREFIX, prefix);
    }
    if let Some(host) = told.host {
        headers.insert(FORWARDED_HOST, host.clone());
        headers.insert(HOST, host);
    } else {
        // HTTP/1.1, which is what the backend gets, needs one.
        headers.insert(HOST, HeaderValue::from_static("localhost"));
    }
}

/// Makes the headers of a backend's answer those of the gateway's answer.
pub(super) fn to_client(headers: &mut HeaderMap, websocket: bool) {
    strip_connection(headers);
    strip(headers, is_of_answer_connection);
    if websocket {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
}

/// Removes what `Connection` names. What a message is framed and addressed by cannot be named away.
fn strip_connection(headers: &mut HeaderMap) {
    if !headers.contains_key(CONNECTION) {
        return;
    }
    let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .filter(|name| ![HOST, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
}

fn strip(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    // Nearly every message has few of them or none.
    let found: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name)).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

fn is_of_any_connection(name: &HeaderName) -> bool {
    [CONNECTION, TRANSFER_ENCODING, UPGRADE].contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// `Expect` is answered here: the backend gets the body when the client sends it. `Proxy` would become `HTTP_PROXY` behind CGI.
fn is_of_request_connection(name: &HeaderName) -> bool {
    is_of_any_connection(name)
        || [TE, EXPECT, PROXY_AUTHORIZATION].contains(name)
        || matches!(name.as_str(), "http2-settings" | "proxy")
}

fn is_of_answer_connection(name: &HeaderName) -> bool {
    is_of_any_connection(name) || *name == PROXY_AUTHENTICATE
}

/// What only a proxy may say. Servers of the CGI and WSGI kind take `_` for `-`.
fn is_claim(name: &HeaderName) -> bool {
    let claimed = |name: &str| {
        name.starts_with("x-forwarded-")
            || matches!(name, "forwarded" | "x-real-ip" | "x-forwarded")
    };
    let name = name.as_str();
    if name.contains('_') { claimed(&name.replace('_', "-")) } else { claimed(name) }
}

fn takes_trailers(headers: &HeaderMap) -> bool {
    tokens(headers, &TE).any(|token| token.eq_ignore_ascii_case("trailers"))
}

/// The elements of a list field, of all its lines.
pub(super) fn tokens<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a str> + use<'a> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn listed(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        lines
    }

    fn told(prefix: &str) -> Told<'_> {
        Told {
            client: HeaderValue::from_static("10.0.0.9"),
            host: Some(HeaderValue::from_static("example.com")),
            prefix,
        }
    }

    #[test]
    fn fields_of_the_connection_stay_on_it() {
        let mut headers = map(&[
            ("connection", "keep-alive, X-Secret"),
            ("connection", "host, content-length, transfer-encoding"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic x"),
            ("te", "gzip"),
            ("expect", "100-continue"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("host", "example.com"),
            ("content-length", "5"),
            ("authorization", "Bearer x"),
        ]);
        to_backend(&mut headers, told(""), Framing::Length, false);
        assert_eq!(
            listed(&headers),
            [
                "authorization: Bearer x",
                "content-length: 5",
                "host: example.com",
                "x-forwarded-for: 10.0.0.9",
                "x-forwarded-host: example.com",
                "x-forwarded-proto: http",
            ]
        );
    }

    #[test]
    fn claims_are_overwritten() {
        let mut headers = map(&[
            ("connection", "x-forwarded-for"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-for", "5.6.7.8"),
            ("x_forwarded_for", "1.2.3.4"),
            ("x-forwarded-prefix", "/admin"),
            ("x-forwarded-port", "1"),
            ("forwarded", "for=1.2.3.4"),
            ("x-real-ip", "1.2.3.4"),
            ("x-real_ip", "1.2.3.4"),
            ("x_custom", "kept"),
        ]);
        to_backend(&mut headers, told("/iris"), Framing::Chunked, false);
        assert_eq!(
            listed(&headers),
            [
                "host: example.com",
                "transfer-encoding: chunked",
                "x-forwarded-for: 10.0.0.9",
                "x-forwarded-host: example.com",
                "x-forwarded-prefix: /iris",
                "x-forwarded-proto: http",
                "x_custom: kept",
            ]
        );
    }

    #[test]
    fn trailers_and_websockets_are_asked_for_anew() {
        let mut headers = map(&[("te", "deflate, Trailers")]);
        to_backend(&mut headers, told(""), Framing::Length, false);
        assert_eq!(
            (&headers[CONNECTION], &headers[TE]),
            (&HeaderValue::from_static("te"), &HeaderValue::from_static("trailers"))
        );
        let mut headers = map(&[("connection", "Upgrade"), ("upgrade", "WebSocket")]);
        to_backend(&mut headers, told(""), Framing::Length, true);
        assert_eq!(
            (&headers[CONNECTION], &headers[UPGRADE]),
            (&HeaderValue::from_static("upgrade"), &HeaderValue::from_static("websocket"))
        );
    }

    #[test]
    fn answers_lose_what_is_of_the_backends_connection() {
        let mut headers = map(&[
            ("connection", "close, x-trace"),
            ("x-trace", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("trailer", "x-sum"),
        ]);
        to_client(&mut headers, false);
        assert_eq!(listed(&headers), ["set-cookie: a=1", "set-cookie: b=2", "trailer: x-sum"]);
    }
}
