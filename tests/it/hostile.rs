//! Messages that different servers read differently: each is refused, or the
//! upstream gets exactly one message that can be read in one way only.

mod framing;
mod heads;
mod http2;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::raw::strict::{self, Request};
use crate::support::raw::{Direction, End, Mesh, text};

/// The request line of what follows the message under test.
const INNOCENT: &str = "GET /innocent HTTP/1.1";

/// What became of a message.
#[derive(Debug)]
enum Outcome {
    /// The proxy answered with this status, or closed without one.
    Refused(Option<u16>),
    /// The upstream got it as this.
    Passed(Box<Request>),
}

impl Outcome {
    #[track_caller]
    fn refused(self) -> Option<u16> {
        match self {
            Outcome::Refused(status) => status,
            Outcome::Passed(request) => panic!("passed: {request:?}"),
        }
    }

    #[track_caller]
    fn passed(self) -> Request {
        match self {
            Outcome::Passed(request) => *request,
            Outcome::Refused(status) => panic!("refused: {status:?}"),
        }
    }
}

/// Sends a message and, behind it, an innocent one that closes the
/// connection. `$HOST` stands for the upstream. The test fails unless the
/// first is refused, or passes as one message with the other behind it.
fn send(direction: Direction, message: impl AsRef<[u8]>) -> Outcome {
    let mesh = Mesh::start(direction);
    let host = mesh.host();
    let mut bytes = replace(message.as_ref(), b"$HOST", host.as_bytes());
    let shown = text(&bytes);
    bytes.extend(format!("{INNOCENT}\r\nHost: {host}\r\nConnection: close\r\n\r\n").bytes());
    let over = AtomicBool::new(false);
    let (got, answer) = std::thread::scope(|scope| {
        let upstream = scope.spawn(|| upstream(&mesh, &over));
        let mut client = mesh.connect();
        client.try_send(&bytes);
        let (End::Clean(answer) | End::Reset(answer)) = client.end();
        drop(client);
        over.store(true, Ordering::Relaxed);
        (upstream.join().unwrap(), answer)
    });
    let status = answer.strip_prefix(b"HTTP/1.1 ").or(answer.strip_prefix(b"HTTP/1.0 "));
    let status = status.and_then(|rest| text(&rest[..3]).parse().ok());
    match strict::requests(&got) {
        // A refusal of a request whose end is known need not end the connection.
        Ok(requests) if requests.iter().all(|r| r.line == INNOCENT) && requests.len() < 2 => {
            let told = requests.is_empty() || status.is_some();
            let fits = told && status.is_none_or(|s| (400..500).contains(&s));
            assert!(fits, "{direction:?}: {status:?} for {shown:?}");
            Outcome::Refused(status)
        }
        Ok(mut requests) => {
            let last = requests.last().unwrap().line.clone();
            assert!(
                requests.len() == 1 || (requests.len() == 2 && last == INNOCENT),
                "{direction:?}: {requests:?} for {shown:?}"
            );
            Outcome::Passed(Box::new(requests.remove(0)))
        }
        // What broke off in the middle was never a message.
        Err(problem) if is_cut(&problem) => Outcome::Refused(status),
        Err(problem) => panic!("{direction:?}: {problem} in {:?} for {shown:?}", text(&got)),
    }
}

fn is_cut(problem: &str) -> bool {
    ["is short", "has no end", "have no end", "has no size"].iter().any(|end| problem.ends_with(end))
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    while let Some(at) = crate::support::raw::find(&out, from) {
        out.splice(at..at + from.len(), to.iter().copied());
    }
    out
}

/// Takes every connection, answers every whole message, closes on the first
/// thing that is none, and gives all the bytes that came.
fn upstream(mesh: &Mesh, over: &AtomicBool) -> Vec<u8> {
    let mut got = Vec::new();
    loop {
        let ending = over.load(Ordering::Relaxed);
        match mesh.try_accept() {
            Some(server) => serve(server.socket(), &mut got),
            None if ending => return got,
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn serve(mut stream: &TcpStream, got: &mut Vec<u8>) {
    let start = got.len();
    let mut answered = 0;
    let mut part = [0; 4096];
    loop {
        match stream.read(&mut part) {
            Ok(0) => return,
            Ok(length) => got.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
        let mut rest = &got[start..];
        let mut whole = 0;
        while !rest.is_empty() {
            match strict::request(rest) {
                Ok((_, more)) => (whole, rest) = (whole + 1, more),
                Err(problem) if is_cut(&problem) => break,
                Err(_) => return,
            }
        }
        for _ in answered..whole {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
        answered = whole;
    }
}

#[test]
fn the_innocent_pass() {
    for direction in crate::support::raw::ALL {
        let request =
            send(direction, "POST /a HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 3\r\n\r\nabc").passed();
        assert_eq!((request.line.as_str(), &request.body[..]), ("POST /a HTTP/1.1", &b"abc"[..]));
    }
}
