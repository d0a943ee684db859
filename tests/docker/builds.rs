//! Images that are built from files.

use std::collections::BTreeMap;

use flowrun::runtime::docker::DockerError;
use flowrun::runtime::docker::image::{BuildOrder, FileKind};

use crate::engine::{Heard, TINY, User};
use crate::registry::{PASSWORD, Registry, USER};

/// An order with this Dockerfile and a program beside it.
fn order(dockerfile: &str, digest: &str) -> BuildOrder {
    BuildOrder {
        context: "image".to_owned(),
        files: vec![
            ("docker/file".to_owned(), FileKind::Plain, dockerfile.as_bytes().to_vec()),
            ("run".to_owned(), FileKind::Executable, b"#!/bin/sh\necho it runs\n".to_vec()),
            ("link".to_owned(), FileKind::Link, b"run".to_vec()),
        ],
        dockerfile: "docker/file".to_owned(),
        args: BTreeMap::from([("WORD".to_owned(), "a b".to_owned())]),
        digest: digest.to_owned(),
    }
}

#[tokio::test]
async fn an_equal_order_is_built_once() {
    let user = User::new().await;
    let text = format!(
        "FROM {TINY}\nARG WORD\nENV SAID=$WORD\nUSER 7:8\nCOPY run link /\nRUN echo line one; /link; echo aside >&2\nCMD [\"/run\"]\n"
    );
    let order = order(&text, "d1");
    assert_eq!(user.docker.built_image("d1").await.unwrap(), None);
    let heard = Heard::default();
    let image = user.docker.build(&order, &|line| heard.hear(line)).await.unwrap();
    user.will_remove("image", &image.id);
    let said = heard.text();
    for line in ["building the image of `image`", "  | line one", "  | it runs", "  | aside"] {
        assert!(said.lines().any(|one| one == line), "no `{line}` in {said}");
    }
    assert_eq!(image.env["SAID"], "a b");
    assert_eq!((image.user.as_str(), image.has_program), ("7:8", true));
    assert_eq!(user.docker(&["run", "--rm", "--network", "none", &image.id]), "it runs");

    let quiet = Heard::default();
    let again = user.docker.build(&order, &|line| quiet.hear(line)).await.unwrap();
    assert_eq!((again, quiet.text().as_str()), (image.clone(), ""));
    assert_eq!(user.docker.built_image("d1").await.unwrap(), Some(image));
    // What another installation built is not ours to rely on.
    let other = User::new().await;
    assert_eq!(other.docker.built_image("d1").await.unwrap(), None);
}

#[tokio::test]
async fn a_build_that_fails_shows_its_last_lines() {
    let user = User::new().await;
    let failure = async |text: &str| match user.docker.build(&order(text, "f"), &|_| ()).await {
        Err(error @ DockerError::Build { .. }) => {
            assert_eq!(error.to_string(), "the image of `image` cannot be built");
            let DockerError::Build { log, .. } = error else { unreachable!() };
            log
        }
        other => panic!("{other:?}"),
    };
    let log = failure(&format!("FROM {TINY}\nRUN echo before; exit 7\n")).await;
    assert!(log.contains("\nbefore\n") && log.ends_with("returned a non-zero code: 7"), "{log}");
    let log = failure("NONSENSE\n").await;
    assert!(log.contains("NONSENSE"), "{log}");
    let log = failure(&format!("FROM {TINY}\nCOPY absent /\n")).await;
    assert!(log.contains("absent"), "{log}");
    assert_eq!(user.docker.built_image("f").await.unwrap(), None);
}

#[tokio::test]
async fn a_build_begins_with_an_image_behind_a_login() {
    let (user, registry) = (User::new().await, Registry::locked());
    let host = registry.host();
    user.docker_with(&["login", "-u", USER, "--password-stdin", &host], PASSWORD.as_bytes());
    let base = registry.name("base:1");
    user.make_image(&base, "base");
    user.docker(&["push", "-q", &base]);
    user.docker(&["image", "rm", "-f", &base]);
    let order = order(&format!("FROM {base}\nCOPY run /\n"), "l");
    let image = user.docker.build(&order, &|_| ()).await.unwrap();
    user.will_remove("image", &image.id);
    fs_err::write(user.config.path().join("config.json"), "{}").unwrap();
    user.docker(&["image", "rm", "-f", &image.id, &base]);
    match user.docker.build(&order, &|_| ()).await {
        Err(DockerError::Build { log, .. }) => assert!(log.contains("auth"), "{log}"),
        other => panic!("{other:?}"),
    }
}
