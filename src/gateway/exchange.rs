//! One request and its answer.
//!
//! 1. Refuse what is not one clear request; find the pool; make the request the gateway's own.
//! 2. Choose the backend, take a connection that waits there or make one, send.
//! 3. Not sent: choose again. Sent, no byte of an answer, on a connection that was kept: once more if that is harmless.
//! 4. Hand the answer on; its body carries the backend's connection with it.
//!
//! What is kept while waiting is kept small: it is copied for every request.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;
use tracing::{debug, warn};

use super::answer::{Answer, Content};
use super::backend::Hold;
use super::client::Client;
use super::download::Download;
use super::headers::{self, Told};
use super::patience::Progress;
use super::pool::Pool;
use super::refusal::Refusal;
use super::routes::{Destination, without_prefix};
use super::upload::{Upload, UploadError};
use super::upstream::{Sent, Upstream};
use super::{Shared, request, tunnel};

/// Answers a request from the pool, or from the one its path leads to.
pub(super) fn answer<'a>(
    shared: &'a Shared,
    client: &'a Arc<Client>,
    pool: Option<&'a Arc<Pool>>,
    request: Request<Incoming>,
) -> impl Future<Output = Response<Answer>> + use<'a> {
    client.watch.set_busy();
    let mut prepared = Exchange::prepare(shared, client, pool, request);
    async move {
        let answer = match &mut prepared {
            Ok(exchange) => exchange.run().await,
            Err(refusal) => Ok(refusal.response()),
        };
        answer
            .unwrap_or_else(|refusal| refusal.response())
            .map(|content| Answer::new(client.clone(), content))
    }
}

struct Exchange<'a> {
    shared: &'a Shared,
    client: &'a Arc<Client>,
    pool: Arc<Pool>,
    /// What is to be sent, until it is.
    request: Option<Request<Upload>>,
    /// Of a request with a body.
    progress: Option<Arc<Progress>>,
    /// Of the client's connection, if it asks for a WebSocket.
    upgrade: Option<OnUpgrade>,
    /// Sending it twice does no harm.
    repeatable: bool,
}

impl<'a> Exchange<'a> {
    fn prepare(
        shared: &'a Shared,
        client: &'a Arc<Client>,
        pool: Option<&Arc<Pool>>,
        mut request: Request<Incoming>,
    ) -> Result<Self, Refusal> {
        let checked = request::check(&request)?;
        let Destination { pool, prefix } = match pool {
            Some(pool) => Destination { pool: pool.clone(), prefix: String::new() },
            None => shared.routes.load().find(request.uri().path()).ok_or(Refusal::Route)?,
        };
        let upgrade = checked.websocket.then(|| hyper::upgrade::on(&mut request));

        let (mut parts, body) = request.into_parts();
        parts.uri =
            without_prefix(parts.uri, &prefix).ok_or(Refusal::Request("the target is too long"))?;
        let told = Told { client: client.address.clone(), host: checked.host, prefix: &prefix };
        headers::to_backend(&mut parts.headers, told, checked.framing, checked.websocket);

        let progress = (!body.is_end_stream()).then(|| Arc::new(Progress::new()));
        let upload = match &progress {
            Some(progress) => Upload::new(body, shared.limits.idle, progress.clone()),
            None => Upload::none(),
        };
        let repeatable = progress.is_none()
            && [Method::GET, Method::HEAD, Method::OPTIONS].contains(&parts.method);
        let mut request = Request::new(upload);
        *request.method_mut() = parts.method;
        *request.uri_mut() = parts.uri;
        *request.headers_mut() = parts.headers;
        let request = Some(request);
        Ok(Self { shared, client, pool, request, progress, upgrade, repeatable })
    }

    async fn run(&mut self) -> Result<Response<Content>, Refusal> {
        let mut tried = Vec::new();
        let mut unreachable = None;
        let mut afresh = false;
        loop {
            let Some(hold) = self.pool.pick(self.client, &tried) else {
                return Err(
                    unreachable.unwrap_or_else(|| Refusal::Nothing(self.pool.name().to_owned()))
                );
            };
            let address = hold.address();
            let kept = if afresh { None } else { hold.kept() };
            let mut upstream = match kept {
                Some(upstream) => upstream,
                // Seldom, and large.
                None => match Box::pin(Upstream::connect(address, &self.shared.limits)).await {
                    Ok(upstream) => upstream,
                    Err(error) => {
                        unreachable = Some(self.unreachable(&hold, &error));
                        tried.push(address);
                        continue;
                    }
                },
            };
            let Some(request) = self.request.take() else {
                return Err(self.invalid("no request"));
            };
            let was_used = upstream.was_used();
            if was_used && self.repeatable {
                self.request = Some(copy(&request));
            }
            let head = {
                let sending = pin!(upstream.send(request));
                self.head(&mut upstream, sending).await
            };
            let mut error = match head {
                None => {
                    warn!("`{}` did not answer in time", self.pool.name());
                    return Err(Refusal::Late(self.pool.name().to_owned()));
                }
                Some(Ok(response)) => return self.relay(response, upstream, hold),
                Some(Err(error)) => error,
            };
            if let Some(unsent) = error.take_message() {
                self.request = Some(unsent);
                if !was_used {
                    let gone = io::Error::from(io::ErrorKind::ConnectionReset);
                    unreachable = Some(self.unreachable(&hold, &gone));
                    tried.push(address);
                }
            } else if self.request.is_some() && !upstream.was_heard() {
                self.repeatable = false;
                afresh = true;
            } else {
                return Err(self.broken(&error.into_error()));
            }
        }
    }

    /// Waits for the head of the answer. None when the limit for it is over, which begins with the end of the request.
    async fn head(
        &self,
        upstream: &mut Upstream,
        mut sending: Pin<&mut impl Future<Output = Sent>>,
    ) -> Option<Sent> {
        let watch = &self.client.watch;
        if let Some(progress) = &self.progress {
            tokio::select! {
                biased;
                head = poll_fn(|task| upstream.poll_head(task, sending.as_mut())) => return Some(head),
                () = progress.sent() => {}
            }
        }
        watch.wait_for_answer(&self.shared.clock);
        let head = poll_fn(|task| match upstream.poll_head(task, sending.as_mut()) {
            Poll::Ready(head) => Poll::Ready(Some(head)),
            Poll::Pending if watch.is_late() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await;
        watch.set_busy();
        head
    }

    /// Gives the client the backend's answer.
    fn relay(
        &mut self,
        mut response: Response<Incoming>,
        upstream: Upstream,
        hold: Hold,
    ) -> Result<Response<Content>, Refusal> {
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let backend = switches.then(|| hyper::upgrade::on(&mut response));
        let (mut parts, incoming) = response.into_parts();
        parts.version = Version::HTTP_11;
        headers::to_client(&mut parts.headers, switches);
        let content = match (backend, self.upgrade.take()) {
            (None, _) => {
                let idle = self.shared.limits.idle;
                let progress = self.progress.take();
                Content::Backend(Download::new(incoming, upstream, hold, idle, progress))
            }
            (Some(backend), Some(client)) => {
                let tunnel = tunnel::upgraded(client, backend, upstream, hold);
                self.client.continue_with(Box::pin(tunnel));
                Content::empty()
            }
            (Some(_), None) => return Err(self.invalid("an upgrade that was not asked for")),
        };
        Ok(Response::from_parts(parts, content))
    }

    fn unreachable(&self, hold: &Hold, error: &io::Error) -> Refusal {
        let pool = self.pool.name().to_owned();
        debug!("`{pool}` cannot be reached at {}: {error}", hold.address());
        if error.kind() == io::ErrorKind::TimedOut {
            Refusal::Late(pool)
        } else {
            Refusal::Unreachable(pool)
        }
    }

    /// An exchange that broke off before the head of the answer was here.
    fn broken(&self, error: &hyper::Error) -> Refusal {
        let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref());
        match cause {
            Some(UploadError::Idle(_)) => Refusal::IdleUpload,
            Some(UploadError::Broken(_)) => Refusal::BrokenUpload,
            None => self.invalid(error),
        }
    }

    fn invalid(&self, why: impl std::fmt::Display) -> Refusal {
        warn!("`{}` gave no valid answer: {why}", self.pool.name());
        Refusal::Answer(self.pool.name().to_owned())
    }
}

/// Of a request without a body.
fn copy(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::none());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}
