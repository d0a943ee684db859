//! How the proxy passes requests on, and how it fails to.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LAST_MODIFIED};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::{DELAY, Desk, Fault};

type AnyBody = BoxBody<Bytes, io::Error>;

/// Takes connections for ever.
pub(super) async fn serve(listener: TcpListener, desk: Desk) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let desk = desk.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(desk.clone(), request));
            // A connection that ends with an error is what this proxy is for.
            drop(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        });
    }
}

/// An error ends the connection without an answer.
async fn answer(desk: Desk, request: Request<Incoming>) -> io::Result<Response<AnyBody>> {
    let (parts, body) = request.into_parts();
    let fault = desk.fault(&parts);
    match fault {
        Some(Fault::Drop) => return Err(broken()),
        Some(Fault::InternalError) => {
            return Ok(refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"));
        }
        Some(Fault::SlowDown) => {
            return Ok(refusal(StatusCode::SERVICE_UNAVAILABLE, "SlowDown"));
        }
        Some(Fault::Delay) => tokio::time::sleep(DELAY).await,
        _ => {}
    }
    let body = match fault {
        // A request without a body is cut by ending it.
        Some(Fault::CutRequest) if body.is_end_stream() => return Err(broken()),
        Some(Fault::CutRequest) => Cut::in_half(body).boxed(),
        _ => body.map_err(io::Error::other).boxed(),
    };
    let stream = TcpStream::connect(desk.upstream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(connection);
    let answer = sender.send_request(Request::from_parts(parts, body)).await;
    let (mut parts, body) = answer.map_err(io::Error::other)?.into_parts();
    if fault == Some(Fault::Age) && parts.headers.contains_key(LAST_MODIFIED) {
        let long_ago = HeaderValue::from_static("Wed, 01 Jan 2020 00:00:00 GMT");
        parts.headers.insert(LAST_MODIFIED, long_ago);
    }
    let body = match fault {
        Some(Fault::Forget) => {
            // The server has done everything once the answer is here whole.
            body.collect().await.map_err(io::Error::other)?;
            return Err(broken());
        }
        Some(Fault::CutAnswer) if body.is_end_stream() => return Err(broken()),
        Some(Fault::CutAnswer) => Cut::in_half(body).boxed(),
        Some(Fault::Shorten) if parts.status.is_success() => {
            let bytes = body.collect().await.map_err(io::Error::other)?.to_bytes();
            let half = bytes.slice(..bytes.len() / 2);
            parts.headers.insert(CONTENT_LENGTH, half.len().into());
            whole(half)
        }
        _ => body.map_err(io::Error::other).boxed(),
    };
    Ok(Response::from_parts(parts, body))
}

fn broken() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionReset)
}

fn whole(bytes: Bytes) -> AnyBody {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

/// As an S3 server words it.
fn refusal(status: StatusCode, code: &str) -> Response<AnyBody> {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>of the test</Message></Error>"
    );
    let mut response = Response::new(whole(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, "application/xml".parse().unwrap());
    response
}

/// A body that breaks off.
struct Cut {
    body: Incoming,
    left: u64,
}

impl Cut {
    fn in_half(body: Incoming) -> Self {
        // Of a body of unknown length, a little.
        let left = body.size_hint().exact().map_or(100, |size| size / 2);
        Self { body, left }
    }
}

impl Body for Cut {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(Some(Err(broken())));
        }
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        let Some(frame) = frame else { return Poll::Ready(Some(Err(broken()))) };
        let frame = frame.map_err(io::Error::other)?;
        let Ok(mut data) = frame.into_data() else { return Poll::Ready(Some(Err(broken()))) };
        data.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= data.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
