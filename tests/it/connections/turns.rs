//! Deadlines and turns that belong to one exchange do not reach another, and
//! one direction that stands still does not stop the other.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::support::raw::{Direction, Mesh, field, wait};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Longer than the tick of the registry takes to see a deadline of 100 ms.
const AFTER_THE_TICK: Duration = Duration::from_secs(4);

#[test]
fn the_deadline_of_a_refused_head_is_not_that_of_the_next_request() {
    // One is refused at once, the other after a dial.
    let refused = ["Host: a b", "Host: 127.0.0.1:1"].map(|host| {
        thread::spawn(move || {
            let mesh = Mesh::with(Direction::Forward, "limits: { head_timeout: 100ms }");
            let mut client = mesh.connect();
            client.send("GET / HT");
            // The head has to arrive in two pieces.
            thread::sleep(Duration::from_millis(200));
            client.send(format!("TP/1.1\r\n{host}\r\n\r\n"));
            let head = client.head();
            client.take(field(&head, "content-length").unwrap().parse().unwrap());
            thread::sleep(AFTER_THE_TICK);
            client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
            let mut server = mesh.accept();
            server.head();
            server.send(OK);
            client.expect(OK);
        })
    });
    refused.into_iter().for_each(|test| test.join().unwrap());
}

#[test]
fn the_rest_of_a_request_whose_answer_has_ended_is_no_head() {
    let mesh = Mesh::with(Direction::Inbound, "limits: { head_timeout: 100ms }");
    let (mut client, mut server) = mesh.pair();
    client.send(format!("PUT / HTTP/1.1\r\nHost: {}\r\nContent-Length: 43\r\n\r\nabc", mesh.host()));
    server.head();
    server.expect("abc");
    server.send(OK);
    client.expect(OK);
    for _ in 0..40 {
        thread::sleep(AFTER_THE_TICK / 40);
        client.send("d");
        server.expect("d");
    }
}

#[test]
fn an_upload_goes_on_while_nobody_reads_the_answer() {
    /// More than the buffers of all the sockets between.
    const LENGTH: usize = 48 << 20;
    let mesh = Mesh::start(Direction::Inbound);
    let listener = mesh.listener();
    listener.set_nonblocking(false).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // An answer that comes before its request is none.
        let body = read_head(&mut stream);
        let mut answering = stream.try_clone().unwrap();
        let answer = thread::spawn(move || {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
            answering.write_all(head.as_bytes()).unwrap();
            write(&mut answering, LENGTH);
        });
        read_body(&mut stream, body, LENGTH);
        answer.join().unwrap();
    });
    let mut client = TcpStream::connect(mesh.address()).unwrap();
    client.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(client, "PUT / HTTP/1.1\r\nHost: {}\r\nContent-Length: {LENGTH}\r\n\r\n", mesh.host()).unwrap();
    client.write_all(&[b'u'; 65_536]).unwrap();
    // The answer fills every buffer meanwhile.
    thread::sleep(Duration::from_secs(1));
    write(&mut client, LENGTH - 65_536);
    let body = read_head(&mut client);
    read_body(&mut client, body, LENGTH);
    server.join().unwrap();
}

#[test]
fn a_body_that_trickles_streams_after_its_time() {
    let mesh = Mesh::with(Direction::Inbound, "limits: { body_gap: 1s, body_wait: 1s }");
    let mut client = mesh.connect();
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        mesh.host()
    ));
    let mut server = wait("the upstream to be dialled", || {
        client.send("1\r\n \r\n");
        thread::sleep(Duration::from_millis(50));
        mesh.try_accept()
    });
    assert!(server.head().starts_with("POST"));
}

/// Writes so many bytes piece by piece: the timeout of a socket is for one
/// call, and must mean that nothing moves, not that a busy machine is slow.
fn write(stream: &mut TcpStream, length: usize) {
    let piece = [b'x'; 65_536];
    let mut left = length;
    while left > 0 {
        let count = left.min(piece.len());
        stream.write_all(&piece[..count]).unwrap();
        left -= count;
    }
}

/// Reads a head, and says how many bytes of the body came with it.
fn read_head(stream: &mut TcpStream) -> usize {
    let mut buffer = vec![0; 65_536];
    let mut head = Vec::new();
    loop {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0);
        head.extend_from_slice(&buffer[..count]);
        if let Some(end) = head.windows(4).position(|w| w == b"\r\n\r\n") {
            return head.len() - end - 4;
        }
    }
}

/// Reads a body of which `body` bytes have come already.
fn read_body(stream: &mut TcpStream, mut body: usize, length: usize) {
    let mut buffer = vec![0; 65_536];
    while body < length {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "ended after {body}");
        body += count;
    }
}
