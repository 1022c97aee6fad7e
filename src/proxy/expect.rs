//! `Expect: 100-continue` carried end to end: the client's body stays unread,
//! and so unasked for, until the upstream wants it.
//!
//! hyper asks the client for its body by the first read of it, so holding
//! back that read holds back the `100 Continue`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{Request, StatusCode};
use parking_lot::Mutex;
use tokio::time::Sleep;

/// Keeps a request body closed until the upstream says `100 Continue`, or
/// until it has said nothing for so long that it may not know the header.
#[derive(Debug)]
pub struct Gate {
    state: Arc<Mutex<State>>,
    timeout: Pin<Box<Sleep>>,
}

#[derive(Debug, Default)]
struct State {
    open: bool,
    waker: Option<Waker>,
}

impl Gate {
    /// A gate on this request that opens on the upstream's word, or after
    /// `timeout`, as RFC 9110, 10.1.1 asks of clients of older servers.
    pub fn on<B>(request: &mut Request<B>, timeout: Duration) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        hyper::ext::on_informational(request, move |response| {
            if response.status() == StatusCode::CONTINUE {
                let mut state = shared.lock();
                state.open = true;
                if let Some(waker) = state.waker.take() {
                    waker.wake();
                }
            }
        });
        Gate { state, timeout: Box::pin(tokio::time::sleep(timeout)) }
    }

    /// Ready once the body may be read.
    pub fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        {
            let mut state = self.state.lock();
            if state.open {
                return Poll::Ready(());
            }
            state.waker = Some(cx.waker().clone());
        }
        self.timeout.as_mut().poll(cx)
    }
}
