//! Networks and volumes of pipelines.

use std::io::{Read, Write};
use std::net::TcpListener;

use flowrun::runtime::docker::DockerError;

use crate::engine::{TINY, User};

#[tokio::test]
async fn many_at_once_make_one_network() {
    let user = User::new().await;
    let others: Vec<_> = (0..6).map(|_| user.again()).collect();
    let made = futures_util::future::join_all(others.iter().map(|one| one.network("shop"))).await;
    let first = user.docker.network("shop").await.unwrap();
    user.will_remove("network", &first.name);
    for one in made {
        assert_eq!(one.unwrap(), first);
    }
    let filter = format!("name=^{}$", first.name);
    let ids = user.docker(&["network", "ls", "-q", "--filter", &filter]);
    assert_eq!(ids.lines().count(), 1, "{ids}");
    assert!(user.docker.remove_network("shop").await.unwrap());
    assert!(!user.has("network", &first.name));
    assert!(user.docker.remove_network("shop").await.unwrap(), "it is gone");
}

#[tokio::test]
async fn a_container_reaches_this_machine_at_the_gateway() {
    let user = User::new().await;
    let network = user.docker.network("reach").await.unwrap();
    user.will_remove("network", &network.name);
    let listener = TcpListener::bind((network.gateway, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let answers = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // All of it: what is closed with something unread cuts the answer.
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            asked.extend(byte);
        }
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello\n").unwrap();
        asked
    });
    let url = format!("http://serve:{port}/");
    let host = format!("serve:{}", network.gateway);
    let args = ["run", "--rm", "--network", &network.name, "--add-host", &host, TINY];
    let args = [&args[..], &["busybox", "wget", "-q", "-O", "-", &url]].concat();
    assert_eq!(user.docker(&args), "hello");
    assert!(answers.join().unwrap().starts_with(b"GET / "));
}

#[tokio::test]
async fn a_network_that_is_used_or_not_ours_stays() {
    let user = User::new().await;
    let network = user.docker.network("used").await.unwrap();
    user.will_remove("network", &network.name);
    let name = format!("{}-holder", network.name);
    user.will_remove("container", &name);
    user.docker(&["run", "-d", "--name", &name, "--network", &network.name, TINY, "sleep", "600"]);
    assert!(!user.docker.remove_network("used").await.unwrap());
    assert!(user.has("network", &network.name));

    let foreign = network.name.replace("-used", "-foreign");
    user.docker(&["network", "create", &foreign]);
    user.will_remove("network", &foreign);
    assert!(!user.docker.remove_network("foreign").await.unwrap());
    assert!(user.has("network", &foreign));
    match user.docker.network("foreign").await {
        Err(DockerError::Refused { why, .. }) => assert!(why.contains("somebody else"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn only_a_volume_of_this_installation_is_removed() {
    let user = User::new().await;
    let label = format!("flowrun.installation={}", user.docker.settings().installation);
    let ours = user.docker.volume_name("shop", "data");
    let foreign = user.docker.volume_name("shop", "foreign");
    user.docker(&["volume", "create", "--label", &label, &ours]);
    user.docker(&["volume", "create", &foreign]);
    user.will_remove("volume", &ours);
    user.will_remove("volume", &foreign);
    user.docker.remove_volume(&ours).await.unwrap();
    assert!(!user.has("volume", &ours));
    user.docker.remove_volume(&ours).await.unwrap();
    assert!(user.docker.remove_volume(&foreign).await.is_err());
    assert!(user.has("volume", &foreign));
}
