//! Frames that no honest client sends. Each is refused with a status, a reset
//! or the end of the connection, and the sidecar goes on for everyone else.

use crate::support::raw::frames::{self, END, END_HEADERS, Frame, block, frame, get};
use crate::support::raw::{Direction, End, Mesh, Raw};

/// What a client gets to hear.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// A response head on the stream.
    Answer,
    /// `RST_STREAM` or `GOAWAY` with an error, or the end of the connection.
    Refusal,
}

fn hello(mesh: &Mesh) -> Raw {
    let mut client = mesh.connect();
    client.send(frames::HELLO);
    client.frame_of(|f| f.kind == frames::SETTINGS && f.flags == 0);
    client
}

fn heard(client: &mut Raw, stream: u32) -> Heard {
    let about = |f: &Frame| {
        let stream_is_over = f.stream == stream && [frames::HEADERS, frames::RST_STREAM].contains(&f.kind);
        f.kind == frames::GOAWAY || stream_is_over
    };
    match client.frame_of(about).kind {
        frames::HEADERS => Heard::Answer,
        _ => Heard::Refusal,
    }
}

/// Another client is served as if nothing had happened.
fn serves_on(mesh: &Mesh) {
    let mut client = hello(mesh);
    client.send(frame(frames::HEADERS, END | END_HEADERS, 1, &block(&get(&mesh.host()))));
    // Connections that the hostile client caused come first, and end.
    let answered = (0..1_000).any(|_| answer(mesh.accept()));
    assert!(answered);
    let answer = client.frame_of(|f| f.kind == frames::HEADERS);
    assert_eq!(answer.flags & END, END);
}

/// Answers the first request on a connection, if one comes.
fn answer(mut server: Raw) -> bool {
    let hello = frames::HELLO.len() - 9;
    if !server.is_open() || !server.try_send(frame(frames::SETTINGS, 0, 0, &[])) {
        return false;
    }
    server.take(hello);
    let Some(request) = server.next_frame_of(|f| f.kind == frames::HEADERS) else { return false };
    // 0x88 is the indexed field `:status: 200` (RFC 7541, appendix A).
    server.send(frame(frames::HEADERS, END | END_HEADERS, request.stream, &[0x88]));
    server.is_open();
    true
}

fn with<'a>(host: &'a str, fields: &[(&'a str, &'a str)]) -> Vec<u8> {
    let mut all = get(host);
    all.extend_from_slice(fields);
    block(&all)
}

#[test]
fn malformed_heads_are_refused() {
    let mesh = Mesh::start(Direction::Inbound);
    let host = mesh.host();
    let heads: Vec<Vec<u8>> = vec![
        with(&host, &[("connection", "keep-alive")]),
        with(&host, &[("transfer-encoding", "chunked")]),
        with(&host, &[("keep-alive", "1")]),
        with(&host, &[("proxy-connection", "close")]),
        with(&host, &[("upgrade", "websocket")]),
        with(&host, &[("te", "gzip")]),
        with(&host, &[("X-Upper", "y")]),
        with(&host, &[("x y", "z")]),
        with(&host, &[("x:y", "z")]),
        with(&host, &[("", "z")]),
        with(&host, &[("x", "a\r\nb")]),
        with(&host, &[("x", "a\0b")]),
        with(&host, &[(":path", "/twice")]),
        with(&host, &[("x", "y"), (":late", "z")]),
        with(&host, &[(":status", "200")]),
        with(&host, &[("content-length", "3")]),
        with(&host, &[("content-length", "x")]),
        block(&[(":method", "GET"), (":scheme", "http"), (":authority", &host)]),
        block(&[(":scheme", "http"), (":authority", &host), (":path", "/")]),
        block(&[(":method", "GET"), (":scheme", "http"), (":authority", &host), (":path", "")]),
        block(&[(":method", "GET"), (":scheme", "http"), (":authority", "a b"), (":path", "/")]),
        block(&[(":method", "G T"), (":scheme", "http"), (":authority", &host), (":path", "/")]),
        block(&[(":method", "GET"), (":scheme", "http"), (":authority", &host), (":path", "/a b")]),
        vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ];
    for (index, head) in heads.iter().enumerate() {
        let mut client = hello(&mesh);
        client.send(frame(frames::HEADERS, END | END_HEADERS, 1, head));
        // A status of the proxy's own is a refusal just as well.
        heard(&mut client, 1);
        assert!(mesh.try_accept().is_none(), "head {index} reached the upstream");
    }
    serves_on(&mesh);
}

#[test]
fn an_authority_that_contradicts_host_is_refused() {
    for direction in crate::support::raw::ALL {
        let mesh = Mesh::start(direction);
        let mut client = hello(&mesh);
        client.send(frame(
            frames::HEADERS,
            END | END_HEADERS,
            1,
            &with(&mesh.host(), &[("host", "evil.example")]),
        ));
        heard(&mut client, 1);
        assert!(mesh.try_accept().is_none(), "{direction:?}");
    }
}

#[test]
fn a_host_in_place_of_an_authority_is_served_or_refused_with_a_status() {
    let mesh = Mesh::start(Direction::Inbound);
    let host = mesh.host();
    let mut client = hello(&mesh);
    let head = block(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", &host)]);
    client.send(frame(frames::HEADERS, END | END_HEADERS, 1, &head));
    let mut server = mesh.accept();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            server.take(frames::HELLO.len() - 9);
            server.send(frame(frames::SETTINGS, 0, 0, &[]));
            if let Some(request) = server.next_frame_of(|f| f.kind == frames::HEADERS) {
                server.send(frame(frames::HEADERS, END | END_HEADERS, request.stream, &[0x88]));
            }
        });
        assert_eq!(heard(&mut client, 1), Heard::Answer);
        drop(client);
    });
}

#[test]
fn oversized_header_lists_are_refused() {
    let mesh = Mesh::start(Direction::Inbound);
    let long = "x".repeat(15_000);
    let mut client = hello(&mesh);
    let mut fields = get("a");
    fields.extend([("x-long", &*long); 6]);
    let bytes = block(&fields);
    let mut parts = bytes.chunks(16_000);
    client.send(frame(frames::HEADERS, END, 1, parts.next().unwrap()));
    let rest: Vec<_> = parts.collect();
    for (index, part) in rest.iter().enumerate() {
        let last = if index + 1 == rest.len() { END_HEADERS } else { 0 };
        client.try_send(frame(frames::CONTINUATION, last, 1, part));
    }
    heard(&mut client, 1);
    assert!(mesh.try_accept().is_none());
    serves_on(&mesh);
}

#[test]
fn continuations_without_end_are_cut_off() {
    let mesh = Mesh::start(Direction::Inbound);
    let mut client = hello(&mesh);
    client.send(frame(frames::HEADERS, END, 1, &block(&get("a"))));
    let part = block(&[("x", "y")]);
    while client.try_send(frame(frames::CONTINUATION, 0, 1, &part)) {}
    let (End::Clean(_) | End::Reset(_)) = client.end();
    serves_on(&mesh);
}

#[test]
fn frames_that_break_the_protocol_end_the_connection() {
    let mesh = Mesh::start(Direction::Inbound);
    let broken: [Vec<u8>; 8] = [
        frame(frames::DATA, 0, 0, b"x"),
        frame(frames::DATA, END, 1, b"never opened"),
        frame(frames::HEADERS, END | END_HEADERS, 2, &block(&get("a"))),
        frame(frames::HEADERS, END | END_HEADERS, 0, &block(&get("a"))),
        frame(frames::CONTINUATION, END_HEADERS, 1, &block(&get("a"))),
        frame(frames::SETTINGS, 0, 0, b"short"),
        frame(frames::PING, 0, 0, b"short"),
        [&[0xff, 0xff, 0xff, frames::DATA, 0, 0, 0, 0, 1][..], &[0; 100]].concat(),
    ];
    for (index, bytes) in broken.iter().enumerate() {
        let mut client = hello(&mesh);
        client.send(bytes);
        client.frame_of(|f| f.kind == frames::GOAWAY || f.kind == frames::RST_STREAM);
        assert!(mesh.try_accept().is_none(), "{index}");
    }
    serves_on(&mesh);
}

/// Streams that are opened and reset at once cost the client more than us:
/// either all are taken, or the connection ends.
#[test]
fn rapid_resets_do_not_wear_the_sidecar_out() {
    let mesh = Mesh::start(Direction::Inbound);
    let head = block(&get(&mesh.host()));
    let mut client = hello(&mesh);
    for turn in 0..600_u32 {
        let stream = 2 * turn + 1;
        let mut bytes = frame(frames::HEADERS, END | END_HEADERS, stream, &head);
        bytes.extend(frame(frames::RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        if !client.try_send(bytes) {
            break;
        }
    }
    drop(client);
    serves_on(&mesh);
}

#[test]
fn pings_and_settings_without_end_are_answered_or_cut_off() {
    let mesh = Mesh::start(Direction::Inbound);
    for flood in [frame(frames::PING, 0, 0, b"12345678"), frame(frames::SETTINGS, 0, 0, &[])] {
        let mut client = hello(&mesh);
        for _ in 0..2_000 {
            if !client.try_send(&flood) {
                break;
            }
        }
    }
    serves_on(&mesh);
}

/// Whoever begins with the preface of HTTP/2 and goes on with something else.
#[test]
fn a_preface_with_nonsense_behind_it_ends() {
    let mesh = Mesh::start(Direction::Inbound);
    for rest in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"] {
        let mut client = mesh.connect();
        client.send(&frames::HELLO[..24]);
        client.send(rest);
        let (End::Clean(_) | End::Reset(_)) = client.end();
    }
    let mut client = mesh.connect();
    client.send("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 4"));
    serves_on(&mesh);
}
