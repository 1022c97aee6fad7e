//! TLS that ends here: clients speak it to an inbound listener, and the
//! application hears plain HTTP.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::authority::Authority;
use crate::support::mesh::{Answer, Asked, Call, Mesh, PATIENCE, Running, Server, result};
use crate::support::secure::{client, relay};

const H1: &[u8] = b"http/1.1";
const H2: &[u8] = b"h2";

fn ok(asked: &Asked) -> Answer {
    Answer::json(&result(&asked.id()))
}

/// A sidecar that is `localhost` to clients of this authority.
struct Secure {
    authority: Authority,
    server: Server,
    mesh: Mesh,
    sidecar: Running,
}

impl Secure {
    async fn start(clients: Option<&Authority>, yaml: &str) -> Self {
        let authority = Authority::new();
        let server = Server::answering(ok).await;
        let mesh = Mesh::start().await;
        let (certificate, key) = authority.pair("localhost");
        let client_ca: Option<PathBuf> = clients.map(|clients| clients.certificate().unwrap());
        let files: Vec<_> =
            [&certificate, &key].into_iter().chain(&client_ca).map(PathBuf::as_path).collect();
        let sidecar = mesh.sidecar().inbound_secure(server.address, &files).yaml(yaml).start();
        Secure { authority, server, mesh, sidecar }
    }

    /// A call by a client that can do everything: it gets HTTP/1.1, since the
    /// application may know nothing else.
    async fn serves(&self) {
        let config = client(&self.authority, &[&TLS12, &TLS13], &[H2, H1]);
        let to = relay(config, self.sidecar.inbound()).await;
        assert_eq!(Call::get("/").send(to).await.status, 200);
    }
}

#[tokio::test]
async fn every_version_of_tls_and_http_ends_here() {
    for (version, alpn, http2) in
        [(&TLS12, Some(H1), false), (&TLS12, Some(H2), true), (&TLS13, Some(H2), true), (&TLS13, None, false)]
    {
        let secure = Secure::start(None, "").await;
        let config = client(&secure.authority, &[version], alpn.as_slice());
        let to = relay(config, secure.sidecar.inbound()).await;
        let call = Call::get("/a?b=c").header("host", "research.example");
        let reply = if http2 { call.send_http2(to).await } else { call.send(to).await };
        assert_eq!(reply.status, 200, "{version:?} {http2}");
        assert!(secure.server.last().header("traceparent").is_some());
        let span = secure.mesh.only_span().await;
        assert_eq!(span.kind, "SERVER");
        let expect = [("url.scheme", "https"), ("url.path", "/a"), ("server.address", "research.example")];
        for (key, value) in expect {
            assert_eq!(span.attribute(key), json!(value), "{version:?} {http2}");
        }
        let version = if http2 { "2" } else { "1.1" };
        assert_eq!(span.attribute("network.protocol.version"), json!(version));
    }
}

/// Where clients have to prove who they are, a stranger does not get in.
#[tokio::test]
async fn clients_are_vouched_for() {
    let clients = Authority::new();
    let secure = Secure::start(Some(&clients), "").await;
    let plain = client(&secure.authority, &[&TLS13], &[H1]);
    let to = relay(plain, secure.sidecar.inbound()).await;
    assert!(Call::get("/").try_open(to).await.is_err());

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let (certificate, key) =
        clients.issue(crate::support::authority::Leaf { name: "caller", expired: false });
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let builder = builder.with_root_certificates(secure.authority.roots());
    let known = builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap();
    let to = relay(Arc::new(known), secure.sidecar.inbound()).await;
    assert_eq!(Call::get("/").send(to).await.status, 200);
    assert_eq!(secure.server.asked().len(), 1);
}

#[tokio::test]
async fn plain_http_to_a_tls_listener_is_told_so() {
    let secure = Secure::start(None, "").await;
    let reply = Call::get("/").send(secure.sidecar.inbound()).await;
    assert_eq!(reply.status, 400);
    assert!(String::from_utf8_lossy(&reply.body).contains("https"), "{reply:?}");
    assert!(secure.server.asked().is_empty());
    secure.serves().await;
}

/// What nobody could call TLS ends, and nobody else notices.
#[tokio::test]
async fn handshakes_that_fail_harm_nobody() {
    let secure = Secure::start(None, "limits: { handshake_timeout: 100ms }").await;
    let to = secure.sidecar.inbound();
    let stranger = client(&Authority::new(), &[&TLS13], &[H1]);
    let relayed = relay(stranger, to).await;
    assert!(Call::get("/").try_open(relayed).await.is_err());
    let hello = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
    let mut held = Vec::new();
    for bytes in [&[][..], &[22], &hello, &[22, 3, 1, 255, 255], &[0; 64], &[128, 46, 1, 3, 1]] {
        let mut tcp = TcpStream::connect(to).await.unwrap();
        tcp.write_all(bytes).await.unwrap();
        held.push(tcp);
    }
    secure.serves().await;
    for mut tcp in held {
        // Its end, be it clean or a reset; an alert may come before it.
        let _ = timeout(PATIENCE, tcp.read_to_end(&mut Vec::new())).await.expect("its end");
    }
    secure.serves().await;
}

/// The reverse mistake: TLS to a listener that speaks none ends at once, and
/// nobody else notices.
#[tokio::test]
async fn tls_to_a_plain_listener_fails_at_once() {
    let mesh = Mesh::start().await;
    let server = Server::answering(ok).await;
    let sidecar = mesh.sidecar().around(server.address).start();
    for at in [sidecar.inbound(), sidecar.outbound()] {
        let to = relay(client(&Authority::new(), &[&TLS12, &TLS13], &[H2, H1]), at).await;
        assert!(Call::get("/").try_open(to).await.is_err());
        assert_eq!(Call::get("/").send(at).await.status, 200);
    }
    assert_eq!(server.asked().len(), 2);
}
