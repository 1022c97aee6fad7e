//! Exchanges that do not come to their end: who hears of it, and how.

use crate::support::raw::{ALL, Direction, End, Mesh, Raw, find};

/// A client that waits for the answer to a request that the upstream has.
fn waiting(mesh: &Mesh, version: &str) -> (Raw, Raw) {
    let mut client = mesh.connect();
    client.send(format!("GET / HTTP/1.{version}\r\nHost: {}\r\n\r\n", mesh.host()));
    let mut server = mesh.accept();
    server.head();
    (client, server)
}

#[test]
fn a_client_that_leaves_before_the_answer_is_felt() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (client, mut server) = waiting(&mesh, "1");
        drop(client);
        server.is_gone();
        let (client, mut server) = waiting(&mesh, "1");
        client.reset();
        server.is_gone();
    }
}

/// A client that only ends its own direction looks like one that leaves, and
/// leaving has to be felt at once.
#[test]
fn a_client_that_ends_its_direction_has_left() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = waiting(&mesh, "1");
        client.finish();
        server.is_gone();
        client.is_gone();
    }
}

#[test]
fn a_client_that_leaves_during_the_answer_is_felt_though_the_server_is_silent() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = waiting(&mesh, "1");
        server.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n:\n\n\r\n");
        client.head();
        client.chunked(3);
        drop(client);
        server.is_gone();
    }
}

#[test]
fn a_client_that_leaves_during_its_request_never_ends_it() {
    for direction in ALL {
        for (framing, part) in [("Content-Length: 10", "abc"), ("Transfer-Encoding: chunked", "3\r\nabc\r\n")]
        {
            let mesh = Mesh::start(direction);
            let (mut client, mut server) = mesh.pair();
            client.send(format!("PUT / HTTP/1.1\r\nHost: {}\r\n{framing}\r\n\r\n{part}", mesh.host()));
            server.head();
            server.expect(part);
            drop(client);
            server.is_gone();
        }
    }
}

#[test]
fn a_client_that_leaves_during_a_call_never_sends_it() {
    for direction in ALL {
        for (framing, part) in
            [("Content-Length: 100", "{\"jsonrpc\""), ("Transfer-Encoding: chunked", "a\r\n{\"jsonrpc\"\r\n")]
        {
            let mesh = Mesh::with(direction, "limits: { body_gap: 1s }");
            let (mut client, mut server) = mesh.pair();
            client.send(format!(
                "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{framing}\r\n\r\n{part}",
                mesh.host()
            ));
            drop(client);
            let (End::Clean(got) | End::Reset(got)) = server.end();
            assert!(find(&got, b"0\r\n\r\n").is_none(), "{direction:?}: it looks whole");
        }
    }
}

#[test]
fn an_answer_that_is_reset_never_looks_whole() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = waiting(&mesh, "1");
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        client.head();
        client.expect("abc");
        server.reset();
        client.is_gone();

        let (mut client, mut server) = waiting(&mesh, "1");
        server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        client.head();
        assert_eq!(client.chunked(3), b"abc");
        server.reset();
        client.is_gone();
    }
}

#[test]
fn an_answer_that_is_cut_off_never_looks_whole() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = waiting(&mesh, "1");
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        drop(server);
        client.head();
        client.expect("abc");
        client.is_gone();

        let (mut client, mut server) = waiting(&mesh, "1");
        server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        drop(server);
        client.head();
        assert_eq!(client.chunked(3), b"abc");
        client.is_gone();
    }
}

#[test]
fn a_body_until_close_that_is_reset_never_looks_whole() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = waiting(&mesh, "1");
        server.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc");
        client.head();
        assert_eq!(client.chunked(3), b"abc");
        server.reset();
        client.is_gone();
    }
}

/// Such a client takes the close for the end of the body, so it has to see
/// a reset.
#[test]
fn an_old_client_sees_a_reset_where_the_answer_broke_off() {
    for direction in ALL {
        for response in [
            "HTTP/1.0 200 OK\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ] {
            let mesh = Mesh::start(direction);
            let (mut client, mut server) = waiting(&mesh, "0");
            server.send(response);
            client.head();
            client.expect("abc");
            server.reset();
            assert_eq!(client.end(), End::Reset(Vec::new()), "{direction:?} {response}");
        }
    }
}

#[test]
fn an_old_client_sees_a_reset_where_the_chunks_have_no_end() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = waiting(&mesh, "0");
        server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        client.head();
        client.expect("abc");
        drop(server);
        assert_eq!(client.end(), End::Reset(Vec::new()), "{direction:?}");
    }
}

#[test]
fn a_new_server_with_an_old_answer_that_is_reset_is_felt_as_that() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = waiting(&mesh, "1");
        server.send("HTTP/1.0 200 OK\r\n\r\nabc");
        client.head();
        client.expect("abc");
        server.reset();
        assert_eq!(client.end(), End::Reset(Vec::new()), "{direction:?}");
    }
}

#[test]
fn bad_chunks_in_an_answer_break_it_off() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = waiting(&mesh, "1");
        server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        client.head();
        assert_eq!(client.chunked(3), b"abc");
        server.send("zz\r\n");
        client.is_gone();
    }
}

#[test]
fn a_server_that_sends_too_much_sends_it_to_nobody() {
    let mesh = Mesh::start(Direction::Inbound);
    let (mut client, mut server) = waiting(&mesh, "1");
    server.send(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    );
    client.expect("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    client.is_gone();
}

#[test]
fn a_server_that_leaves_during_the_request_is_felt() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = mesh.pair();
        client.send(format!("PUT / HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000000\r\n\r\nabc", mesh.host()));
        server.head();
        server.expect("abc");
        server.reset();
        let (End::Clean(_) | End::Reset(_)) = client.end();
    }
}
