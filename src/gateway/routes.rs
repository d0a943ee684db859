//! Path prefix → pool.

use std::sync::Arc;

use http::Uri;
use http::uri::PathAndQuery;
use hyper::body::Bytes;

use super::pool::Pool;

/// All routes, the longest first.
#[derive(Default)]
pub(super) struct Routes(Vec<(String, Arc<Pool>)>);

/// Where a path leads.
pub(super) struct Destination {
    pub(super) pool: Arc<Pool>,
    /// What is taken from the path; empty for the route `/`.
    pub(super) prefix: String,
}

impl Routes {
    /// `/iris/` is the same as `/iris`.
    pub(super) fn new(routes: impl Iterator<Item = (String, Arc<Pool>)>) -> Self {
        let mut routes: Vec<_> =
            routes.map(|(prefix, pool)| (prefix.trim_end_matches('/').to_owned(), pool)).collect();
        routes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Self(routes)
    }

    /// Paths are compared as they were sent: nothing is decoded and no `..` is followed, so what is routed is what is forwarded.
    pub(super) fn find(&self, path: &str) -> Option<Destination> {
        self.0
            .iter()
            .find(|(prefix, _)| {
                path.strip_prefix(prefix.as_str()).is_some_and(|rest| {
                    rest.is_empty() || rest.starts_with('/') || prefix.is_empty()
                })
            })
            .map(|(prefix, pool)| Destination { pool: pool.clone(), prefix: prefix.clone() })
    }
}

/// The target for the backend: path and query without the prefix, byte for byte otherwise.
pub(super) fn without_prefix(uri: Uri, prefix: &str) -> Option<Uri> {
    if prefix.is_empty() && uri.authority().is_none() {
        return Some(uri);
    }
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let rest = target.strip_prefix(prefix)?;
    let slash = if rest.starts_with('/') || rest == "*" { "" } else { "/" };
    PathAndQuery::from_maybe_shared(Bytes::from([slash, rest].concat())).ok().map(Uri::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(routes: &[&str], path: &str) -> Option<String> {
        let pool = |name: &str| (name.to_owned(), Arc::new(Pool::new(name)));
        let routes = Routes::new(routes.iter().map(|name| pool(name)));
        routes.find(path).map(|found| found.pool.name().to_owned())
    }

    #[test]
    fn the_longest_whole_segments_win() {
        let routes = ["/iris", "/iris/v2", "/ir"];
        for (path, wanted) in [
            ("/iris", Some("/iris")),
            ("/iris/", Some("/iris")),
            ("/iris/v2", Some("/iris/v2")),
            ("/iris/v2/x", Some("/iris/v2")),
            ("/iris/v22", Some("/iris")),
            ("/ir/x", Some("/ir")),
            ("/irises", None),
            ("/", None),
            ("/%69ris", None),
            ("*", None),
        ] {
            assert_eq!(lead(&routes, path).as_deref(), wanted, "{path}");
        }
        assert_eq!(lead(&["/", "/iris"], "/other").as_deref(), Some("/"));
        assert_eq!(lead(&["/", "/iris"], "*").as_deref(), Some("/"));
        assert_eq!(lead(&["/iris/"], "/iris/x").as_deref(), Some("/iris/"));
    }

    #[test]
    fn only_the_prefix_is_taken() {
        for (uri, prefix, wanted) in [
            ("/iris", "/iris", "/"),
            ("/iris?a=1", "/iris", "/?a=1"),
            ("/iris/predict?a=/iris", "/iris", "/predict?a=/iris"),
            ("/iris//evil.example/x", "/iris", "//evil.example/x"),
            ("/iris/..%2f..%2Fetc?", "/iris", "/..%2f..%2Fetc?"),
            ("/a/../b", "", "/a/../b"),
            ("http://example.com/iris/x?y", "/iris", "/x?y"),
            ("http://example.com", "", "/"),
            ("*", "", "*"),
        ] {
            let found = without_prefix(uri.parse().unwrap(), prefix).unwrap();
            assert_eq!(found.to_string(), wanted, "{uri}");
        }
    }
}
