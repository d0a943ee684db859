//! A server that keeps objects in memory, and says of each how old a test wants it to be.

use std::collections::BTreeMap;

use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};

use super::server::{Asked, Reply, Then, answer, error};

/// Objects by their names below the store's prefix.
#[derive(Debug, Default)]
pub(in crate::store::s3) struct Memory {
    pub(in crate::store::s3) objects: BTreeMap<String, Kept>,
    writes: u64,
    /// What the server's clock says, Unix milliseconds.
    pub(in crate::store::s3) now: u64,
}

/// An object.
#[derive(Debug, Clone)]
pub(in crate::store::s3) struct Kept {
    pub(in crate::store::s3) bytes: Vec<u8>,
    pub(in crate::store::s3) modified: u64,
    etag: String,
}

impl Memory {
    /// Of a server with this time.
    pub(in crate::store::s3) fn at(now: u64) -> Self {
        Self { now, ..Self::default() }
    }

    pub(in crate::store::s3) fn put(&mut self, name: &str, bytes: &[u8]) -> String {
        self.writes += 1;
        let etag = format!("e{}", self.writes);
        let kept = Kept { bytes: bytes.to_vec(), modified: self.now, etag: etag.clone() };
        self.objects.insert(name.to_owned(), kept);
        etag
    }

    /// Answers as S3 does.
    pub(in crate::store::s3) fn answer(&mut self, asked: &Asked) -> Reply {
        let (method, path) = asked.line.split_once(' ').unwrap();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let name = path.strip_prefix("/team/models/").unwrap_or_default().to_owned();
        let is_list = query.contains("list-type=2");
        match method {
            "GET" if is_list => self.list(query),
            "GET" if query.contains("uploads") => {
                answer(200, "", b"<ListMultipartUploadsResult></ListMultipartUploadsResult>")
            }
            "GET" | "HEAD" => match self.objects.get(&name) {
                Some(kept) => kept.given(asked, method == "HEAD"),
                None => error(404, "NoSuchKey"),
            },
            "PUT" => self.written(&name, asked),
            "DELETE" => {
                self.objects.remove(&name);
                answer(204, "", b"")
            }
            "POST" => {
                for name in named(asked) {
                    self.objects.remove(&name);
                }
                answer(200, "", b"<DeleteResult></DeleteResult>")
            }
            _ => error(418, "NotExpected"),
        }
    }

    fn written(&mut self, name: &str, asked: &Asked) -> Reply {
        if asked.header("x-amz-copy-source").is_some() {
            let Some(kept) = self.objects.get(name) else { return error(404, "NoSuchKey") };
            let bytes = kept.bytes.clone();
            self.put(name, &bytes);
            return answer(200, "", b"<CopyObjectResult><ETag>e</ETag></CopyObjectResult>");
        }
        let there = self.objects.get(name).map(|kept| format!("\"{}\"", kept.etag));
        let fits = match (asked.header("if-none-match"), asked.header("if-match")) {
            (Some(_), _) => there.is_none(),
            (None, Some(etag)) => there.as_deref() == Some(etag),
            (None, None) => true,
        };
        if !fits {
            return error(412, "PreconditionFailed");
        }
        let etag = self.put(name, &asked.body);
        answer(200, &format!("etag: \"{etag}\""), b"")
    }

    fn list(&self, query: &str) -> Reply {
        let prefix = query.split('&').find_map(|part| part.strip_prefix("prefix=")).unwrap();
        let prefix = prefix.replace("%2F", "/");
        let prefix = prefix.strip_prefix("models/").unwrap();
        let mut text = String::new();
        let found = self.objects.iter().filter(|(name, _)| name.starts_with(prefix));
        let mut count = 0;
        for (name, kept) in found {
            count += 1;
            let (size, time) = (kept.bytes.len(), date(kept.modified, DateTimeFormat::DateTime));
            text.push_str(&format!(
                "<Contents><Key>models/{name}</Key><Size>{size}</Size><LastModified>{time}</LastModified></Contents>"
            ));
        }
        let text = format!(
            "<ListBucketResult><KeyCount>{count}</KeyCount><IsTruncated>false</IsTruncated>{text}</ListBucketResult>"
        );
        answer(200, "", text.as_bytes())
    }
}

impl Kept {
    fn given(&self, asked: &Asked, is_head: bool) -> Reply {
        let time = date(self.modified, DateTimeFormat::HttpDate);
        let mut head = format!("etag: \"{}\"\nlast-modified: {time}", self.etag);
        let mut reply = match asked.range() {
            Some((first, last)) => {
                let last = last.min(self.bytes.len() - 1);
                head.push_str(&format!(
                    "\ncontent-range: bytes {first}-{last}/{}",
                    self.bytes.len()
                ));
                answer(206, &head, &self.bytes[first..=last])
            }
            None => answer(200, &head, &self.bytes),
        };
        if is_head {
            reply.bytes.truncate(reply.bytes.len() - self.bytes.len());
        }
        reply.then = Then::Stay;
        reply
    }
}

/// The objects that one request removes.
pub(in crate::store::s3) fn named(asked: &Asked) -> Vec<String> {
    let text = String::from_utf8_lossy(&asked.body).into_owned();
    let keys = text.split("<Key>models/").skip(1);
    keys.map(|rest| rest.split('<').next().unwrap().to_owned()).collect()
}

fn date(millis: u64, format: DateTimeFormat) -> String {
    DateTime::from_millis(i64::try_from(millis).unwrap()).fmt(format).unwrap()
}
