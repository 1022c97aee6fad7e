//! How the sidecar ends: beside an application that is gone already, beside
//! one that is told to end at the same time, and when somebody insists.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use meshtrace::store::{Limits, Receiver};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::process::{Process, free_address};
use crate::support::mesh::{Answer, Asked, Call, PATIENCE, Server, legacy_call, result};

fn ok(asked: &Asked) -> Answer {
    Answer::json(&result(&asked.id()))
}

/// A sidecar between an application and a forward listener, with an admin port.
struct Sidecar {
    process: Process,
    collector: Receiver,
    inbound: SocketAddr,
    outbound: SocketAddr,
    admin: SocketAddr,
}

impl Sidecar {
    async fn start(app: SocketAddr, env: &[(&str, &str)]) -> Self {
        let collector = Receiver::start(Limits::default()).await.unwrap();
        let (inbound, outbound, admin) = (free_address(), free_address(), free_address());
        let to_app = format!("{inbound}={app}");
        let (out, at, endpoint) = (outbound.to_string(), admin.to_string(), collector.endpoint());
        let args = ["proxy", "--inbound", &to_app, "--outbound", &out, "--admin", &at];
        let mut all = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("MESHTRACE_WORKERS", "2")];
        all.extend_from_slice(env);
        let process = Process::ready(&args, &all).await;
        Sidecar { process, collector, inbound, outbound, admin }
    }

    /// Waits until it says that no traffic is wanted.
    async fn is_draining(&self) {
        let turned = async {
            while Call::get("/ready").send(self.admin).await.status != 503 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, turned).await.expect("not ready while draining");
        assert_eq!(Call::get("/live").send(self.admin).await.status, 200);
    }
}

/// Times that no test could wait for.
const FOREVER: [(&str, &str); 2] = [("MESHTRACE_DRAIN_TIMEOUT", "1h"), ("MESHTRACE_FLUSH_TIMEOUT", "1h")];

/// The last to be told, as a native sidecar is: nothing is in flight, so nothing is waited for.
#[tokio::test]
async fn with_nothing_in_flight_it_ends_at_once() {
    let server = Server::answering(ok).await;
    let sidecar = Sidecar::start(server.address, &FOREVER).await;
    assert_eq!(legacy_call(1, json!({})).send(sidecar.inbound).await.status, 200);
    let idle = TcpStream::connect(sidecar.inbound).await.unwrap();
    drop(server);
    sidecar.process.signal("TERM");
    let done = sidecar.process.exit().await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert_eq!(sidecar.collector.store().counts().stored, 1);
    drop(idle);
}

/// Told at the same time as the application: new connections are served on
/// both sides until the application is gone.
#[tokio::test]
async fn it_outlives_the_application_that_it_is_to_stop_after() {
    let (server, other) = (Server::answering(ok).await, Server::answering(ok).await);
    let port = server.address.port().to_string();
    let env = [FOREVER[0], FOREVER[1], ("MESHTRACE_STOP_AFTER", port.as_str())];
    let sidecar = Sidecar::start(server.address, &env).await;
    sidecar.process.signal("TERM");
    sidecar.is_draining().await;
    assert_eq!(legacy_call(1, json!({})).send(sidecar.inbound).await.status, 200);
    let call = Call::get("/").header("host", other.address.to_string());
    assert_eq!(call.send(sidecar.outbound).await.status, 200);
    drop(server);
    let done = sidecar.process.exit().await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert_eq!(sidecar.collector.store().counts().stored, 2, "{}", done.err);
}

/// A port that is closed is not yet the end: the application finishes a
/// request, and makes a new call for it.
#[tokio::test]
async fn an_application_that_only_closed_its_port_is_still_served() {
    let other = Server::answering(ok).await;
    let app = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = app.local_addr().unwrap();
    let port = address.port().to_string();
    let env = [FOREVER[0], FOREVER[1], ("MESHTRACE_STOP_AFTER", port.as_str())];
    let sidecar = Sidecar::start(address, &env).await;
    let call = tokio::spawn(Call::get("/").send(sidecar.inbound));
    let (mut busy, _) = app.accept().await.unwrap();
    let mut head = [0; 4096];
    assert!(busy.read(&mut head).await.unwrap() > 0);
    drop(app);
    sidecar.process.signal("TERM");
    sidecar.is_draining().await;
    let nested = Call::get("/").header("host", other.address.to_string());
    assert_eq!(nested.send(sidecar.outbound).await.status, 200);
    busy.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert_eq!(call.await.unwrap().status, 200);
    drop(busy);
    let done = sidecar.process.exit().await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert_eq!(sidecar.collector.store().counts().stored, 2, "{}", done.err);
}

/// An application that does not go is not waited for beyond the limit.
#[tokio::test]
async fn outliving_has_an_end() {
    let server = Server::answering(ok).await;
    let port = server.address.port().to_string();
    let env = [("MESHTRACE_DRAIN_TIMEOUT", "300ms"), ("MESHTRACE_STOP_AFTER", port.as_str())];
    let sidecar = Sidecar::start(server.address, &env).await;
    assert_eq!(legacy_call(1, json!({})).send(sidecar.inbound).await.status, 200);
    sidecar.process.signal("TERM");
    let done = sidecar.process.exit().await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert_eq!(sidecar.collector.store().counts().stored, 1);
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT"), ("TERM", "INT")] {
        let arrived = Arc::new(Notify::new());
        let notify = Arc::clone(&arrived);
        let server = Server::start(move |_| {
            notify.notify_one();
            std::future::pending()
        });
        let server = server.await;
        let sidecar = Sidecar::start(server.address, &FOREVER).await;
        let call = tokio::spawn(legacy_call(1, json!({})).try_open(sidecar.inbound));
        timeout(PATIENCE, arrived.notified()).await.unwrap();
        sidecar.process.signal(first);
        sidecar.is_draining().await;
        sidecar.process.signal(second);
        let done = sidecar.process.exit().await;
        assert_eq!(done.code, Some(1), "{}", done.err);
        assert!(done.err.contains("told to stop again"), "{}", done.err);
        assert!(call.await.unwrap().is_err());
    }
}

/// A tunnel that is open when the time is over says what has passed by then.
#[tokio::test]
async fn a_tunnel_that_is_cut_off_has_its_bytes() {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = server.local_addr().unwrap();
    let sidecar = Sidecar::start(free_address(), &[("MESHTRACE_DRAIN_TIMEOUT", "100ms")]).await;
    let mut client = TcpStream::connect(sidecar.outbound).await.unwrap();
    let connect = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    client.write_all(connect.as_bytes()).await.unwrap();
    let (mut upstream, _) = server.accept().await.unwrap();
    let mut answer = [0; 19];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK\r\n\r\n");
    client.write_all(b"hello").await.unwrap();
    upstream.read_exact(&mut [0; 5]).await.unwrap();
    upstream.write_all(b"hi").await.unwrap();
    client.read_exact(&mut [0; 2]).await.unwrap();
    sidecar.process.signal("TERM");
    let done = sidecar.process.exit().await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    let trace = sidecar.collector.store().traces().remove(0);
    let text = format!("{:?}", trace.spans[0]);
    for expect in ["meshtrace.tunnel.sent", "IntValue(5)", "meshtrace.tunnel.received", "IntValue(2)"] {
        assert!(text.contains(expect), "{expect} is not in {text}");
    }
}

/// A collector that takes nothing does not hold up the end.
#[tokio::test]
async fn flushing_has_an_end() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let server = Server::answering(ok).await;
    let env =
        [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint.as_str()), ("MESHTRACE_FLUSH_TIMEOUT", "100ms")];
    let sidecar = Sidecar::start(server.address, &env).await;
    assert_eq!(legacy_call(1, json!({})).send(sidecar.inbound).await.status, 200);
    sidecar.process.signal("TERM");
    let done = sidecar.process.exit().await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.err.contains("could not be sent in time"), "{}", done.err);
}
