//! A repo by its address: resolve once to a full commit, fetch that commit into the mirror, fill in submodules and large files.

use git2::{ObjectType, Oid, Repository};

use super::address::Address;
use super::edits::Edits;
use super::git::{Git, Offer};
use super::mirror::Mirror;
use super::{Snapshot, SourceError, SourceSettings, large};
use crate::event::SnapshotId;
use crate::names::suggest;

/// A repo whose branches move this often while we look is not going to hold still.
const TRIES: usize = 3;
/// Submodules inside submodules.
const DEPTH: usize = 16;

/// What was asked for, found.
struct Target {
    commit: Oid,
    /// Short name of the branch or tag.
    reference: Option<String>,
    /// Full name on the remote; none when a commit was asked for.
    full: Option<String>,
}

pub(super) fn take(
    settings: &SourceSettings,
    url: &str,
    reference: Option<&str>,
    base: Option<&str>,
) -> Result<Snapshot, SourceError> {
    let address = Address::parse(url)?;
    let git = Git::new(settings);
    let origin = address.to_string();
    let mirror = Mirror::open_or_create(settings, &origin)?;
    let (commit, reference) = resolve(&git, &mirror, &address, reference)?;
    let tree = whole_tree(&git, &mirror, &address, commit, 0)?;
    let base = normal_base(base)?;
    if !base.is_empty() {
        let found = mirror.repository.find_tree(tree)?;
        let entry = found.get_path(std::path::Path::new(&base));
        if !entry.is_ok_and(|entry| entry.kind() == Some(ObjectType::Tree)) {
            return Err(SourceError::new(format!(
                "`{address}` has no folder `{base}` at {commit}"
            ))
            .help("check the path and the branch, tag or commit"));
        }
    }
    let id = SnapshotId {
        tree: tree.to_string(),
        commit: Some(commit.to_string()),
        reference,
        dirty: false,
        base,
        origin,
    };
    Snapshot::made(&mirror, id, Vec::new())
}

/// A base as it is recorded: no `.` or empty steps.
pub(super) fn normal_base(base: Option<&str>) -> Result<String, SourceError> {
    let steps: Vec<&str> =
        base.unwrap_or("").split('/').filter(|step| !matches!(*step, "" | ".")).collect();
    if steps.contains(&"..") || base.is_some_and(|base| base.starts_with('/')) {
        let base = base.unwrap_or_default();
        return Err(SourceError::new(format!("the base `{base}` leaves the repo"))
            .help("write a path below the repo's root"));
    }
    Ok(steps.join("/"))
}

fn resolve(
    git: &Git<'_>,
    mirror: &Mirror,
    address: &Address,
    wanted: Option<&str>,
) -> Result<(Oid, Option<String>), SourceError> {
    // A full commit that is here needs no network.
    if let Some(commit) = wanted.and_then(full_commit)
        && mirror.repository.find_commit(commit).is_ok()
    {
        return Ok((commit, None));
    }
    for _ in 0..TRIES {
        let offer = git.offer(address)?;
        let Some(target) = find(&offer, address, wanted)? else {
            let commit = fetch_commit(git, mirror, address, wanted.unwrap_or_default(), &offer)?;
            return Ok((commit, None));
        };
        if mirror.repository.find_commit(target.commit).is_err() {
            let _lock = mirror.lock()?;
            let source = target.full.clone().unwrap_or_else(|| target.commit.to_string());
            let refspec = format!("+{source}:refs/fetched/{}", target.commit);
            git.fetch(mirror, address, &[refspec], false)?;
        }
        if mirror.repository.find_commit(target.commit).is_ok() {
            return Ok((target.commit, target.reference));
        }
        // Somebody pushed between the two calls (or the name is that of a tree): look again.
    }
    let name = wanted.unwrap_or("HEAD");
    Err(SourceError::new(format!("`{name}` of `{address}` is no commit, or does not hold still"))
        .help("name a branch, a tag or a full commit"))
}

fn full_commit(text: &str) -> Option<Oid> {
    if text.len() == 40 { Oid::from_str(text).ok() } else { None }
}

fn is_commit_prefix(text: &str) -> bool {
    (4..=40).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Looks a name up among what the remote offers; none when it may be a commit that no branch or tag names.
fn find(
    offer: &Offer,
    address: &Address,
    wanted: Option<&str>,
) -> Result<Option<Target>, SourceError> {
    let short = |full: &str| {
        let full = full.strip_prefix("refs/").unwrap_or(full);
        full.strip_prefix("heads/").or(full.strip_prefix("tags/")).unwrap_or(full).to_owned()
    };
    let Some(wanted) = wanted else {
        let Some((branch, commit)) = offer.head.clone() else {
            return Err(SourceError::new(format!(
                "`{address}` has no default branch with a commit"
            ))
            .help("name a branch, tag or commit, or push a first commit"));
        };
        let reference = branch.as_deref().map(short);
        let full = branch.or(Some("HEAD".to_owned()));
        return Ok(Some(Target { commit, reference, full }));
    };
    for full in [wanted.to_owned(), format!("refs/tags/{wanted}"), format!("refs/heads/{wanted}")] {
        if let Some(found) = offer.refs.iter().find(|one| one.name == full) {
            let (commit, reference) = (found.id, Some(short(&full)));
            return Ok(Some(Target { commit, reference, full: Some(full) }));
        }
    }
    if is_commit_prefix(wanted) {
        return Ok(None);
    }
    Err(no_such(offer, address, wanted))
}

fn no_such(offer: &Offer, address: &Address, wanted: &str) -> SourceError {
    let names: Vec<&str> = offer
        .refs
        .iter()
        .filter_map(|one| {
            one.name.strip_prefix("refs/heads/").or(one.name.strip_prefix("refs/tags/"))
        })
        .collect();
    let error = SourceError::new(format!("`{address}` has no branch, tag or commit `{wanted}`"));
    if let Some(near) = suggest(wanted, names.iter().copied()) {
        return error.help(format!("did you mean `{near}`?"));
    }
    match names.as_slice() {
        [] => error.help("push a first commit"),
        [first, ..] => error.help(format!("name one that is there, such as `{first}`")),
    }
}

/// A commit by its full or short id that no branch or tag names: asked for by itself, else looked for in the whole history.
fn fetch_commit(
    git: &Git<'_>,
    mirror: &Mirror,
    address: &Address,
    wanted: &str,
    offer: &Offer,
) -> Result<Oid, SourceError> {
    let _lock = mirror.lock()?;
    if let Some(commit) = full_commit(wanted) {
        let refspec = format!("+{commit}:refs/fetched/{commit}");
        // A server may refuse to give what it does not offer; then the history below has it or nobody.
        if git.fetch(mirror, address, &[refspec], false).is_ok()
            && mirror.repository.find_commit(commit).is_ok()
        {
            return Ok(commit);
        }
    }
    let everything =
        ["heads", "tags"].map(|kind| format!("+refs/{kind}/*:refs/fetched/all/{kind}/*"));
    git.fetch(mirror, address, &everything, true)?;
    mirror.repository.find_commit_by_prefix(wanted).map(|commit| commit.id()).map_err(|error| {
        if error.code() == git2::ErrorCode::Ambiguous {
            SourceError::new(format!("`{wanted}` is the start of more than one commit"))
                .help("write more of its digits")
        } else {
            no_such(offer, address, wanted)
        }
    })
}

/// The commit's tree with submodules and large files in their places.
fn whole_tree(
    git: &Git<'_>,
    mirror: &Mirror,
    address: &Address,
    commit: Oid,
    depth: usize,
) -> Result<Oid, SourceError> {
    let repository = &mirror.repository;
    let tree = repository.find_commit(commit)?.tree()?;
    let own = large::fetch(git, mirror, address, commit, tree.id())?;
    let mut modules = Vec::new();
    gitlinks(repository, tree.id(), "", &mut modules)?;
    if modules.is_empty() {
        return Ok(own);
    }
    if depth == DEPTH {
        return Err(SourceError::new(format!(
            "the submodules of `{address}` go deeper than {DEPTH}"
        )));
    }
    let urls = module_urls(repository, &tree)?;
    let mut edits = Edits::default();
    for (path, commit) in modules {
        let Some((_, url)) = urls.iter().find(|(known, _)| *known == path) else {
            return Err(SourceError::new(format!(
                "the submodule `{path}` has no url in `.gitmodules`"
            ))
            .help("add it with `git submodule add`, or remove the entry with `git rm`"));
        };
        let address = address.submodule(url)?;
        if repository.find_commit(commit).is_err() {
            let offer = Offer::default();
            fetch_commit(git, mirror, &address, &commit.to_string(), &offer).map_err(|error| {
                let message = format!("the submodule `{path}` cannot be fetched: {error}");
                SourceError { message, help: error.help }
            })?;
        }
        edits.put_tree(&path, whole_tree(git, mirror, &address, commit, depth + 1)?);
    }
    let base = repository.find_tree(own)?;
    Ok(edits.apply(repository, Some(&base))?.unwrap_or(own))
}

fn gitlinks(
    repository: &Repository,
    tree: Oid,
    folder: &str,
    found: &mut Vec<(String, Oid)>,
) -> Result<(), SourceError> {
    for entry in &repository.find_tree(tree)? {
        let Ok(name) = entry.name() else { continue };
        match entry.kind() {
            Some(ObjectType::Tree) => {
                gitlinks(repository, entry.id(), &format!("{folder}{name}/"), found)?;
            }
            Some(ObjectType::Commit) => found.push((format!("{folder}{name}"), entry.id())),
            _ => {}
        }
    }
    Ok(())
}

/// `(path, url)` of every entry of `.gitmodules`.
fn module_urls(
    repository: &Repository,
    tree: &git2::Tree<'_>,
) -> Result<Vec<(String, String)>, SourceError> {
    let Some(entry) = tree.get_name(".gitmodules") else { return Ok(Vec::new()) };
    let blob = repository.find_blob(entry.id())?;
    let file = tempfile::NamedTempFile::new()?;
    fs_err::write(file.path(), blob.content())?;
    let config = git2::Config::open(file.path())?;
    let mut urls = Vec::new();
    let mut entries = config.entries(Some(r"submodule\..*\.path"))?;
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if let (Ok(name), Ok(path)) = (entry.name(), entry.value()) {
            let url = format!("{}.url", name.strip_suffix(".path").unwrap_or(name));
            if let Ok(url) = config.get_string(&url) {
                urls.push((path.to_owned(), url));
            }
        }
    }
    Ok(urls)
}
