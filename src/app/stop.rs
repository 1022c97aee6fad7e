//! When a sidecar that was told to stop may go: not before the application
//! that it serves, where both are told at the same time.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The time between two looks at the application.
const LOOK: Duration = Duration::from_millis(200);

/// How long an address may take to accept.
const CONNECT: Duration = Duration::from_millis(200);

/// Returns when nobody accepts on these addresses any more and two looks in a
/// row find no connection open, or when the deadline has passed. An
/// application that has closed its port may still finish what it was asked,
/// and make calls for it, so that alone does not count.
pub(super) fn wait_for(application: &[SocketAddr], open: &AtomicUsize, deadline: Instant) {
    let mut quiet = 0;
    while quiet < 2 && Instant::now() < deadline {
        let busy = application.iter().any(accepts) || open.load(Ordering::Relaxed) > 0;
        quiet = if busy { 0 } else { quiet + 1 };
        std::thread::sleep(LOOK.min(deadline.saturating_duration_since(Instant::now())));
    }
}

/// Whether somebody is there. Only a clear refusal says that nobody is.
fn accepts(address: &SocketAddr) -> bool {
    match TcpStream::connect_timeout(address, CONNECT) {
        Ok(_) => true,
        Err(error) => matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn it_waits_for_the_port_and_for_the_connections() {
        let far = Instant::now() + Duration::from_secs(600);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::new(AtomicUsize::new(1));
        let seen = Arc::clone(&open);
        let waiting = std::thread::spawn(move || wait_for(&[address], &seen, far));
        // It looks at the port before anything else can end the wait.
        drop(listener.accept().unwrap());
        assert!(!waiting.is_finished());
        drop(listener);
        assert!(!waiting.is_finished(), "a connection is open");
        open.store(0, Ordering::Relaxed);
        waiting.join().unwrap();
    }

    #[test]
    fn it_has_an_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let soon = Instant::now() + Duration::from_millis(20);
        wait_for(&[listener.local_addr().unwrap()], &AtomicUsize::new(1), soon);
        wait_for(&[], &AtomicUsize::new(0), Instant::now() + Duration::from_secs(600));
    }
}
