//! Two connections joined: every byte of one goes to the other, and an end of one direction ends only that direction.

use std::io;
use std::pin::{Pin, pin};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::timeout;
use tracing::debug;

use super::backend::Hold;
use super::stream::Stream;
use super::upstream::Upstream;

/// A tunnel may be silent for as long as both sides live; the system asks whether they do after this long, and then as often.
const ALIVE: Duration = Duration::from_mins(1);

/// A WebSocket is over when one side has ended it; what the other still says has this long to arrive.
const PARTING: Duration = Duration::from_secs(1);

/// Joins a client and a backend that have both agreed to an upgrade.
pub(super) async fn upgraded(
    client: OnUpgrade,
    backend: OnUpgrade,
    upstream: Upstream,
    hold: Hold,
) {
    upstream.end().await;
    let joined = async {
        let (mut client, of_client) = open(client).await?;
        let (mut backend, of_backend) = open(backend).await?;
        // What was read together with the heads.
        backend.write_all(&of_client).await?;
        client.write_all(&of_backend).await?;
        join(client, backend, Some(PARTING)).await
    };
    if let Err(error) = joined.await {
        debug!("an upgraded connection ended: {error}");
    }
    drop(hold);
}

/// The connection under an upgraded one, and what was already read from it.
async fn open(upgrade: OnUpgrade) -> io::Result<(TcpStream, hyper::body::Bytes)> {
    let upgraded: Upgraded = upgrade.await.map_err(io::Error::other)?;
    let parts = upgraded
        .downcast::<TokioIo<Stream>>()
        .map_err(|_| io::Error::other("the connection is of another kind"))?;
    Ok((parts.io.into_inner().into_inner(), parts.read_buf))
}

/// Copies both ways until both directions have ended or one broke. `last` is how long the second may go on after the first.
pub(super) async fn join(
    mut client: TcpStream,
    mut backend: TcpStream,
    last: Option<Duration>,
) -> io::Result<()> {
    for stream in [&client, &backend] {
        sockopt::set_socket_keepalive(stream, true)?;
        sockopt::set_tcp_keepidle(stream, ALIVE)?;
        sockopt::set_tcp_keepintvl(stream, ALIVE)?;
    }
    let (mut from_client, mut to_client) = client.split();
    let (mut from_backend, mut to_backend) = backend.split();
    let mut up = pin!(pass(&mut from_client, &mut to_backend));
    let mut down = pin!(pass(&mut from_backend, &mut to_client));
    let other: Pin<&mut (dyn Future<Output = io::Result<()>> + Send)> = tokio::select! {
        ended = up.as_mut() => { ended?; down }
        ended = down.as_mut() => { ended?; up }
    };
    match last {
        Some(last) => timeout(last, other).await.unwrap_or(Ok(())),
        None => other.await,
    }
}

async fn pass(from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>) -> io::Result<()> {
    tokio::io::copy(from, to).await?;
    to.shutdown().await
}
