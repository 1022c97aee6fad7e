//! One question to an HTTP server nearby, such as the admin port of a sidecar.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The longest time for one answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The answer to `GET path`, whatever its status, of at most `max_bytes`.
///
/// # Errors
/// Why there is none, in words.
pub async fn get(server: SocketAddr, path: &str, max_bytes: usize) -> Result<(StatusCode, Bytes), String> {
    match tokio::time::timeout(ANSWER_TIMEOUT, ask(server, path, max_bytes)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {ANSWER_TIMEOUT:?}")),
    }
}

async fn ask(server: SocketAddr, path: &str, max_bytes: usize) -> Result<(StatusCode, Bytes), String> {
    let stream = TcpStream::connect(server).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let request = Request::get(path)
        .header(HOST, server.to_string())
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), max_bytes).collect().await;
        let body = body.map_err(|_| format!("{status}, and a body that broke off or is too long"))?;
        Ok((status, body.to_bytes()))
    };
    // The connection moves only while it is polled; when it ends first, the
    // exchange has already been told why.
    tokio::pin!(exchange);
    tokio::select! {
        done = &mut exchange => done,
        _ = connection => exchange.await,
    }
}
