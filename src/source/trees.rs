//! The trees of a snapshot as git has them, for what files alone do not tell: submodules, and modes that git writes no more.

use git2::{ObjectType, Oid, Repository};

use super::SourceError;
use super::mirror::Mirror;

/// What git itself writes today; of other entries files that lie in a folder say nothing.
const USUAL: [i32; 4] = [0o040_000, 0o100_644, 0o100_755, 0o120_000];

/// The trees at and below `tree`, one after the other with their lengths before them; none when the files say it all.
pub(super) fn odd_trees(mirror: &Mirror, tree: Oid) -> Result<Option<Vec<u8>>, SourceError> {
    let (mut bytes, mut odd) = (Vec::new(), false);
    collect(&mirror.repository, tree, &mut bytes, &mut odd)?;
    Ok(odd.then_some(bytes))
}

fn collect(
    repository: &Repository,
    id: Oid,
    bytes: &mut Vec<u8>,
    odd: &mut bool,
) -> Result<(), SourceError> {
    // Those below first, so that a tree that is written has everything below it.
    for entry in &repository.find_tree(id)? {
        *odd |= !USUAL.contains(&entry.filemode_raw());
        if entry.kind() == Some(ObjectType::Tree) {
            collect(repository, entry.id(), bytes, odd)?;
        }
    }
    let odb = repository.odb()?;
    let object = odb.read(id)?;
    bytes.extend(format!("{}\n", object.data().len()).bytes());
    bytes.extend(object.data());
    Ok(())
}

/// Writes what [`odd_trees`] gave; its files are there already. Each gets the name that its bytes have.
pub(super) fn write_trees(mirror: &Mirror, mut bytes: &[u8]) -> Result<(), SourceError> {
    let broken = || SourceError::new("the trees that are kept of a run are damaged");
    let odb = mirror.repository.odb()?;
    while !bytes.is_empty() {
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(broken)?;
        let length = std::str::from_utf8(&bytes[..end]).ok().and_then(|text| text.parse().ok());
        let (tree, rest) =
            bytes[end + 1..].split_at_checked(length.ok_or_else(broken)?).ok_or_else(broken)?;
        let id = odb.write(ObjectType::Tree, tree)?;
        is_whole(mirror, id)?;
        bytes = rest;
    }
    Ok(())
}

/// Nothing that the tree names is missing; commits of submodules are never here.
fn is_whole(mirror: &Mirror, id: Oid) -> Result<(), SourceError> {
    for entry in &mirror.repository.find_tree(id)? {
        if entry.kind() != Some(ObjectType::Commit) && !mirror.has(entry.id())? {
            let name = String::from_utf8_lossy(entry.name_bytes()).into_owned();
            return Err(SourceError::new(format!(
                "the files that are kept of a run lack `{name}` of tree {id}"
            )));
        }
    }
    Ok(())
}
