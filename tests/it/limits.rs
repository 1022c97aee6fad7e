//! Every key under `limits:` is reached once, through the configuration file.

use crate::support::raw::frames::{self, frame};
use crate::support::raw::h2::{soon, status};
use crate::support::raw::{Direction, Mesh, Raw, field, find, wait};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}"#;

fn post(mesh: &Mesh, framing: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{framing}\r\n\r\n", mesh.host())
}

#[test]
fn body_bytes_a_longer_call_streams_and_keeps_its_bytes() {
    let file = format!("limits: {{ body_bytes: {}B }}", CALL.len());
    let mesh = Mesh::with(Direction::Inbound, &file);
    let (mut client, mut server) = mesh.pair();
    client.send(format!("{}{CALL}", post(&mesh, &format!("Content-Length: {}", CALL.len()))));
    let length = field(&server.head(), "content-length").unwrap().parse().unwrap();
    assert!(find(&server.take(length), b"traceparent").is_some(), "as long as the limit is not over it");
    server.send(OK);
    client.expect(OK);
    client.send(format!("{}{CALL} ", post(&mesh, &format!("Content-Length: {}", CALL.len() + 1))));
    assert!(field(&server.head(), "traceparent").is_some());
    server.expect(format!("{CALL} "));
    server.send(OK);
    client.expect(OK);
    client.send(format!("{}{:x}\r\n{CALL} \r\n", post(&mesh, "Transfer-Encoding: chunked"), CALL.len() + 1));
    server.head();
    assert_eq!(server.chunked(CALL.len() + 1), format!("{CALL} ").as_bytes(), "before its end");
}

#[test]
fn held_bytes_a_body_without_room_streams() {
    let mut mesh = Mesh::with(Direction::Inbound, "limits: { held_bytes: 2KiB, body_wait: 1m }");
    let (mut client, mut server) = mesh.pair();
    let call = |length: usize| {
        let name = "n".repeat(length - CALL.len());
        CALL.replace(r#""a""#, &format!(r#""a{name}""#))
    };
    // Twice, because what was held has to be given back.
    for _ in 0..2 {
        let body = call(1500);
        client.send(format!("{}{}", post(&mesh, "Content-Length: 1500"), &body[..1000]));
        std::thread::sleep(std::time::Duration::from_millis(20));
        client.send(&body[1000..]);
        let length = field(&server.head(), "content-length").unwrap().parse().unwrap();
        assert!(find(&server.take(length), b"traceparent").is_some(), "it was held until it was whole");
        server.send(OK);
        client.expect(OK);
    }
    let body = call(3000);
    client.send(format!("{}{}", post(&mesh, "Content-Length: 3000"), &body[..1000]));
    assert!(field(&server.head(), "traceparent").is_some());
    server.expect(&body[..1000]);
    client.send(&body[1000..]);
    server.expect(&body[1000..]);
    server.send(OK);
    client.expect(OK);
    drop((client, server));
    mesh.stop();
    assert!(mesh.exported(b"no_room"));
}

#[test]
fn event_bytes_a_longer_event_passes_unseen() {
    let mut mesh = Mesh::with(Direction::Inbound, "limits: { event_bytes: 100B }");
    let (mut client, mut server) = mesh.pair();
    client.send(format!("{}{CALL}", post(&mesh, &format!("Content-Length: {}", CALL.len()))));
    let length = field(&server.head(), "content-length").unwrap().parse().unwrap();
    server.take(length);
    let event =
        format!("data: {{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{\"x\":\"{}\"}}}}\n\n", "x".repeat(200));
    server.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
    server.send(format!("{:x}\r\n{event}\r\n0\r\n\r\n", event.len()));
    client.head();
    assert_eq!(client.chunked_end().0, event.as_bytes());
    drop((client, server));
    mesh.stop();
    assert!(mesh.exported(b"meshtrace.response") && mesh.exported(b"too_large"));
}

#[test]
fn head_bytes_a_longer_head_is_431() {
    let mesh = Mesh::with(Direction::Inbound, "limits: { head_bytes: 8KiB }");
    let mut client = mesh.connect();
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(8000)));
    mesh.accept().head();
    let mut client = mesh.connect();
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(8200)));
    assert!(client.head().starts_with("HTTP/1.1 431 "));
}

#[test]
fn headers_one_more_is_431() {
    for (file, most) in [("limits: { headers: 16 }", 16), ("limits: { headers: 200 }", 200), ("", 100)] {
        let mesh = Mesh::with(Direction::Inbound, file);
        let head = |count: usize| {
            let fields: String = (1..count).map(|i| format!("X-{i}: y\r\n")).collect();
            format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
        };
        let mut client = mesh.connect();
        client.send(head(most));
        let mut server = mesh.accept();
        server.head();
        server.send(OK);
        client.expect(OK);
        client.send(head(most + 1));
        assert!(client.head().starts_with("HTTP/1.1 431 "), "{most}");
    }
}

#[tokio::test]
async fn headers_are_counted_on_http2_too() {
    let mesh = Mesh::with(Direction::Inbound, "limits: { headers: 16 }");
    let mut client = mesh.connect_h2().await;
    let request = |count: usize| {
        (0..count).fold(mesh.request("GET", "/"), |request, i| request.header(format!("x-{i}"), "y"))
    };
    let (answer, _) = client.send(request(17), true).await;
    assert_eq!(soon("an answer", answer).await.unwrap().status(), 431);
    let (answer, _) = client.send(request(16), true).await;
    let mut server = mesh.accept_h2().await;
    let (_, mut respond) = server.stream().await;
    respond.send_response(status(200).body(()).unwrap(), true).unwrap();
    assert_eq!(soon("an answer", answer).await.unwrap().status(), 200);
}

#[test]
fn connections_one_more_is_closed_at_once() {
    let mesh = Mesh::with(Direction::Inbound, "limits: { connections: 2 }");
    let (first, _a) = mesh.pair();
    let (mut second, mut b) = mesh.pair();
    let mut third = mesh.connect();
    third.is_gone();
    second.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    b.head();
    b.send(OK);
    second.expect(OK);
    drop(first);
    // The place is free once the sidecar has seen the close.
    wait("a free place", || {
        let mut client = mesh.connect();
        client.try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        wait("the sidecar's mind", || {
            mesh.try_accept().map(|_| true).or_else(|| has_ended(&client).then_some(false))
        })
        .then_some(())
    });
}

fn has_ended(client: &Raw) -> bool {
    let socket = client.socket();
    socket.set_nonblocking(true).unwrap();
    match socket.peek(&mut [0]) {
        Ok(length) => length == 0,
        Err(error) => crate::support::raw::is_break(&error),
    }
}

#[test]
fn concurrent_streams_one_more_is_refused() {
    let mesh = Mesh::with(Direction::Inbound, "limits: { concurrent_streams: 3 }");
    let mut client = mesh.connect();
    let host = mesh.host();
    client.send(frames::HELLO);
    let settings = client.frame_of(|f| f.kind == frames::SETTINGS && f.flags == 0);
    let most = settings.payload.chunks(6).find(|s| s[..2] == [0, 3]).map(|s| s[5]);
    assert_eq!(most, Some(3));
    let block = frames::block(&frames::get(&host));
    for stream in [1, 3, 5, 7] {
        client.send(frame(frames::HEADERS, frames::END | frames::END_HEADERS, stream, &block));
    }
    let reset = client.frame_of(|f| f.kind == frames::RST_STREAM);
    assert_eq!((reset.stream, &reset.payload[..]), (7, &[0, 0, 0, 7][..]), "REFUSED_STREAM");
}

#[test]
fn head_timeout_a_slow_head_is_cut_off() {
    for start in ["GET / HTTP/1.1\r\nHo", "P", "PRI * HTTP/2.0\r\n\r\nS", "\r\n"] {
        let mesh = Mesh::with(Direction::Inbound, "limits: { head_timeout: 100ms }");
        let mut client = mesh.connect();
        client.send(start);
        client.is_gone();
    }
}

#[test]
fn head_timeout_holds_for_later_heads_and_not_for_idle_clients() {
    let mesh = Mesh::with(Direction::Inbound, "limits: { head_timeout: 100ms }");
    let (mut idle, mut idle_server) = mesh.pair();
    let (mut client, _server) = mesh.pair();
    client.send("GET / HT");
    client.is_gone();
    // By now the idle one has been idle for longer than that.
    idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    idle_server.head();
    idle_server.send(OK);
    idle.expect(OK);
}

#[test]
fn body_wait_a_known_length_streams_after_it() {
    let mesh = Mesh::with(Direction::Inbound, "limits: { body_wait: 50ms }");
    let (mut client, mut server) = mesh.pair();
    client.send(format!("{}{}", post(&mesh, &format!("Content-Length: {}", CALL.len())), &CALL[..20]));
    server.head();
    server.expect(&CALL[..20]);
    client.send(&CALL[20..]);
    server.expect(&CALL[20..]);
}

#[test]
fn body_gap_an_unknown_length_streams_after_it() {
    let mesh = Mesh::with(Direction::Inbound, "limits: { body_gap: 1ms }");
    let (mut client, mut server) = mesh.pair();
    client.send(format!("{}14\r\n{}\r\n", post(&mesh, "Transfer-Encoding: chunked"), &CALL[..20]));
    server.head();
    assert_eq!(server.chunked(20), &CALL.as_bytes()[..20]);
}

#[test]
fn drain_timeout_nothing_is_waited_for_where_it_is_zero() {
    let mut mesh = Mesh::with(Direction::Base, "limits: { drain_timeout: 0ms }");
    let (mut client, mut server) = mesh.pair();
    client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
    server.head();
    mesh.stop();
    client.is_gone();
}

// `connect_timeout` and `response_timeout` are reached in `failures`,
// `expect_timeout` in `transparency::expect`.
