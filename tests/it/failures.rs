//! An upstream that cannot be reached, breaks, talks nonsense or stays
//! silent: the status, the one line that says who failed, and no secret in it.

mod http2;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use crate::support::raw::{ALL, Direction, End, FIXED, Mesh, Raw, field};

const SECRET: &str = "s3cr3t";

/// Reads the proxy's own answer and checks its form.
fn failure(client: &mut Raw, status: &str, word: &str) {
    let head = client.head();
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    assert_eq!(field(&head, "content-type"), Some("text/plain; charset=utf-8"));
    assert!(field(&head, "date").is_none() && field(&head, "server").is_none(), "{head}");
    let length = field(&head, "content-length").unwrap().parse().unwrap();
    let line = String::from_utf8(client.take(length)).unwrap();
    assert!(
        line.starts_with("meshtrace: upstream ") && line.ends_with('\n') && line.lines().count() == 1,
        "{line}"
    );
    assert!(line.contains(word) && !line.contains(SECRET), "{line}");
}

/// A request whose head has arrived at the server.
fn asked(direction: Direction) -> (Mesh, Raw, Raw) {
    let mesh = Mesh::start(direction);
    let mut client = mesh.connect();
    client.send(request(direction, &mesh.host()));
    let mut server = mesh.accept();
    server.head();
    (mesh, client, server)
}

/// A request with something in it that nobody else should read.
fn request(direction: Direction, host: &str) -> String {
    let user =
        if direction == Direction::Forward { format!("http://user:{SECRET}@{host}") } else { String::new() };
    format!(
        "POST {user}/?token={SECRET} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {SECRET}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
    )
}

/// A port on which nobody listens, kept from others by a bound socket.
fn refusing() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let at = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, at)
}

fn towards(direction: Direction, target: &str, file: &str) -> Mesh {
    Mesh::towards(direction, TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), target, file)
}

#[test]
fn a_refused_connection_is_503() {
    for direction in ALL {
        let (_kept, at) = refusing();
        let mesh = towards(direction, &at.to_string(), "");
        let mut client = mesh.connect();
        // Twice: the client's connection is not the worse for it.
        for _ in 0..2 {
            client.send(request(direction, &at.to_string()));
            failure(&mut client, "503", "refused");
        }
    }
}

#[test]
fn a_name_that_does_not_resolve_is_503() {
    for direction in ALL {
        let mesh = towards(direction, "nobody.invalid:80", "");
        let mut client = mesh.connect();
        client.send(request(direction, "nobody.invalid:80"));
        failure(&mut client, "503", "resolve");
    }
}

#[test]
fn a_reset_before_the_head_is_502() {
    for direction in ALL {
        let (_mesh, mut client, server) = asked(direction);
        server.reset();
        failure(&mut client, "502", "reset");
    }
}

#[test]
fn a_close_without_an_answer_is_502() {
    for direction in ALL {
        let (_mesh, mut client, mut server) = asked(direction);
        server.expect("{}");
        drop(server);
        failure(&mut client, "502", "closed");
    }
}

#[test]
fn a_close_in_the_middle_of_a_head_is_502() {
    for direction in ALL {
        let (_mesh, mut client, mut server) = asked(direction);
        server.expect("{}");
        server.send("HTTP/1.1 200 OK\r\nContent-Le");
        drop(server);
        failure(&mut client, "502", "closed");
    }
}

#[test]
fn nonsense_is_502() {
    let nonsense = [
        "SSH-2.0-OpenSSH_9.9\r\n",
        "\0\0\0\0\0\0\0\0\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/3.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ];
    for direction in ALL {
        for bytes in nonsense {
            let (_mesh, mut client, mut server) = asked(direction);
            server.expect("{}");
            server.send(bytes);
            failure(&mut client, "502", "not HTTP");
            server.is_gone();
        }
    }
}

/// Nobody asked for another protocol, so nobody would speak it.
#[test]
fn a_switch_that_nobody_asked_for_is_no_answer() {
    for direction in ALL {
        let (_mesh, mut client, mut server) = asked(direction);
        server.expect("{}");
        server.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhello");
        failure(&mut client, "502", "not HTTP");
        server.is_gone();
    }
}

#[test]
fn a_response_head_over_the_limit_is_502() {
    let mesh = Mesh::with(Direction::Base, "limits: { head_bytes: 8KiB }");
    let mut client = mesh.connect();
    client.send(request(Direction::Base, &mesh.host()));
    let mut server = mesh.accept();
    server.head();
    server.expect("{}");
    server.send(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(9000)));
    failure(&mut client, "502", "too large");
}

#[test]
fn silence_is_504() {
    for direction in ALL {
        let mesh = Mesh::with(direction, "limits: { response_timeout: 10ms }");
        let mut client = mesh.connect();
        client.send(request(direction, &mesh.host()));
        let mut server = mesh.accept();
        server.head();
        failure(&mut client, "504", "no response within");
        server.expect("{}");
        server.is_gone();
    }
}

/// A listener whose queue of connections is full does not answer any more.
#[test]
fn a_connection_that_does_not_come_about_is_504() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let at = socket.local_addr().unwrap().as_socket().unwrap();
    let short = std::time::Duration::from_millis(300);
    let filling: Vec<_> = (0..4).map_while(|_| TcpStream::connect_timeout(&at, short).ok()).collect();
    assert!(filling.len() < 4, "this kernel takes connections without end");
    for direction in ALL {
        let mesh = towards(direction, &at.to_string(), "limits: { connect_timeout: 100ms }");
        let mut client = mesh.connect();
        client.send(request(direction, &at.to_string()));
        failure(&mut client, "504", "no connection within");
    }
}

/// A client on a connection of its own would have seen it close.
#[test]
fn a_close_on_a_used_connection_is_passed_on_as_that() {
    for direction in ALL {
        for reset in [false, true] {
            let mesh = Mesh::start(direction);
            let (mut client, mut server) = mesh.pair();
            client.send(request(direction, &mesh.host()));
            server.head();
            server.expect("{}");
            if reset {
                server.reset()
            } else {
                drop(server)
            }
            client.is_gone();
            assert!(mesh.try_accept().is_none(), "{direction:?}: it was tried again");
        }
    }
}

#[test]
fn a_broken_upstream_is_dialled_anew_by_the_next_client() {
    for direction in ALL {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect();
        client.send(request(direction, &mesh.host()));
        // Before the request has come, the reset may still meet the dialling.
        let mut server = mesh.accept();
        server.head();
        server.reset();
        failure(&mut client, "502", "");
        mesh.pair();
    }
}

#[test]
fn a_forward_proxy_does_not_call_itself() {
    let mesh = Mesh::start(Direction::Forward);
    let mut client = mesh.connect();
    client.send(request(Direction::Forward, &mesh.address().to_string()));
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 508 "), "{head}");
    let mut client = mesh.connect();
    client.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", mesh.address()));
    assert!(client.head().starts_with("HTTP/1.1 508 "));
}

#[test]
fn a_tunnel_to_nobody_is_503_and_the_client_may_go_on() {
    let (_kept, at) = refusing();
    let mesh = Mesh::start(Direction::Forward);
    let mut client = mesh.connect();
    client.send(format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n"));
    failure(&mut client, "503", "refused");
    let mut client = mesh.connect();
    client.send("CONNECT nobody.invalid:443 HTTP/1.1\r\nHost: nobody.invalid:443\r\n\r\n");
    failure(&mut client, "503", "resolve");
}

#[test]
fn an_old_client_is_told_too() {
    for direction in FIXED {
        let mesh = Mesh::start(direction);
        let mut client = mesh.connect();
        client.send("GET / HTTP/1.0\r\n\r\n");
        let mut server = mesh.accept();
        server.head();
        drop(server);
        let End::Clean(answer) = client.end() else { panic!("a reset") };
        let answer = String::from_utf8(answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.0 502 ") && answer.contains("\r\n\r\nmeshtrace: upstream "),
            "{answer}"
        );
    }
}

#[test]
fn a_failure_is_on_the_span() {
    let (_kept, at) = refusing();
    let mut mesh = towards(Direction::Base, &at.to_string(), "");
    let mut client = mesh.connect();
    client.send(format!("GET / HTTP/1.1\r\nHost: {at}\r\n\r\n"));
    failure(&mut client, "503", "refused");
    drop(client);
    mesh.stop();
    assert!(mesh.exported(b"error.type") && mesh.exported(b"connection_refused"));
}
