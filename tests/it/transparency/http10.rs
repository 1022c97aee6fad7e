//! HTTP/1.0 on either side.

use crate::support::raw::{ALL, End, FIXED, Mesh};

#[test]
fn an_old_client_gets_its_answer_and_the_close() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect();
        let head = format!("GET /x HTTP/1.0\r\nHost: {}\r\nX: y\r\n\r\n", mesh.host());
        client.send(&head);
        let mut server = mesh.accept();
        assert_eq!(server.plain_head(), head, "{direction:?}");
        server.send("HTTP/1.0 200 OK\r\nX: y\r\n\r\nall of it");
        drop(server);
        client.expect("HTTP/1.0 200 OK\r\nX: y\r\n\r\nall of it");
        client.closes();
    }
}

#[test]
fn an_old_client_needs_no_host_where_the_upstream_is_known() {
    for direction in FIXED {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect();
        client.send("GET /x HTTP/1.0\r\n\r\n");
        let mut server = mesh.accept();
        assert_eq!(server.plain_head(), "GET /x HTTP/1.0\r\n\r\n", "{direction:?}");
        server.send("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok");
        client.expect("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok");
        client.closes();
    }
}

#[test]
fn an_old_client_that_keeps_its_connection_may() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect();
        let head = format!("GET /x HTTP/1.0\r\nHost: {}\r\nConnection: keep-alive\r\n\r\n", mesh.host());
        client.send(&head);
        let mut server = mesh.accept();
        for _ in 0..3 {
            assert_eq!(server.plain_head(), head, "{direction:?}");
            let response = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok";
            server.send(response);
            client.expect(response);
            client.send(&head);
        }
    }
}

#[test]
fn an_old_client_posts_a_body() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect();
        let head = format!("POST /x HTTP/1.0\r\nHost: {}\r\nContent-Length: 3\r\n\r\n", mesh.host());
        client.send(format!("{head}abc"));
        let mut server = mesh.accept();
        assert_eq!(server.plain_head(), head, "{direction:?}");
        server.expect("abc");
        server.send("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok");
        client.expect("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok");
        client.closes();
    }
}

#[test]
fn chunks_reach_an_old_client_as_plain_bytes() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect();
        client.send(format!("GET / HTTP/1.0\r\nHost: {}\r\n\r\n", mesh.host()));
        let mut server = mesh.accept();
        server.head();
        server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n3\r\nabc\r\n");
        client.expect("HTTP/1.0 200 OK\r\nX: y\r\n\r\nabc");
        server.send("2\r\nde\r\n0\r\n\r\n");
        assert_eq!(client.end(), End::Clean(b"de".to_vec()), "{direction:?}");
    }
}

#[test]
fn an_old_server_answers_a_new_client() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect();
        client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
        let mut server = mesh.accept();
        server.head();
        server.send("HTTP/1.0 200 OK\r\nServer: SimpleHTTP/0.6\r\n\r\nall of");
        let head = "HTTP/1.0 200 OK\r\nServer: SimpleHTTP/0.6\r\n\r\n";
        assert_eq!(client.head(), head, "{direction:?}");
        client.expect("all of");
        server.send(" it");
        drop(server);
        assert_eq!(client.end(), End::Clean(b" it".to_vec()), "{direction:?}");
    }
}

#[test]
fn an_old_server_with_a_length_is_read_to_its_end() {
    for direction in FIXED {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect();
        client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", mesh.host()));
        let mut server = mesh.accept();
        server.head();
        server.send("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        drop(server);
        let head = client.head();
        assert!(head.starts_with("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n"), "{head}");
        assert_eq!(client.end(), End::Clean(b"hello".to_vec()), "{direction:?}");
    }
}
