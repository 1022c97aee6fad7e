//! Connections that stop being HTTP: after 101 and after `CONNECT` the bytes
//! are copied, whatever they are.

use crate::support::raw::{ALL, Direction, End, FIXED, Mesh, Raw};

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nCONNECTION: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: x\r\n\r\n";

fn upgrade(mesh: &Mesh) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: {}\r\nconnection: keep-alive, UPGRADE\r\nupgrade: WebSocket\r\nSec-WebSocket-Key: y\r\n\r\n",
        mesh.host()
    )
}

/// Bytes that are no HTTP, both ways, in turns.
fn talk(client: &mut Raw, server: &mut Raw) {
    for turn in 0..5_u8 {
        let word = [0, 0xff, b'\r', b'\n', turn];
        client.send(word);
        server.expect(word);
        server.send(word);
        client.expect(word);
    }
}

fn switched(mesh: &Mesh) -> (Raw, Raw) {
    let mut client = mesh.connect();
    client.send(upgrade(mesh));
    let mut server = mesh.accept();
    assert_eq!(server.plain_head(), upgrade(mesh));
    server.send(SWITCH);
    client.expect(SWITCH);
    (client, server)
}

#[test]
fn after_101_the_bytes_are_copied() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = switched(&mesh);
        talk(&mut client, &mut server);
        drop(client);
        server.closes();
    }
}

#[test]
fn bytes_that_come_with_the_heads_are_copied_too() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect();
        client.send(format!("{}early client", upgrade(&mesh)));
        let mut server = mesh.accept();
        server.head();
        server.send(format!("{SWITCH}early server"));
        client.expect(SWITCH);
        client.expect("early server");
        server.expect("early client");
        talk(&mut client, &mut server);
    }
}

#[test]
fn one_side_may_end_before_the_other() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = switched(&mesh);
        client.send("last words");
        client.finish();
        assert_eq!(server.end(), End::Clean(b"last words".to_vec()), "{direction:?}");
        server.send("and an answer");
        drop(server);
        assert_eq!(client.end(), End::Clean(b"and an answer".to_vec()), "{direction:?}");
    }
}

#[test]
fn a_switched_connection_that_breaks_off_breaks_off_on_the_other_side() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, server) = switched(&mesh);
        server.reset();
        assert!(matches!(client.end(), End::Reset(_)), "{direction:?}: towards the client");
        let (client, mut server) = switched(&mesh);
        client.reset();
        assert!(matches!(server.end(), End::Reset(_)), "{direction:?}: towards the server");
    }
}

#[test]
fn an_upgrade_that_is_refused_stays_http() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect();
        client.send(upgrade(&mesh));
        let mut server = mesh.accept();
        server.head();
        for _ in 0..2 {
            server.send("HTTP/1.1 426 Upgrade Required\r\nUpgrade: other\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nno");
            client.expect("HTTP/1.1 426 Upgrade Required\r\nUpgrade: other\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nno");
            client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
            assert!(server.head().starts_with("GET / "), "{direction:?}");
        }
    }
}

#[test]
fn connect_passes_to_a_fixed_upstream() {
    for direction in FIXED {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect();
        let head = "CONNECT far.example:443 HTTP/1.1\r\nHost: far.example:443\r\nX: y\r\n\r\n";
        client.send(head);
        let mut server = mesh.accept();
        assert_eq!(server.plain_head(), head, "{direction:?}");
        server.send("HTTP/1.1 200 Yes\r\nX: y\r\n\r\nearly");
        client.expect("HTTP/1.1 200 Yes\r\nX: y\r\n\r\n");
        client.expect("early");
        talk(&mut client, &mut server);
    }
}

/// Some servers send a length where RFC 9110, 9.3.6 has none.
#[test]
fn connect_that_succeeds_with_a_length_is_a_tunnel_all_the_same() {
    for direction in FIXED {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect();
        client.send("CONNECT far.example:443 HTTP/1.1\r\nHost: far.example:443\r\n\r\n");
        let mut server = mesh.accept();
        server.head();
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert!(client.head().starts_with("HTTP/1.1 200 OK\r\n"), "{direction:?}");
        talk(&mut client, &mut server);
    }
}

#[test]
fn connect_that_a_fixed_upstream_refuses_stays_http() {
    for direction in FIXED {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect();
        client.send("CONNECT far.example:443 HTTP/1.1\r\nHost: far.example:443\r\n\r\n");
        let mut server = mesh.accept();
        server.head();
        server.send("HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 2\r\n\r\nno");
        client.expect("HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 2\r\n\r\nno");
    }
}

fn tunnel(mesh: &Mesh, after: &str) -> (Raw, Raw) {
    let mut client = mesh.connect();
    client.send(format!(
        "CONNECT {0} HTTP/1.1\r\nHost: {0}\r\nProxy-Authorization: Basic x\r\n\r\n{after}",
        mesh.host()
    ));
    let server = mesh.accept();
    assert_eq!(client.head(), "HTTP/1.1 200 OK\r\n\r\n");
    (client, server)
}

#[test]
fn a_forward_proxy_opens_a_tunnel() {
    let mesh = Mesh::start(Direction::Forward);
    let (mut client, mut server) = tunnel(&mesh, "early");
    server.expect("early");
    talk(&mut client, &mut server);
    client.finish();
    server.closes();
    server.send("late");
    drop(server);
    assert_eq!(client.end(), End::Clean(b"late".to_vec()));
}

#[test]
fn a_tunnel_that_breaks_off_breaks_off_on_the_other_side() {
    let mesh = Mesh::start(Direction::Forward);
    let (mut client, server) = tunnel(&mesh, "");
    server.reset();
    assert!(matches!(client.end(), End::Reset(_)));
    let (client, mut server) = tunnel(&mesh, "");
    client.reset();
    assert!(matches!(server.end(), End::Reset(_)));
}

#[test]
fn connect_without_a_port_is_refused() {
    let mesh = Mesh::start(Direction::Forward);
    for target in ["far.example", "far.example:0", "far.example:99999", "/x"] {
        let mut client = mesh.connect();
        client.send(format!("CONNECT {target} HTTP/1.1\r\nHost: far.example\r\n\r\n"));
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 400 "), "{target}: {head}");
    }
}
