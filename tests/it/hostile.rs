//! Messages that different servers read differently: each is refused, or the
//! upstream gets exactly one message that can be read in one way only.

mod http2;
mod slow;

use crate::support::raw::strict::{self, Request};
use crate::support::raw::{ALL, Direction, End, FIXED, Mesh, Raw, text};

/// What became of some bytes.
enum Outcome {
    /// The proxy answered with this status, or closed without one.
    Refused(Option<u16>),
    /// The upstream got these messages and nothing else.
    Passed(Vec<Request>),
}

/// Sends bytes as a client that then has nothing more to say, with an
/// upstream that answers each message it gets.
fn send(direction: Direction, bytes: &[u8]) -> Outcome {
    let mesh = Mesh::start(direction);
    let bytes = replace(bytes, b"$HOST", mesh.host().as_bytes());
    let mut client = mesh.connect();
    client.try_send(&bytes);
    let shown = text(&bytes);
    std::thread::scope(|scope| {
        let answered = scope.spawn(|| answer_all(&mesh));
        let status = first_status(&mut client);
        // The close of the client ends whatever the upstream waits for.
        drop(client);
        let _ = mesh.address();
        done(&mesh);
        let got = answered.join().unwrap();
        if got.is_empty() {
            assert!(status.is_none_or(|s| (400..500).contains(&s) || s == 505 || s == 501), "{direction:?}: {status:?} for {shown:?}");
            return Outcome::Refused(status);
        }
        match strict::requests(&got) {
            Ok(requests) => Outcome::Passed(requests),
            // A message that has begun and broke off was never acted upon.
            Err(_) if status.is_none_or(|s| s >= 400) && !looks_whole(&got) => Outcome::Refused(status),
            Err(problem) => panic!("{direction:?}: {problem} in {:?} for {shown:?}", text(&got)),
        }
    })
}
