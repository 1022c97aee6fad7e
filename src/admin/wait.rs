//! Asks a sidecar's `/ready` until it says yes.

use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use crate::net::ask;

/// The time between two questions.
const PAUSE: Duration = Duration::from_millis(100);

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
        let last = match ask(admin).await {
            Ok(()) => return Ok(()),
            Err(reason) => reason,
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
    let (status, body) = ask::get(admin, "/ready", MAX_ANSWER_BYTES).await?;
    if status == StatusCode::OK {
        return Ok(());
    }
    let body: String = String::from_utf8_lossy(&body).replace(char::is_control, " ");
    Err(format!("{status} {}", body.trim()).trim_end().to_owned())
}
