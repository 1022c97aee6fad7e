//! TLS that begins here: the agent says `http`, the server hears TLS.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::support::authority::{Authority, Leaf};
use crate::support::mesh::{Answer, Asked, Call, Mesh, PATIENCE, Plan, Server, legacy_call, result};
use crate::support::secure::Front;

const H1: &[u8] = b"http/1.1";
const H2: &[u8] = b"h2";

fn ok(asked: &Asked) -> Answer {
    Answer::json(&result(&asked.id()))
}

/// A server that speaks TLS as `localhost`.
struct Secure {
    authority: Authority,
    server: Server,
    front: Front,
}

impl Secure {
    async fn start(alpn: &[&[u8]]) -> Self {
        let authority = Authority::new();
        let server = Server::answering(ok).await;
        let front = Front::start(authority.acceptor("localhost", None, alpn), server.address).await;
        Secure { authority, server, front }
    }

    fn port(&self) -> u16 {
        self.front.address.port()
    }

    /// A forward proxy that speaks TLS to this server.
    fn forward<'m>(&self, mesh: &'m Mesh) -> Plan<'m> {
        let ca = self.authority.certificate().unwrap();
        let plan = mesh.sidecar().forward().env("MESHTRACE_TLS_CA", ca.to_str().unwrap());
        plan.env("MESHTRACE_TLS_ORIGINATE", &format!("*.example, local*:{}", self.port()))
    }
}

/// What the agent speaks is what the server is offered, and the span says what was sent.
#[tokio::test]
async fn each_side_keeps_its_version_of_http() {
    for (http2, alpn) in [(false, "http/1.1"), (true, "h2")] {
        let mesh = Mesh::start().await;
        let secure = Secure::start(&[H2, H1]).await;
        let sidecar = secure.forward(&mesh).start();
        let call = Call::get("/a?b=c").header("host", "localhost");
        let reply = match http2 {
            false => call.send(sidecar.outbound()).await,
            true => call.send_http2(sidecar.outbound()).await,
        };
        assert_eq!(reply.status, 200, "{reply:?}");
        let [handshake] = &secure.front.handshakes()[..] else { panic!("one handshake") };
        assert_eq!(handshake.name.as_deref(), Some("localhost"));
        assert_eq!(handshake.alpn.as_deref(), Some(alpn));
        let asked = secure.server.last();
        assert!(asked.header("traceparent").is_some(), "a single label is private");
        let span = mesh.only_span().await;
        assert_eq!((span.kind, span.error.as_deref()), ("CLIENT", None));
        let url = format!("https://localhost:{}/a?b=c", secure.port());
        assert_eq!(span.attribute("url.full"), json!(url));
        assert_eq!(span.attribute("server.port"), json!(secure.port()));
    }
}

/// The server hears the name and port that a client of its own would send.
#[tokio::test]
async fn host_names_the_server_that_is_spoken_to() {
    let mesh = Mesh::start().await;
    let secure = Secure::start(&[H1]).await;
    let sidecar =
        secure.forward(&mesh).outbound_url(&format!("https://localhost:{}/v1", secure.port())).start();
    let host = format!("localhost:{}", secure.port());
    for (target, host_sent) in [("/", "localhost"), ("http://localhost/x", "localhost"), ("/", host.as_str())]
    {
        let reply = Call::get(target).header("host", host_sent).send(sidecar.outbound()).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(secure.server.last().header("host"), Some(host.as_str()), "{target} {host_sent}");
    }
    let base = sidecar.outbound_at(1);
    let reply = legacy_call(1, json!({})).send(base).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let asked = secure.server.last();
    assert_eq!((asked.path.as_str(), asked.header("host")), ("/v1/mcp", Some(host.as_str())));
}

/// Only what the list names is spoken to in TLS, and only on its ports.
#[tokio::test]
async fn what_is_not_on_the_list_stays_plain() {
    let mesh = Mesh::start().await;
    let secure = Secure::start(&[H1]).await;
    let sidecar = secure.forward(&mesh).start();
    for host in [format!("127.0.0.1:{}", secure.server.address.port()), secure.server.address.to_string()] {
        let reply = Call::get("/").header("host", &host).send(sidecar.outbound()).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let other_port = format!("localhost:{}", secure.server.address.port());
    let reply = Call::get("/").header("host", &other_port).send(sidecar.outbound()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(secure.front.handshakes(), []);
}

#[tokio::test]
async fn a_server_that_cannot_prove_itself_is_refused_in_one_line() {
    let leaf = Leaf { name: "localhost", expired: false };
    let expired = Leaf { expired: true, ..leaf };
    let other = Leaf { name: "other.example", ..leaf };
    let cases = [
        (expired, true, None, "tls_certificate_expired", "out of date"),
        (leaf, false, None, "tls_unknown_issuer", "issuer that is not trusted"),
        (other, true, None, "tls_name_mismatch", "other.example"),
        (leaf, true, Some(&b"h3"[..]), "tls_protocol", "does not speak"),
    ];
    for (leaf, trusted, alpn, error_type, text) in cases {
        let mesh = Mesh::start().await;
        let (authority, stranger) = (Authority::new(), Authority::new());
        let server = Server::answering(ok).await;
        let acceptor = authority.acceptor_for(leaf, None, &[alpn.unwrap_or(H1)]);
        let front = Front::start(acceptor, server.address).await;
        let ca = if trusted { authority.certificate() } else { stranger.certificate() };
        let sidecar = mesh
            .sidecar()
            .outbound_url(&format!("https://localhost:{}", front.address.port()))
            .env("MESHTRACE_TLS_CA", ca.unwrap().to_str().unwrap())
            .start();
        let reply = legacy_call(1, json!({})).send(sidecar.outbound()).await;
        let line = String::from_utf8(reply.body.to_vec()).unwrap();
        assert_eq!(reply.status, 502, "{line}");
        assert!(line.contains(text) && line.contains("upstream localhost:"), "{line}");
        assert_eq!(line.trim_end().lines().count(), 1, "{line}");
        assert!(server.asked().is_empty());
        assert_eq!(mesh.only_span().await.error_type(), error_type, "{line}");
    }
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_named() {
    let mesh = Mesh::start().await;
    let server = Server::answering(ok).await;
    let sidecar = mesh.sidecar().outbound_url(&format!("https://{}", server.address)).start();
    let reply = legacy_call(1, json!({})).send(sidecar.outbound()).await;
    assert_eq!(reply.status, 502);
    assert!(String::from_utf8_lossy(&reply.body).contains("does not speak TLS"), "{reply:?}");
    assert_eq!(mesh.only_span().await.error_type(), "tls_not_spoken");
}

/// A server that accepts and says nothing costs `connect_timeout`, no more.
#[tokio::test]
async fn a_handshake_that_stalls_is_a_timeout() {
    let mesh = Mesh::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap());
    let sidecar = mesh.sidecar().outbound_url(&url).yaml("limits: { connect_timeout: 50ms }").start();
    let reply = legacy_call(1, json!({})).send(sidecar.outbound()).await;
    assert_eq!(reply.status, 504, "{reply:?}");
    assert_eq!(mesh.only_span().await.error_type(), "timeout");
}

/// A server that asks gets our certificate, and one that gets none says so.
#[tokio::test]
async fn servers_that_ask_get_our_certificate() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = Server::answering(ok).await;
    let acceptor = authority.acceptor("localhost", Some(&clients), &[H1]);
    let front = Front::start(acceptor, server.address).await;
    let (certificate, key) = clients.pair("agent");
    let pair = format!("{},{}", certificate.display(), key.display());
    let ca = authority.certificate().unwrap();
    for (pair, status) in [(pair.as_str(), 200), ("", 502)] {
        let mesh = Mesh::start().await;
        let sidecar = mesh
            .sidecar()
            .outbound_url(&format!("https://localhost:{}", front.address.port()))
            .env("MESHTRACE_TLS_CA", ca.to_str().unwrap())
            .env("MESHTRACE_TLS_CLIENT", pair)
            .start();
        let reply = legacy_call(1, json!({})).send(sidecar.outbound()).await;
        assert_eq!(reply.status, status, "{reply:?}");
        mesh.only_span().await;
    }
    assert!(front.handshakes()[0].client);
}

/// A second connection costs no second proof.
#[tokio::test]
async fn reconnecting_resumes_the_session() {
    let mesh = Mesh::start().await;
    let secure = Secure::start(&[H1]).await;
    let sidecar = secure.forward(&mesh).start();
    for _ in 0..3 {
        let reply = legacy_call(1, json!({})).header("host", "localhost").send(sidecar.outbound()).await;
        assert_eq!(reply.status, 200);
    }
    let resumed: Vec<bool> = secure.front.handshakes().iter().map(|one| one.resumed).collect();
    assert_eq!(resumed, [false, true, true]);
}

/// One connection of the agent is one connection to the server, however many calls it carries.
#[tokio::test]
async fn calls_of_one_connection_share_one_handshake() {
    let mesh = Mesh::start().await;
    let secure = Secure::start(&[H1]).await;
    let sidecar = secure.forward(&mesh).start();
    let calls = (0..3).map(|id| legacy_call(id, json!({})).header("host", "localhost")).collect();
    let replies = Call::send_in_turn(calls, sidecar.outbound()).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(secure.front.handshakes().len(), 1);
}

/// What is large and what comes in pieces passes as it does without TLS.
#[tokio::test]
async fn bodies_and_streams_pass_through_tls() {
    const LENGTH: usize = 3 << 20;
    for http2 in [false, true] {
        let mesh = Mesh::start().await;
        let authority = Authority::new();
        let server = Server::answering(|asked| Answer::status(200, &"a".repeat(asked.body.len()))).await;
        let front = Front::start(authority.acceptor("localhost", None, &[H2, H1]), server.address).await;
        let ca = authority.certificate().unwrap();
        let sidecar = mesh
            .sidecar()
            .outbound_url(&format!("https://localhost:{}", front.address.port()))
            .env("MESHTRACE_TLS_CA", ca.to_str().unwrap())
            .start();
        let call = Call::post(vec![b'u'; LENGTH]);
        let reply = match http2 {
            false => call.send(sidecar.outbound()).await,
            true => call.send_http2(sidecar.outbound()).await,
        };
        assert_eq!((reply.status, reply.body.len()), (200, LENGTH), "{http2}");
        assert_eq!(server.last().body.len(), LENGTH);
        let _ = mesh.stop().await;
    }
    let mesh = Mesh::start().await;
    let (pieces, answer) = Answer::pieces("text/event-stream");
    let answer = std::sync::Mutex::new(Some(answer));
    let authority = Authority::new();
    let server = Server::answering(move |_| answer.lock().unwrap().take().unwrap()).await;
    let front = Front::start(authority.acceptor("localhost", None, &[H1]), server.address).await;
    let ca = authority.certificate().unwrap();
    let sidecar = mesh
        .sidecar()
        .outbound_url(&format!("https://localhost:{}", front.address.port()))
        .env("MESHTRACE_TLS_CA", ca.to_str().unwrap())
        .start();
    let mut open = legacy_call(1, json!({})).open(sidecar.outbound()).await;
    pieces.send(Ok("data: one\n\n".into())).await.unwrap();
    open.read_until("one").await;
    pieces.send(Ok("data: two\n\n".into())).await.unwrap();
    open.read_until("two").await;
    drop(pieces);
    let _ = open.read().await;
}

/// A server that goes away between two calls takes the agent's connection with
/// it, as it would have, also where it does not say so in TLS.
#[tokio::test]
async fn a_server_that_leaves_without_a_word_closes_the_connection() {
    let authority = Authority::new();
    let acceptor = authority.acceptor("localhost", None, &[H1]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let mut tls = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        let mut head = [0; 4096];
        assert!(tls.read(&mut head).await.unwrap() > 0);
        tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        assert!(tls.read(&mut head).await.unwrap() > 0);
        // Dropped, it ends in TCP alone.
    });
    let mesh = Mesh::start().await;
    let sidecar = mesh
        .sidecar()
        .outbound_url(&format!("https://localhost:{port}"))
        .env("MESHTRACE_TLS_CA", authority.certificate().unwrap().to_str().unwrap())
        .start();
    let mut client = TcpStream::connect(sidecar.outbound()).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.write_all(request).await.unwrap();
    let mut answer = [0; 40];
    client.read_exact(&mut answer).await.unwrap();
    assert!(answer.ends_with(b"\r\n\r\nok"), "{}", String::from_utf8_lossy(&answer));
    client.write_all(request).await.unwrap();
    let mut rest = Vec::new();
    // Its end, clean or not, and not a word of ours.
    let _ = timeout(PATIENCE, client.read_to_end(&mut rest)).await.expect("its end");
    assert_eq!(rest, b"", "{}", String::from_utf8_lossy(&rest));
    server.await.unwrap();
}
