//! Connections that are kept: how many there are, and who waits for whom.

use crate::support::raw::{ALL, Direction, FIXED, Mesh};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_kept_client_has_one_upstream_connection() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = mesh.pair();
        for turn in 0..20 {
            client.send(format!("GET /{turn} HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
            assert!(server.head().starts_with(&format!("GET /{turn} ")), "{direction:?}");
            server.send(OK);
            client.expect(OK);
        }
        assert!(mesh.try_accept().is_none(), "{direction:?}");
    }
}

#[test]
fn every_client_has_an_upstream_connection_of_its_own() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut pairs = [mesh.pair(), mesh.pair(), mesh.pair()];
        for (turn, (client, server)) in pairs.iter_mut().enumerate() {
            client.send(format!("GET /{turn} HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
            assert!(server.head().starts_with(&format!("GET /{turn} ")), "{direction:?}");
            server.send(OK);
            client.expect(OK);
        }
        assert!(mesh.try_accept().is_none(), "{direction:?}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect();
        let host = mesh.host();
        let requests: String = (0..10)
            .map(|i| format!("POST /{i} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\n\r\nab{i}"))
            .collect();
        client.send(requests);
        let mut server = mesh.accept();
        for i in 0..10 {
            assert!(server.head().starts_with(&format!("POST /{i} ")), "{direction:?}");
            server.expect(format!("ab{i}"));
            server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{i}"));
        }
        for i in 0..10 {
            client.expect(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{i}"));
        }
        assert!(mesh.try_accept().is_none(), "{direction:?}");
    }
}

#[test]
fn a_forward_proxy_client_has_one_connection_for_each_target() {
    let mesh = Mesh::start(Direction::Forward);
    let other = Mesh::start(Direction::Forward);
    let mut client = mesh.connect();
    let get = |host: &str| format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n");
    client.send(get(&mesh.host()));
    let mut one = mesh.accept();
    one.head();
    one.send(OK);
    client.expect(OK);
    client.send(get(&other.host()));
    let mut two = other.accept();
    two.head();
    two.send(OK);
    client.expect(OK);
    for _ in 0..3 {
        for (host, server) in [(mesh.host(), &mut one), (other.host(), &mut two)] {
            client.send(get(&host));
            server.head();
            server.send(OK);
            client.expect(OK);
        }
    }
    assert!(mesh.try_accept().is_none() && other.try_accept().is_none());
    drop(client);
    one.is_gone();
    two.is_gone();
}

/// A client that visits many targets keeps few connections, not all of them.
#[test]
fn a_forward_proxy_client_keeps_a_bounded_number_of_connections() {
    let mesh = Mesh::start(Direction::Forward);
    let listeners: Vec<_> = (0..12).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let mut client = mesh.connect();
    let mut servers = Vec::new();
    for listener in &listeners {
        let host = listener.local_addr().unwrap();
        client.send(format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let mut server = crate::support::raw::Raw::new(listener.accept().unwrap().0);
        server.head();
        server.send(OK);
        client.expect(OK);
        servers.push(server);
    }
    servers[0].is_gone();
    servers[1].is_gone();
}

#[test]
fn a_close_that_the_client_asks_for_reaches_the_upstream() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = mesh.pair();
        let head = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", mesh.host());
        client.send(&head);
        assert_eq!(server.plain_head(), head, "{direction:?}");
        let response = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
        server.send(response);
        client.expect(response);
        client.closes();
        server.is_gone();
    }
}

#[test]
fn a_close_that_the_upstream_asks_for_reaches_the_client() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = mesh.pair();
        client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
        server.head();
        let response = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
        server.send(response);
        client.expect(response);
        client.closes();
        server.is_gone();
    }
}

#[test]
fn an_idle_client_that_leaves_takes_its_upstream_connection_along() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (client, mut server) = mesh.pair();
        drop(client);
        server.is_gone();
    }
}

#[test]
fn an_idle_upstream_that_closes_closes_the_client_of_a_fixed_route() {
    for direction in FIXED {
        let mesh = Mesh::start(direction);
        let (mut client, server) = mesh.pair();
        drop(server);
        client.closes();
        assert!(mesh.try_accept().is_none(), "{direction:?}");
    }
}

#[test]
fn an_idle_upstream_that_closes_is_dialled_anew_behind_a_forward_proxy() {
    let mesh = Mesh::start(Direction::Forward);
    let (mut client, server) = mesh.pair();
    drop(server);
    client.is_quiet();
    client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
    let mut server = mesh.accept();
    server.head();
    server.send(OK);
    client.expect(OK);
}

#[test]
fn an_idle_upstream_that_sends_something_is_not_trusted_further() {
    for direction in FIXED {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = mesh.pair();
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        client.is_gone();
    }
}
