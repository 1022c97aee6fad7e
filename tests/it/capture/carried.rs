//! What is no HTTP passes a redirected connection unread: whoever speaks
//! first is heard, a side that ends early ends early, and a reset is a reset.

use std::net::TcpStream;

use http::{Request, Response};

use super::net::{AGENT, FAMILIES, Listening, Net, PEER, POD};
use super::sidecar::{Collector, Sidecar, call, exchange};
use crate::support::mesh::Scratch;
use crate::support::raw::{End, Raw};

/// A pod whose sidecar serves everything, and a server outside of it.
fn set_up(flags: &str) -> Option<(Net, Sidecar, Listening)> {
    let net = Net::new()?;
    net.install("--skip-outbound-ports none");
    let sidecar = Sidecar::start(&net, flags);
    let server = net.serve_in_peer((PEER[0], 5432));
    Some((net, sidecar, server))
}

fn connect(net: &Net) -> Raw {
    net.pod_connects(AGENT, (PEER[0], 5432)).unwrap()
}

#[test]
fn a_server_may_speak_first() {
    let Some((net, _sidecar, server)) = set_up("") else { return };
    // The greeting of MySQL 8 (protocol 10), and an answer of its client.
    let greeting =
        b"\x4a\0\0\0\x0a8.0.36\0\x0b\0\0\0abcdefgh\0\xff\xff\xff\x02\0\xff\xdf\x15\0\0\0\0\0\0\0\0\0\0";
    let mut client = connect(&net);
    let mut server = server.accept();
    server.send(greeting);
    client.expect(greeting);
    client.send(b"\x20\0\0\x01\x05\xa6\x0f\0");
    server.expect(b"\x20\0\0\x01\x05\xa6\x0f\0");
    server.send(b"\x07\0\0\x02\0\0\0\x02\0\0\0");
    client.expect(b"\x07\0\0\x02\0\0\0\x02\0\0\0");
    drop(client);
    server.closes();
}

#[test]
fn clients_of_other_protocols_speak_first() {
    let Some((net, _sidecar, server)) = set_up("") else { return };
    let turns: [&[(&[u8], &[u8])]; 4] = [
        // Redis (RESP), pipelined and inline.
        &[
            (b"*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n", b"+PONG\r\n$-1\r\n"),
            (b"PING\r\n", b"+PONG\r\n"),
        ],
        // PostgreSQL: an SSLRequest that is declined, then the start-up message.
        &[
            (b"\0\0\0\x08\x04\xd2\x16\x2f", b"N"),
            (b"\0\0\0\x15\0\x03\0\0user\0postgres\0\0", b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I"),
        ],
        // memcached.
        &[(b"set a 0 0 1\r\nb\r\n", b"STORED\r\n"), (b"get a\r\n", b"VALUE a 0 1\r\nb\r\nEND\r\n")],
        // A word that could become a request, and does not go on.
        &[(b"GET", b"what?")],
    ];
    for turns in turns {
        let mut client = connect(&net);
        let mut server = server.accept();
        for (question, answer) in turns {
            client.send(question);
            server.expect(question);
            server.send(answer);
            client.expect(answer);
        }
    }
}

#[test]
fn each_side_ends_by_itself() {
    let Some((net, _sidecar, listening)) = set_up("") else { return };
    let mut client = connect(&net);
    let mut server = listening.accept();
    client.send(b"\0last words");
    client.finish();
    assert_eq!(server.end(), End::Clean(b"\0last words".to_vec()));
    server.send("and an answer");
    drop(server);
    assert_eq!(client.end(), End::Clean(b"and an answer".to_vec()));

    let mut client = connect(&net);
    let mut server = listening.accept();
    server.finish();
    client.closes();
    client.send(b"\0still here");
    client.finish();
    assert_eq!(server.end(), End::Clean(b"\0still here".to_vec()));

    let mut client = connect(&net);
    let mut server = listening.accept();
    client.finish();
    server.closes();
    server.send("a client that only listens");
    drop(server);
    assert_eq!(client.end(), End::Clean(b"a client that only listens".to_vec()));
}

#[test]
fn a_reset_is_a_reset_on_the_other_side() {
    let Some((net, _sidecar, listening)) = set_up("") else { return };
    for said in [&b""[..], b"\0binary", b"GE"] {
        for of_client in [true, false] {
            let mut client = connect(&net);
            let mut server = listening.accept();
            if said == b"\0binary" {
                client.send(said);
                server.expect(said);
            } else {
                client.send(said);
            }
            let mut other = if of_client {
                client.reset();
                server
            } else {
                server.reset();
                client
            };
            assert!(
                matches!(other.end(), End::Reset(_)),
                "{:?} {of_client}",
                said.escape_ascii().to_string()
            );
        }
    }
}

#[test]
fn a_server_that_breaks_off_breaks_off_for_http_too() {
    let Some((net, _sidecar, listening)) = set_up("") else { return };
    for reset in [true, false] {
        let mut client = connect(&net);
        client.send(call("a", ""));
        let mut server = listening.accept();
        super::sidecar::asked(&mut server);
        if reset {
            server.reset();
            assert_eq!(client.end(), End::Reset(Vec::new()), "as a direct client would see it");
        } else {
            drop(server);
            client.closes();
        }
    }
}

#[test]
fn a_tls_connection_is_one_span_where_that_is_asked_for() {
    let Some(net) = Net::new() else { return };
    net.install("--skip-outbound-ports none");
    for (file, told) in [("spans: { tls: true }\n", true), ("", false)] {
        let config = Scratch::new(file);
        let collector = Collector::start(&net);
        let _sidecar = collector.sidecar(&net, &format!("--config {}", config.0.display()));
        let listening = net.serve_in_peer((PEER[0], 443));
        let mut client = net.pod_connects(AGENT, (PEER[0], 443)).unwrap();
        let hello = hello("api.example.com");
        let (first, rest) = hello.split_at(7);
        client.send(first);
        client.send(rest);
        let mut server = listening.accept();
        server.expect(&hello);
        server.send(b"\x15\x03\x03\0\x02\x02\x28");
        client.expect(b"\x15\x03\x03\0\x02\x02\x28");
        drop((client, server));
        // A traced call after it, so that there is something to wait for.
        let far = net.serve_in_peer((PEER[0], 9090));
        let mut client = net.pod_connects(AGENT, (PEER[0], 9090)).unwrap();
        client.send(call("a", ""));
        assert!(exchange(&mut client, &mut far.accept()));
        let spans = collector.spans(if told { 2 } else { 1 });
        let tls = spans.iter().find(|span| span.name == "TLS");
        assert_eq!(tls.is_some(), told, "{spans:#?}");
        let Some(tls) = tls else { continue };
        assert_eq!((tls.kind, tls.parent.as_str(), &tls.error), ("CLIENT", "", &None));
        assert_eq!(tls.attribute("meshtrace.parent.method"), "background");
        assert_eq!(tls.attribute("meshtrace.parent.exact"), false);
        assert_eq!(tls.attribute("server.address"), "api.example.com");
        assert_eq!(tls.attribute("server.port"), 443);
        assert_eq!(tls.attribute("network.peer.address"), PEER[0].to_string());
        assert_eq!(tls.attribute("network.protocol.name"), "tls");
        assert_eq!(tls.attribute("meshtrace.tunnel.sent_bytes"), hello.len());
        assert_eq!(tls.attribute("meshtrace.tunnel.received_bytes"), 7);
    }
}

/// What a TLS client says first.
fn hello(name: &str) -> Vec<u8> {
    let provider = rustls::crypto::ring::default_provider().into();
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = rustls::ClientConnection::new(config.into(), name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn opaque_ports_are_not_looked_into() {
    for (flags, env) in [("--opaque-ports 1-10,5432", ""), ("", "5432")] {
        let Some(net) = Net::new() else { return };
        net.install("--skip-outbound-ports none");
        let args = format!("proxy --redirected {flags}");
        let _sidecar =
            Sidecar::run(&net, Some(super::net::SIDECAR), &args, &[("MESHTRACE_OPAQUE_PORTS", env)]);
        for (port, traced) in [(5432, false), (5433, true)] {
            let server = net.serve_in_peer((PEER[0], port));
            let mut client = net.pod_connects(AGENT, (PEER[0], port)).unwrap();
            client.send(call("a", ""));
            assert_eq!(exchange(&mut client, &mut server.accept()), traced, "{port}");
        }
        let agent = net.serve_in_pod((POD[0], 5432));
        let mut client = net.peer_connects((POD[0], 5432)).unwrap();
        client.send(call("a", ""));
        assert!(!exchange(&mut client, &mut agent.accept()), "inbound too");
    }
}

#[test]
fn http2_is_served_in_both_families() {
    let Some(net) = Net::new() else { return };
    net.install("");
    let _sidecar = Sidecar::start(&net, "");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for family in FAMILIES {
        let listening = net.serve_in_peer((PEER[family], 9090));
        let client = net.pod_connects(AGENT, (PEER[family], 9090)).unwrap();
        let server = listening.accept();
        runtime.block_on(async {
            let server = tokio::spawn(answer_one(tokio_stream(&server)));
            let (mut sender, connection) = h2::client::handshake(tokio_stream(&client)).await.unwrap();
            let connection = tokio::spawn(connection);
            let request = Request::get("http://weather.example:9090/x").body(()).unwrap();
            let (response, _) = sender.send_request(request, true).unwrap();
            assert_eq!(response.await.unwrap().status(), 204);
            drop(sender);
            connection.await.unwrap().unwrap();
            assert!(server.await.unwrap(), "the request was traced");
        });
    }
}

/// Serves one request, and says whether it carried a context. The greeting
/// of this server leaves before it has heard anything.
async fn answer_one(tcp: tokio::net::TcpStream) -> bool {
    let mut connection = h2::server::handshake(tcp).await.unwrap();
    let (request, mut respond) = connection.accept().await.unwrap().unwrap();
    assert_eq!(request.uri().authority().unwrap(), "weather.example:9090");
    respond.send_response(Response::builder().status(204).body(()).unwrap(), true).unwrap();
    let traced = request.headers().contains_key("traceparent");
    while connection.accept().await.is_some() {}
    traced
}

fn tokio_stream(raw: &Raw) -> tokio::net::TcpStream {
    let stream: TcpStream = raw.socket().try_clone().unwrap();
    stream.set_nonblocking(true).unwrap();
    tokio::net::TcpStream::from_std(stream).unwrap()
}
