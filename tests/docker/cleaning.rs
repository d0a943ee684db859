//! Only what carries the label of this installation is found and removed.

use std::collections::BTreeMap;

use flowrun::runtime::docker::IdleNetwork;
use flowrun::runtime::docker::image::{BuildOrder, FileKind};

use crate::engine::{TINY, User};

/// Starts a container that stays, with the label of `owner`.
fn container(user: &User, owner: &User, name: &str, command: &[&str]) -> String {
    let label = format!("flowrun.installation={}", owner.docker.settings().installation);
    let name = format!("images-{}-{name}", user.docker.settings().installation);
    user.will_remove("container", &name);
    let args = [
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        &name,
        "--label",
        &label,
        "--label",
        "flowrun.run=r",
        TINY,
    ];
    user.docker(&[&args[..], command].concat());
    name
}

#[tokio::test]
async fn containers_of_others_are_neither_found_nor_removed() {
    let (user, other) = (User::new().await, User::new().await);
    let runs = container(&user, &user, "runs", &["sleep", "600"]);
    let ended = container(&user, &user, "ended", &["busybox", "true"]);
    let foreign = container(&user, &other, "foreign", &["sleep", "600"]);
    user.docker(&["wait", &ended]);
    let found = user.docker.containers().await.unwrap();
    let names: Vec<(&str, bool)> =
        found.iter().map(|one| (one.name.as_str(), one.running)).collect();
    assert_eq!(names, [(ended.as_str(), false), (runs.as_str(), true)]);
    assert_eq!(found[0].labels["flowrun.run"], "r");

    // Two at once, as two processes do it.
    let again = user.again();
    let (one, two) =
        tokio::join!(user.docker.remove_container(&runs), again.remove_container(&runs));
    one.unwrap();
    two.unwrap();
    assert!(!user.has("container", &runs));
    user.docker.remove_container(&runs).await.unwrap();
    assert!(user.docker.remove_container(&foreign).await.is_err());
    assert!(user.has("container", &foreign));
}

#[tokio::test]
async fn idle_networks_are_found_unless_a_container_needs_them() {
    let user = User::new().await;
    let (idle, needed) = (
        user.docker.network("idle").await.unwrap().name,
        user.docker.network("used").await.unwrap().name,
    );
    user.will_remove("network", &idle);
    user.will_remove("network", &needed);
    // Also a container that does not run any more, as it can be started again.
    let name = format!("{needed}-ended");
    user.will_remove("container", &name);
    user.docker(&["run", "--name", &name, "--network", &needed, TINY, "busybox", "true"]);
    let expected = IdleNetwork { name: idle.clone(), pipeline: "idle".to_owned() };
    assert_eq!(user.docker.idle_networks().await.unwrap(), [expected]);
    assert!(user.docker.remove_idle_network(&idle).await.unwrap());
    assert!(!user.has("network", &idle));
    assert!(user.has("network", &needed));
}

#[tokio::test]
async fn built_images_go_unless_somebody_needs_them() {
    let (user, other) = (User::new().await, User::new().await);
    let mut ids = Vec::new();
    for (builder, mark) in
        [(&user, "needed"), (&user, "used"), (&user, "tagged"), (&user, "old"), (&other, "foreign")]
    {
        let order = BuildOrder {
            context: mark.to_owned(),
            files: vec![(
                "Dockerfile".to_owned(),
                FileKind::Plain,
                format!("FROM {TINY}\nENV MARK={mark}\n").into_bytes(),
            )],
            dockerfile: "Dockerfile".to_owned(),
            args: BTreeMap::new(),
            digest: mark.to_owned(),
        };
        let image = builder.docker.build(&order, &|_| ()).await.unwrap();
        builder.will_remove("image", &image.id);
        ids.push(image.id);
    }
    let name = format!("images-{}-user", user.docker.settings().installation);
    user.will_remove("container", &name);
    user.docker(&["run", "--network", "none", "--name", &name, &ids[1], "busybox", "true"]);
    let tag = format!("images-test-{}:mine", user.docker.settings().installation.to_lowercase());
    user.docker(&["tag", &ids[2], &tag]);
    user.will_remove("image", &tag);

    let found = user.docker.built_images().await.unwrap();
    assert_eq!(found.len(), 4, "{found:?}");
    let needed = [ids[0].clone()];
    assert_eq!(user.docker.remove_built_images(&needed).await.unwrap(), 1);
    let left: Vec<bool> = ids.iter().map(|id| user.has("image", id)).collect();
    assert_eq!(left, [true, true, true, false, true]);
    assert_eq!(user.docker.remove_built_images(&needed).await.unwrap(), 0);
}
