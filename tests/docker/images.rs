//! Images from registries and of this machine.

use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flowrun::runtime::docker::DockerError;
use flowrun::runtime::docker::image::{Image, Pull};

use crate::engine::{Heard, TINY, User};
use crate::ports::free_port;
use crate::registry::{PASSWORD, Registry, USER};

/// Pushes an image and forgets it here. Its id.
fn published(user: &User, name: &str, mark: &str) -> String {
    let id = user.make_image(name, mark);
    user.docker(&["push", "-q", name]);
    user.docker(&["image", "rm", "-f", name]);
    id
}

async fn get(user: &User, name: &str, pull: Pull) -> Result<Image, DockerError> {
    user.docker.image(name, pull, &|_| ()).await
}

/// Why an image cannot be had, and the mend.
async fn refused(user: &User, name: &str, pull: Pull) -> (String, String) {
    match get(user, name, pull).await {
        Err(error @ DockerError::Image { .. }) => (error.to_string(), error.help().to_owned()),
        other => panic!("{name}: {other:?}"),
    }
}

#[tokio::test]
async fn an_image_of_this_machine_needs_no_registry() {
    let user = User::new().await;
    for pull in [Pull::Missing, Pull::Never] {
        let image = get(&user, TINY, pull).await.unwrap();
        assert!(image.id.starts_with("sha256:"), "{image:?}");
        assert_eq!(image.repo_digest, None);
        assert!(image.platform.starts_with("linux/"), "{image:?}");
        let by_id = get(&user, &image.id, pull).await.unwrap();
        assert_eq!(by_id.id, image.id);
    }
    let gone = format!("sha256:{}", "0".repeat(64));
    let (why, help) = refused(&user, &gone, Pull::Missing).await;
    assert_eq!(why, format!("image `{gone}` is not here"));
    assert_eq!(help, "name it with a registry: nothing can be pulled by an id");
    let (why, _) = refused(&user, "No/Image:1", Pull::Missing).await;
    assert_eq!(why, "image `No/Image:1` has capital letters in its name");
}

#[tokio::test]
async fn an_image_is_pulled_by_tag_and_by_digest() {
    let (user, registry) = (User::new().await, Registry::open());
    let name = registry.name("team/app:1");
    let id = published(&user, &name, "one");
    assert_eq!(user.docker.local_image(&name).await.unwrap(), None);

    let heard = Heard::default();
    let image = user.docker.image(&name, Pull::Missing, &|line| heard.hear(line)).await.unwrap();
    assert_eq!(image.id, id);
    assert_eq!(image.reference, name);
    let said = heard.text();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], format!("pulling `{name}`"));
    assert!(lines[lines.len() - 1].starts_with(&format!("pulled `{name}`: ")), "{said}");
    assert!(lines.len() < 10, "a flood: {said}");
    let digest = image.repo_digest.clone().unwrap();
    assert!(digest.starts_with(&registry.name("team/app@sha256:")), "{digest}");

    // Here now: nothing is said, and no registry is asked.
    let quiet = Heard::default();
    let again = user.docker.image(&name, Pull::Missing, &|line| quiet.hear(line)).await.unwrap();
    assert_eq!((again, quiet.text().as_str()), (image.clone(), ""));

    user.docker(&["image", "rm", "-f", &name]);
    user.will_remove("image", &digest);
    let by_digest = get(&user, &digest, Pull::Missing).await.unwrap();
    assert_eq!((by_digest.id, by_digest.repo_digest), (id, Some(digest)));
}

#[tokio::test]
async fn what_is_not_in_the_registry_is_said_with_a_mend() {
    let (user, registry) = (User::new().await, Registry::open());
    published(&user, &registry.name("app:1"), "one");
    let host = registry.host();
    let name = registry.name("app:2");
    let (why, help) = refused(&user, &name, Pull::Missing).await;
    assert_eq!(why, format!("image `{name}` is not in `{host}`: there is no such name or tag"));
    assert_eq!(help, "look at the name, and at which tags there are");
    let name = registry.name(&format!("app@sha256:{}", "0".repeat(64)));
    let (why, help) = refused(&user, &name, Pull::Missing).await;
    assert_eq!(why, format!("image `{name}` is not in `{host}`: there is no such name or digest"));
    assert_eq!(help, "look at the name, and at which digests there are");
    let name = registry.name("nothing:1");
    let (why, _) = refused(&user, &name, Pull::Missing).await;
    assert_eq!(why, format!("image `{name}` is not in `{host}`: there is no such name or tag"));
}

#[tokio::test]
async fn a_registry_that_is_down_is_named() {
    let user = User::new().await;
    let host = format!("127.0.0.1:{}", free_port());
    let (why, help) = refused(&user, &format!("{host}/app:1"), Pull::Missing).await;
    let expected = format!("image `{host}/app:1` cannot be pulled: `{host}` cannot be reached: ");
    assert!(why.starts_with(&expected), "{why}");
    assert_eq!(help, "look at the registry's name and at the network of the engine");
}

#[tokio::test]
async fn never_does_not_pull_and_always_follows_a_tag_that_moved() {
    let (user, registry) = (User::new().await, Registry::open());
    let name = registry.name("app:1");
    let first = published(&user, &name, "one");
    let (why, help) = refused(&user, &name, Pull::Never).await;
    assert_eq!(why, format!("image `{name}` is not here, and is never to be pulled"));
    assert_eq!(help, format!("run `docker pull {name}`, or leave out `pull: never`"));

    assert_eq!(get(&user, &name, Pull::Always).await.unwrap().id, first);
    // Somebody else moves the tag: here it still means the first.
    let second = published(&user, &name, "two");
    user.docker(&["pull", "-q", &name]);
    user.docker(&["tag", &first, &name]);
    user.will_remove("image", &first);
    assert_ne!(first, second);
    assert_eq!(get(&user, &name, Pull::Missing).await.unwrap().id, first);
    assert_eq!(get(&user, &name, Pull::Always).await.unwrap().id, second);
}

#[tokio::test]
async fn logins_of_the_file_and_of_helpers_open_a_locked_registry() {
    let (user, registry) = (User::new().await, Registry::locked());
    let host = registry.host();
    // As `docker login` writes it.
    user.docker_with(&["login", "-u", USER, "--password-stdin", &host], PASSWORD.as_bytes());
    let name = registry.name("secret/app:1");
    let id = published(&user, &name, "one");
    assert_eq!(get(&user, &name, Pull::Missing).await.unwrap().id, id);
    user.docker(&["image", "rm", "-f", &name]);

    let config = |text: &str| fs_err::write(user.config.path().join("config.json"), text).unwrap();
    config("{}");
    let (why, help) = refused(&user, &name, Pull::Missing).await;
    assert_eq!(why, format!("image `{name}` is refused: `{host}` asks for a login"));
    assert_eq!(help, format!("run `docker login {host}`"));

    let wrong = BASE64_STANDARD.encode(format!("{USER}:wrong"));
    config(&format!(r#"{{"auths": {{"{host}": {{"auth": "{wrong}"}}}}}}"#));
    let (why, _) = refused(&user, &name, Pull::Missing).await;
    assert_eq!(why, format!("image `{name}` is refused: `{host}` does not accept the login"));

    let helper = |text: &str| {
        let program = user.config.path().join("docker-credential-test");
        // Not by this process: a child that another test forks meanwhile would have it open for writing.
        let made = Command::new("sh")
            .args(["-c", "printf '#!/bin/sh\n%s\n' \"$1\" > \"$0\" && chmod 755 \"$0\""])
            .arg(&program)
            .arg(text)
            .status();
        assert!(made.unwrap().success());
    };
    let answer = format!(
        r#"[ "$1 $(cat)" = "get {host}" ] && echo '{{"Username": "{USER}", "Secret": "{PASSWORD}"}}'"#
    );
    for text in
        [format!(r#"{{"credHelpers": {{"{host}": "test"}}}}"#), r#"{"credsStore": "test"}"#.into()]
    {
        config(&text);
        helper(&answer);
        assert_eq!(get(&user, &name, Pull::Always).await.unwrap().id, id);
        helper("echo the vault is locked; exit 1");
        let (why, help) = refused(&user, &name, Pull::Always).await;
        let said = "`docker-credential-test get` says: the vault is locked";
        assert_eq!(why, format!("image `{name}` cannot be pulled: {said}"));
        assert_eq!(help, format!("run `docker login {host}` again, or mend `config.json`"));
    }
}
