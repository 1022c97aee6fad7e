//! `Expect: 100-continue` end to end: the client hears it from the upstream.

use crate::support::raw::{ALL, Direction, Mesh};

fn head(mesh: &Mesh) -> String {
    format!("PUT / HTTP/1.1\r\nHost: {}\r\nEXPECT: 100-Continue\r\nContent-Length: 5\r\n\r\n", mesh.host())
}

/// Longer than any test waits, so that only the upstream's word opens.
const PATIENT: &str = "limits: { expect_timeout: 60s }";

#[test]
fn the_word_of_the_upstream_opens() {
    for direction in ALL {
        let mesh = Mesh::with(direction, PATIENT);
        let (mut client, mut server) = mesh.pair();
        client.send(head(&mesh));
        assert_eq!(server.plain_head(), head(&mesh), "{direction:?}");
        client.is_quiet();
        server.send("HTTP/1.1 100 Continue\r\n\r\n");
        client.expect("HTTP/1.1 100 Continue\r\n\r\n");
        client.send("hello");
        server.expect("hello");
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        client.expect("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
        assert!(server.head().starts_with("GET"), "the connection goes on");
    }
}

#[test]
fn a_call_that_expects_is_not_waited_for() {
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}"#;
    for direction in ALL {
        let mesh = Mesh::with(direction, PATIENT);
        let (mut client, mut server) = mesh.pair();
        let head = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nExpect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            mesh.host(),
            call.len()
        );
        client.send(&head);
        assert_eq!(server.plain_head(), head, "{direction:?}");
        server.send("HTTP/1.1 100 Continue\r\n\r\n");
        client.expect("HTTP/1.1 100 Continue\r\n\r\n");
        client.send(call);
        server.expect(call);
    }
}

#[test]
fn a_refusal_comes_without_the_word() {
    for status in ["417 Expectation Failed", "401 Unauthorized"] {
        for direction in ALL {
            let mesh = Mesh::with(direction, PATIENT);
            let (mut client, mut server) = mesh.pair();
            client.send(head(&mesh));
            server.head();
            let refusal = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno");
            server.send(&refusal);
            drop(server);
            client.expect(&refusal);
            client.is_gone();
        }
    }
}

#[test]
fn a_refusal_that_keeps_the_connection_does_not_ask_for_the_body() {
    for direction in ALL {
        let mesh = Mesh::with(direction, PATIENT);
        let (mut client, mut server) = mesh.pair();
        client.send(head(&mesh));
        server.head();
        let refusal = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno";
        server.send(refusal);
        client.expect(refusal);
        client.is_quiet();
    }
}

#[test]
fn a_server_that_never_says_the_word_gets_the_body_after_a_while() {
    for direction in ALL {
        let mesh = Mesh::with(direction, "limits: { expect_timeout: 50ms }");
        let (mut client, mut server) = mesh.pair();
        client.send(head(&mesh));
        server.head();
        client.expect("HTTP/1.1 100 Continue\r\n\r\n");
        client.send("hello");
        server.expect("hello");
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        client.expect("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
}

#[test]
fn a_client_that_does_not_wait_loses_nothing() {
    for direction in ALL {
        let mesh = Mesh::with(direction, PATIENT);
        let (mut client, mut server) = mesh.pair();
        client.send(format!("{}hello", head(&mesh)));
        server.head();
        server.send("HTTP/1.1 100 Continue\r\n\r\n");
        server.expect("hello");
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        client.expect("HTTP/1.1 100 Continue\r\n\r\n");
        client.expect("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
}

#[test]
fn an_expectation_without_a_body_only_passes() {
    let mesh = Mesh::with(Direction::Inbound, PATIENT);
    let (mut client, mut server) = mesh.pair();
    let head = format!("GET / HTTP/1.1\r\nHost: {}\r\nExpect: 100-continue\r\n\r\n", mesh.host());
    client.send(&head);
    assert_eq!(server.plain_head(), head);
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    client.expect("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
}
