//! Connections that are handed on as they are.

use std::sync::Arc;

use tokio::net::TcpStream;
use tracing::debug;

use super::client::Client;
use super::pool::Pool;
use super::{Limits, tunnel, upstream};

/// Joins a client with the first backend that takes the connection; with none it is closed.
pub(super) async fn serve(limits: &Limits, client: &Arc<Client>, stream: TcpStream, pool: &Pool) {
    let mut tried = Vec::new();
    while let Some(hold) = pool.pick(client, &tried) {
        let address = hold.address();
        match upstream::connect(address, limits.connect).await {
            Ok(backend) => {
                if let Err(error) = tunnel::join(stream, backend, None).await {
                    debug!("a connection to `{}` ended: {error}", pool.name());
                }
                return;
            }
            Err(error) => {
                debug!("`{}` cannot be reached at {address}: {error}", pool.name());
                tried.push(address);
            }
        }
    }
}
