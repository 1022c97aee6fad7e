//! Asks a sidecar's `/ready` until it says yes.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// The time between two questions.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest time for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The most bytes of an answer that are read.
const MAX_ANSWER_BYTES: usize = 1024;

/// The time was over and the sidecar had not said that it is ready.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("http://{admin}/ready did not say ready within {timeout:?}; last answer: {last}")]
pub struct NotReady {
    admin: SocketAddr,
    timeout: Duration,
    last: String,
}

/// Returns once the sidecar with this admin address is ready. It is asked at
/// least once, however short the time.
///
/// # Errors
/// [`NotReady`], with the last answer in words, when the time is over.
pub async fn wait(admin: SocketAddr, timeout: Duration) -> Result<(), NotReady> {
    let start = Instant::now();
    loop {
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, ask(admin)).await;
        let last = match answer {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(reason)) => reason,
            Err(_) => format!("none within {ANSWER_TIMEOUT:?}"),
        };
        let left = timeout.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Err(NotReady { admin, timeout, last });
        }
        tokio::time::sleep(PAUSE.min(left)).await;
    }
}

/// One question: `Ok` is ready, and an error says why not.
async fn ask(admin: SocketAddr) -> Result<(), String> {
    let stream = TcpStream::connect(admin).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let request = Request::get("/ready")
        .header(HOST, admin.to_string())
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        Ok::<(StatusCode, Bytes), String>((status, body))
    };
    // The connection moves only while it is polled; when it ends first, the
    // exchange has already been told why.
    let exchange = async {
        tokio::pin!(exchange);
        tokio::select! {
            done = &mut exchange => done,
            _ = connection => exchange.await,
        }
    };
    let (status, body) = exchange.await?;
    if status == StatusCode::OK {
        return Ok(());
    }
    let body: String = String::from_utf8_lossy(&body).replace(char::is_control, " ");
    Err(format!("{status} {}", body.trim()).trim_end().to_owned())
}
