//! Symbolic links of a snapshot: none may lead out of it.

use std::collections::HashMap;

use super::blobs::Blobs;
use super::mirror::Mirror;
use super::{Mode, SourceError, SourceFile};

/// As many links as Linux follows in one path.
const LINKS_IN_A_ROW: usize = 40;

/// Refuses the first link whose target is outside the tree, also over other links of the tree.
pub(super) fn check(mirror: &Mirror, files: &[SourceFile]) -> Result<(), SourceError> {
    let blobs = Blobs::default();
    let mut links = HashMap::new();
    for file in files.iter().filter(|file| file.mode == Mode::Link) {
        let target = blobs.read(&mirror.path, &file.blob)?;
        links.insert(file.path.as_str(), String::from_utf8_lossy(&target).into_owned());
    }
    match files.iter().find(|file| file.mode == Mode::Link && leaves(&links, &file.path)) {
        Some(file) => Err(SourceError::new(format!(
            "the link `{}` points to `{}`, outside the work tree",
            file.path,
            links[file.path.as_str()]
        ))
        .help("let it point inside the work tree by a relative path, or ignore or remove it")),
        None => Ok(()),
    }
}

/// Whether the link at `path` leads out. Walks its target step by step, as the kernel would; what is not there is inside.
fn leaves(links: &HashMap<&str, String>, path: &str) -> bool {
    let mut todo: Vec<&str> = path.rsplit('/').collect();
    let mut at: Vec<&str> = Vec::new();
    let mut followed = 0;
    while let Some(step) = todo.pop() {
        match step {
            "" | "." => continue,
            ".." => {
                if at.pop().is_none() {
                    return true;
                }
                continue;
            }
            name => at.push(name),
        }
        if let Some(target) = links.get(at.join("/").as_str()) {
            followed += 1;
            if target.starts_with('/') {
                return true;
            }
            // A circle leads nowhere, so not out either.
            if followed > LINKS_IN_A_ROW {
                return false;
            }
            at.pop();
            todo.extend(target.rsplit('/'));
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_over_links() {
        let links: HashMap<&str, String> = [
            ("inside", "data/x"),
            ("data/up", "../other"),
            ("out", "../x"),
            ("absolute", "/etc/passwd"),
            ("a/b/root", "../.."),
            ("over", "a/b/root/../.."),
            ("circle", "circle"),
        ]
        .map(|(path, target)| (path, target.to_owned()))
        .into();
        let out = |path| leaves(&links, path);
        assert!(!out("inside") && !out("data/up") && !out("a/b/root") && !out("circle"));
        assert!(out("out") && out("absolute") && out("over"));
    }
}
