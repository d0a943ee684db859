//! Code that comes by a URL.

use super::*;

#[test]
fn branches_tags_and_commits_of_a_url() {
    let place = Place::new();
    let repo = place.repo("repo");
    repo.write("a", "one");
    let first = repo.commit();
    repo.git(&["tag", "--annotate", "v1", "-m", "v1"]);
    repo.write("a", "two");
    let second = repo.commit();
    repo.git(&["branch", "feature/x", "HEAD"]);
    repo.write("a", "three");
    let third = repo.commit();
    let url = format!("file://{}", repo.url());
    let get = |name: Option<&str>| {
        let snapshot = place.fetch(&url, name).unwrap();
        assert_eq!(snapshot.id.origin, url);
        (snapshot.id.commit.clone().unwrap(), snapshot.id.reference.clone(), text(&snapshot, "a"))
    };
    let named = |commit: &str, name: &str, text: &str| {
        (commit.to_owned(), Some(name.to_owned()), text.to_owned())
    };
    assert_eq!(get(Some("v1")), named(&first, "v1", "one"));
    assert_eq!(get(Some("feature/x")), named(&second, "feature/x", "two"));
    assert_eq!(get(None), named(&third, "main", "three"));
    assert_eq!(get(Some(&first)), (first.clone(), None, "one".to_owned()));
    assert_eq!(get(Some(&second[..8])), (second.clone(), None, "two".to_owned()));

    let error = place.fetch(&url, Some("featur/x")).unwrap_err();
    assert_eq!(error.help.as_deref(), Some("did you mean `feature/x`?"));
    let error = place.fetch(&url, Some("00000000")).unwrap_err();
    assert!(error.message.contains("no branch, tag or commit"), "{error}");
    let error = place.fetch("file:///nowhere/at/all", None).unwrap_err();
    assert!(error.message.contains("no git repository"), "{error}");

    // A push changes nothing for who has a snapshot, and is seen by who takes one.
    let before = place.fetch(&url, None).unwrap();
    repo.git(&["commit", "--quiet", "--amend", "--allow-empty", "-m", "other"]);
    repo.write("a", "four");
    repo.commit();
    assert_eq!(text(&before, "a"), "three");
    assert_eq!(text(&place.fetch(&url, None).unwrap(), "a"), "four");
    // A full commit that was fetched needs no remote.
    fs::remove_dir_all(&repo.path).unwrap();
    assert_eq!(get(Some(&first)).2, "one");
}

#[test]
fn a_commit_that_no_branch_reaches_from_a_fresh_mirror() {
    let place = Place::new();
    let repo = place.repo("repo");
    repo.write("a", "one");
    let first = repo.commit();
    repo.write("a", "two");
    repo.commit();
    let short = place.fetch(repo.url(), Some(&first[..7])).unwrap();
    assert_eq!(text(&short, "a"), "one");
}

#[test]
fn fetches_side_by_side_are_safe() {
    let place = Place::new();
    let repo = place.repo("repo");
    for n in 0..20 {
        repo.write(&format!("f{n}"), &n.to_string());
    }
    repo.commit();
    let trees: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|n| {
                let (place, repo) = (&place, &repo);
                scope.spawn(move || match n % 2 {
                    0 => place.fetch(repo.url(), None).unwrap().id.tree,
                    _ => place.take(&repo.path).unwrap().id.tree,
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(trees.iter().all(|tree| *tree == trees[0]));
}

#[test]
fn a_remote_address_is_the_origin_without_its_password() {
    let place = Place::new();
    let repo = place.repo("repo");
    repo.git(&["remote", "add", "origin", "https://me:secret@example.org/a/b.git"]);
    assert_eq!(place.take(&repo.path).unwrap().id.origin, "https://example.org/a/b.git");
}

#[test]
fn large_files_of_a_url_come_through_git_lfs() {
    let mut place = Place::new();
    // Stands for `git-lfs`: fetching puts the content where the real one does.
    let bin = place.folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let digest = "b".repeat(64);
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = fetch ] || exit 0\nd=\"$GIT_DIR/lfs/objects/bb/bb\"\nmkdir -p \"$d\"\n\
         printf content > \"$d/{digest}\"\n"
    );
    let made = Command::new("sh")
        .args(["-c", "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\""])
        .arg(bin.join("git-lfs"))
        .arg(script)
        .status();
    assert!(made.unwrap().success());
    place.settings.env[0].1 = format!("{}:{}", bin.display(), place.settings.env[0].1);
    let repo = place.repo("repo");
    repo.write(".gitattributes", "*.bin filter=lfs -text\n");
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize 7\n");
    repo.write("model.bin", &pointer);
    repo.commit();
    assert_eq!(text(&place.fetch(repo.url(), None).unwrap(), "model.bin"), "content");
}
