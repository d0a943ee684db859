//! An artifact's manifest: JSON lines, sorted by path, canonical, so that its digest is the artifact's.
//!
//! ```text
//! {"path":"model/weights.bin","kind":"file","exec":false,"size":1024,"digest":"b3:…"}
//! {"path":"model/old","kind":"folder"}
//! {"path":"model/latest","kind":"link","target":"weights.bin"}
//! ```
//!
//! A manifest that decodes is safe to place: plain relative paths, every parent a folder of the same artifact, no link that leaves it.

use std::borrow::Cow;
use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Entry, EntryKind};
use crate::digest::Digest;

/// Links followed at most while a link is resolved; as the kernel does.
const MOST_LINKS: usize = 40;

/// A line of a manifest. The order of its fields is part of every artifact's digest.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    path: Cow<'a, str>,
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exec: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    target: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Kind {
    File,
    Folder,
    Link,
}

/// Bytes that are no manifest.
#[expect(missing_docs, reason = "the doc of a variant names its fields")]
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// No JSON, or not the fields of its kind.
    #[error("line {line} of the manifest cannot be read")]
    Line { line: usize },
    /// Not sorted, a path that is not plain, or below something that is no folder.
    #[error("`{path}` cannot stand where it does in the manifest")]
    Path { path: String },
    /// A link that leaves the artifact.
    #[error("`{path}` {why}")]
    Link { path: String, why: String },
}

/// The manifest of entries that are sorted by path.
pub fn encode(entries: &[Entry]) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::with_capacity(entries.len() * 160);
    for entry in entries {
        let path = Cow::Borrowed(entry.path.as_str());
        let bare = |kind| Line { path, kind, exec: None, size: None, digest: None, target: None };
        let line = match &entry.kind {
            EntryKind::File { digest, size, exec } => Line {
                exec: Some(*exec),
                size: Some(*size),
                digest: Some(*digest),
                ..bare(Kind::File)
            },
            EntryKind::Folder => bare(Kind::Folder),
            EntryKind::Link { target } => {
                Line { target: Some(Cow::Borrowed(target)), ..bare(Kind::Link) }
            }
        };
        serde_json::to_writer(&mut bytes, &line)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// The entries of a manifest, each checked as the module says.
pub fn decode(bytes: &[u8]) -> Result<Vec<Entry>, ManifestError> {
    let mut entries: Vec<Entry> = Vec::new();
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    for (index, line) in lines.enumerate() {
        let unreadable = ManifestError::Line { line: index + 1 };
        let Some(line) = line.strip_suffix(b"\n") else { return Err(unreadable) };
        let Some(entry) = serde_json::from_slice(line).ok().and_then(entry_of) else {
            return Err(unreadable);
        };
        if !fits(&entries, &entry) {
            return Err(ManifestError::Path { path: entry.path });
        }
        entries.push(entry);
    }
    if let Some((path, why)) = leaving_link(&entries) {
        return Err(ManifestError::Link { path: path.to_owned(), why });
    }
    Ok(entries)
}

fn entry_of(line: Line<'_>) -> Option<Entry> {
    let kind = match (line.kind, line.exec, line.size, line.digest, line.target) {
        (Kind::File, Some(exec), Some(size), Some(digest), None) => {
            EntryKind::File { digest, size, exec }
        }
        (Kind::Folder, None, None, None, None) => EntryKind::Folder,
        (Kind::Link, None, None, None, Some(target)) => {
            EntryKind::Link { target: target.into_owned() }
        }
        _ => return None,
    };
    Some(Entry { path: line.path.into_owned(), kind })
}

fn fits(before: &[Entry], entry: &Entry) -> bool {
    if entry.path.is_empty() {
        // The artifact is this one file.
        return before.is_empty() && matches!(entry.kind, EntryKind::File { .. });
    }
    let plain =
        entry.path.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'));
    let sorted = before.last().is_none_or(|last| last.path < entry.path && !last.path.is_empty());
    let in_folder = entry.path.rsplit_once('/').is_none_or(|(parent, _)| {
        find(before, parent).is_some_and(|kind| matches!(kind, EntryKind::Folder))
    });
    plain && sorted && in_folder
}

fn find<'a>(entries: &'a [Entry], path: &str) -> Option<&'a EntryKind> {
    let index = entries.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok()?;
    Some(&entries[index].kind)
}

/// The first link of sorted `entries` that leads out of the artifact, and why it may not be stored.
///
/// Links on the way are followed, so that no detour through a linked folder gets out. A link to nothing inside may stay.
pub(super) fn leaving_link(entries: &[Entry]) -> Option<(&str, String)> {
    entries.iter().find_map(|entry| match &entry.kind {
        EntryKind::Link { target } => {
            let why = leaves(entries, &entry.path, target)?;
            Some((entry.path.as_str(), why))
        }
        _ => None,
    })
}

fn leaves(entries: &[Entry], link: &str, target: &str) -> Option<String> {
    let mut place: Vec<&str> = link.split('/').collect();
    place.pop();
    let mut rest: VecDeque<&str> = VecDeque::new();
    let mut pending = Some(target);
    let mut followed = 0;
    loop {
        if let Some(target) = pending.take() {
            if target.starts_with('/') || target.is_empty() {
                return Some(format!("is a link to `{target}`, which is not inside the output"));
            }
            target.split('/').rev().for_each(|part| rest.push_front(part));
        }
        match rest.pop_front()? {
            "" | "." => {}
            ".." => {
                if place.pop().is_none() {
                    return Some(format!("is a link to `{target}`, which leaves the output"));
                }
            }
            part => {
                place.push(part);
                if let Some(EntryKind::Link { target }) = find(entries, &place.join("/")) {
                    followed += 1;
                    if followed > MOST_LINKS {
                        return Some("is a link that leads back to itself".to_owned());
                    }
                    place.pop();
                    pending = Some(target);
                }
            }
        }
    }
}

/// Whether the artifact is one file.
pub fn is_file(entries: &[Entry]) -> bool {
    entries.first().is_some_and(|entry| entry.path.is_empty())
}

/// Bytes of all files of an artifact.
pub fn bytes(entries: &[Entry]) -> u64 {
    files(entries).map(|(_, size)| size).sum()
}

/// Digest and size of each file of an artifact, with repeats.
pub fn files(entries: &[Entry]) -> impl Iterator<Item = (Digest, u64)> + '_ {
    entries.iter().filter_map(|entry| match &entry.kind {
        EntryKind::File { digest, size, .. } => Some((*digest, *size)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> Entry {
        let kind = EntryKind::File { digest: Digest::of(b"x"), size: 1, exec: false };
        Entry { path: path.to_owned(), kind }
    }

    fn folder(path: &str) -> Entry {
        Entry { path: path.to_owned(), kind: EntryKind::Folder }
    }

    fn link(path: &str, target: &str) -> Entry {
        Entry { path: path.to_owned(), kind: EntryKind::Link { target: target.to_owned() } }
    }

    #[test]
    fn text_and_back() {
        let entries = vec![
            folder("a"),
            file("a b\n\"\\\u{1f600}"),
            file("a/x"),
            link("l", "a/x"),
            folder("z"),
        ];
        let bytes = encode(&entries).unwrap();
        assert_eq!(decode(&bytes).unwrap(), entries);
        assert_eq!(decode(b"").unwrap(), vec![]);
        let alone = vec![file("")];
        assert!(is_file(&alone));
        assert_eq!(decode(&encode(&alone).unwrap()).unwrap(), alone);
    }

    #[test]
    fn the_form_is_fixed() {
        let text = String::from_utf8(encode(&[folder("d"), file("e")]).unwrap()).unwrap();
        let digest = Digest::of(b"x");
        assert_eq!(
            text,
            format!(
                "{{\"path\":\"d\",\"kind\":\"folder\"}}\n{{\"path\":\"e\",\"kind\":\"file\",\"exec\":false,\"size\":1,\"digest\":\"{digest}\"}}\n"
            )
        );
    }

    #[test]
    fn hostile_manifests_are_refused() {
        for entries in [
            vec![file("../x")],
            vec![file("/etc/passwd")],
            vec![file("a//b")],
            vec![file("b"), file("a")],
            vec![file("a"), file("a")],
            vec![file(""), file("a")],
            vec![file("a/b")],
            vec![file("a"), file("a/b")],
            vec![link("a", "."), file("a/b")],
            vec![link("a", "/etc")],
            vec![folder("")],
        ] {
            assert!(decode(&encode(&entries).unwrap()).is_err(), "{entries:?}");
        }
        let whole = encode(&[file("a")]).unwrap();
        assert!(decode(&whole[..whole.len() - 1]).is_err());
        assert!(decode(b"{\"path\":\"a\",\"kind\":\"file\"}\n").is_err());
    }

    #[test]
    fn links_stay_inside() {
        let inside = [
            folder("a"),
            link("a/up", ".."),
            link("b", "a/./up/a"),
            link("c", "nothing/here"),
            link("d", "."),
        ];
        assert_eq!(leaving_link(&inside), None);
        let out = [
            vec![link("a", "..")],
            vec![link("a", "b/../../c")],
            vec![folder("a"), link("a/up", ".."), link("b", "a/up/../x")],
            vec![link("a", "b"), link("b", "a")],
            vec![link("a", "a")],
        ];
        for entries in out {
            assert!(leaving_link(&entries).is_some(), "{entries:?}");
        }
    }
}
