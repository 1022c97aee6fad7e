//! Stopping: what is in flight finishes, what is idle closes, and nobody new
//! gets in.

use std::net::TcpStream;

use crate::support::raw::{ALL, Direction, End, Mesh, wait};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn idle_connections_close_and_those_in_flight_finish() {
    for direction in ALL {
        let mut mesh = Mesh::start(direction);
        let (mut idle, mut idle_server) = mesh.pair();
        let mut untouched = mesh.connect();
        let (mut busy, mut server) = mesh.pair();
        busy.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
        server.head();
        let stopping = mesh.stop_beside();
        idle.closes();
        idle_server.is_gone();
        untouched.is_gone();
        wait("the listener to refuse", || TcpStream::connect(mesh.address()).is_err().then_some(()));
        assert!(!stopping.is_finished(), "{direction:?}: an exchange is in flight");
        server.send(OK);
        let head = busy.head();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"), "{head}");
        assert_eq!(busy.end(), End::Clean(b"ok".to_vec()), "{direction:?}");
        stopping.join().unwrap();
    }
}

#[test]
fn a_stream_that_flows_finishes() {
    for direction in ALL {
        let mut mesh = Mesh::start(direction);
        let (mut client, mut server) = mesh.pair();
        client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
        server.head();
        server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        client.head();
        client.chunked(3);
        let stopping = mesh.stop_beside();
        wait("the listener to refuse", || TcpStream::connect(mesh.address()).is_err().then_some(()));
        server.send("3\r\ndef\r\n");
        assert_eq!(client.chunked(3), b"def", "{direction:?}");
        server.send("0\r\n\r\n");
        client.chunked_end();
        client.closes();
        stopping.join().unwrap();
    }
}

#[test]
fn an_exchange_that_does_not_end_is_cut_off_after_the_limit() {
    let mut mesh = Mesh::with(Direction::Inbound, "limits: { drain_timeout: 50ms }");
    let (mut client, mut server) = mesh.pair();
    client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
    server.head();
    mesh.stop();
    client.is_gone();
    server.is_gone();
}

#[test]
fn a_half_sent_head_does_not_hold_up_the_stop() {
    let mut mesh = Mesh::with(Direction::Inbound, "limits: { drain_timeout: 1h }");
    let mut client = mesh.connect();
    client.send("GET / HTT");
    let mut begun = mesh.connect();
    begun.send("P");
    let (mut other, _server) = mesh.pair();
    other.send("GET / HTTP/1.1\r\nHo");
    let stopping = mesh.stop_beside();
    wait("the stop", || stopping.is_finished().then_some(()));
}

#[test]
fn what_was_traced_is_exported_before_the_end() {
    let mut mesh = Mesh::start(Direction::Inbound);
    let (client, server) = mesh.pair();
    drop((client, server));
    mesh.stop();
    assert!(mesh.exported(b"http.request.method"));
}
