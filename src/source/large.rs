//! Git LFS: small pointer files that stand for large ones.

use std::path::PathBuf;

use git2::Oid;

use super::address::Address;
use super::edits::Edits;
use super::git::Git;
use super::mirror::Mirror;
use super::{Mode, SourceError};

/// No pointer is larger (the specification says so).
pub(super) const POINTER_SIZE: usize = 1024;

/// The SHA-256 that a pointer names; none for a file that is no pointer.
pub(super) fn pointer(bytes: &[u8]) -> Option<&str> {
    if bytes.len() > POINTER_SIZE || !bytes.starts_with(b"version https://git-lfs.github.com/spec/")
    {
        return None;
    }
    let text = str::from_utf8(bytes).ok()?;
    let digest = text.lines().find_map(|line| line.strip_prefix("oid sha256:"))?;
    (digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(digest)
}

/// The error for pointers whose content is not at hand.
pub(super) fn unfetched(paths: &[String], help: &str) -> SourceError {
    let first = paths.first().map_or("", String::as_str);
    let message = match paths.len() {
        1 => format!("`{first}` is a Git LFS pointer and its content is not here"),
        n => format!(
            "`{first}` and {} more are Git LFS pointers and their content is not here",
            n - 1
        ),
    };
    SourceError::new(message).help(help)
}

/// Fetches the content of the pointers of a fetched commit with `git lfs`: the tree with the content in their place.
pub(super) fn fetch(
    git: &Git<'_>,
    mirror: &Mirror,
    address: &Address,
    commit: Oid,
    tree: Oid,
) -> Result<Oid, SourceError> {
    let repository = &mirror.repository;
    let files = mirror.list(tree)?;
    let mut uses_lfs = false;
    for file in files.iter().filter(|file| file.path.ends_with(".gitattributes")) {
        let blob = repository.find_blob(Oid::from_str(&file.blob)?)?;
        uses_lfs |= String::from_utf8_lossy(blob.content()).contains("filter=lfs");
    }
    if !uses_lfs {
        return Ok(tree);
    }
    let odb = repository.odb()?;
    let mut pointers = Vec::new();
    for file in files.into_iter().filter(|file| file.mode != Mode::Link) {
        let id = Oid::from_str(&file.blob)?;
        if odb.read_header(id)?.0 <= POINTER_SIZE
            && let Some(digest) = pointer(odb.read(id)?.data())
        {
            pointers.push((file, content(mirror, digest)));
        }
    }
    let missing = |pointers: &[(super::SourceFile, PathBuf)]| -> Vec<String> {
        let absent = pointers.iter().filter(|(_, content)| !content.is_file());
        absent.map(|(file, _)| file.path.clone()).collect()
    };
    let wanted = missing(&pointers);
    if !wanted.is_empty() {
        let _lock = mirror.lock()?;
        if !git.has_lfs() {
            return Err(unfetched(&wanted, "install `git-lfs` and run the same command again"));
        }
        git.lfs_fetch(mirror, address, commit)?;
        let still = missing(&pointers);
        if !still.is_empty() {
            let help = "check with `git lfs fetch` in a clone that the server has the content";
            return Err(unfetched(&still, help));
        }
    }
    let mut edits = Edits::default();
    for (file, content) in pointers {
        let blob = mirror.write_file(&content)?;
        edits.put(&file.path, blob, file.mode);
    }
    let base = repository.find_tree(tree)?;
    Ok(edits.apply(repository, Some(&base))?.unwrap_or(tree))
}

/// Where `git lfs` keeps content in a bare repo.
fn content(mirror: &Mirror, digest: &str) -> PathBuf {
    mirror.path.join("lfs/objects").join(&digest[..2]).join(&digest[2..4]).join(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_known_by_their_form() {
        let digest = "a".repeat(64);
        let text =
            format!("version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize 5\n");
        assert_eq!(pointer(text.as_bytes()), Some(digest.as_str()));
        assert_eq!(pointer(b"version https://git-lfs.github.com/spec/v1\noid sha256:x\n"), None);
        assert_eq!(pointer(b"hello"), None);
    }
}
