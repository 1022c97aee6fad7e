//! The webhook itself: what it answers, what it does not wait for, and where its limits are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use http_body_util::Full;
use meshtrace::admission::Settings;
use meshtrace::admission::certificates::Certificates;
use meshtrace::admission::review::MAX_BYTES;
use meshtrace::admission::webhook::{MAX_CONNECTIONS, Times, Webhook};
use meshtrace::metrics::InjectorMetrics;
use meshtrace::net::tls::Serving;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::client::{Client, review};

const NOW: u64 = 1_800_000_000;

struct Running {
    address: SocketAddr,
    bundle: String,
    registry: Registry,
}

impl Running {
    async fn start(times: Times) -> Self {
        let certificates = Certificates::new("meshtrace-injector.meshtrace-system.svc", NOW).unwrap();
        let serving = Arc::new(Serving::new());
        let leaf = &certificates.leaf;
        serving.install(leaf.certificate.as_bytes(), leaf.key.as_bytes()).unwrap();
        let mut registry = Registry::default();
        let metrics = InjectorMetrics::register(&mut registry);
        let webhook = Webhook::new(Settings::new("meshtrace:test"), serving, metrics, times);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { match webhook.serve(listener).await {} });
        Running { address, bundle: certificates.bundle(), registry }
    }

    async fn client(&self) -> Client {
        Client::connect(self.address, &self.bundle, NOW).await.unwrap()
    }

    fn counts(&self, line: &str) -> bool {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text.lines().any(|found| found == line)
    }
}

#[tokio::test]
async fn a_thousand_reviews_on_a_few_connections() {
    let running = Running::start(Times::default()).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut client = running.client().await;
        tasks.spawn(async move {
            for _ in 0..125 {
                let answer = client.review(&json!({"meshtrace.io/inject": "true"})).await;
                assert_eq!(answer["response"]["uid"], "0a1b");
                assert_eq!(answer["response"]["patchType"], "JSONPatch");
            }
        });
    }
    tasks.join_all().await;
    assert!(running.counts("meshtrace_injector_reviews_total{result=\"injected\"} 1000"));
    assert!(running.counts("meshtrace_injector_review_seconds_count 1000"));
}

#[tokio::test]
async fn what_is_no_review_gets_an_error_and_the_next_one_is_answered() {
    let running = Running::start(Times::default()).await;
    let mut client = running.client().await;
    for (path, body, expect) in [
        ("/inject/pod/open", "{", StatusCode::BAD_REQUEST),
        ("/inject/pod/open", "", StatusCode::BAD_REQUEST),
        ("/inject/elsewhere", "{}", StatusCode::NOT_FOUND),
        ("/", "{}", StatusCode::NOT_FOUND),
    ] {
        assert_eq!(client.post(path, body).await.0, expect, "{path} {body}");
    }
    let get = client.send(Method::GET, "/inject/pod/open", Full::default()).await;
    assert_eq!(get.0, StatusCode::METHOD_NOT_ALLOWED);
    let refused = client.review(&json!({"meshtrace.io/inject": "maybe"})).await;
    assert_eq!(refused["response"]["allowed"], true);
    assert!(refused["response"]["warnings"][0].as_str().unwrap().contains("\"maybe\""));
    assert!(running.counts("meshtrace_injector_refusals_total{reason=\"invalid_inject\"} 1"));
    assert!(running.counts("meshtrace_injector_requests_failed_total{reason=\"unreadable\"} 2"));
}

#[tokio::test]
async fn a_review_has_a_limit() {
    let running = Running::start(Times { review: Duration::from_secs(60), ..Times::default() }).await;
    let mut text = review(&json!({"meshtrace.io/inject": "true"})).to_string();
    text.push_str(&" ".repeat(MAX_BYTES - text.len()));
    let mut client = running.client().await;
    assert_eq!(
        client.post("/inject/pod/open", text.clone()).await.0,
        StatusCode::OK,
        "as much as there may be"
    );
    text.push(' ');
    let mut client = running.client().await;
    assert_eq!(client.post("/inject/pod/open", text).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(running.counts("meshtrace_injector_requests_failed_total{reason=\"too_long\"} 1"));
}

#[tokio::test]
async fn a_review_that_trickles_is_given_up() {
    let running = Running::start(Times { review: Duration::from_millis(50), ..Times::default() }).await;
    let mut client = running.client().await;
    let (status, _) = client.post("/inject/pod/open", "{}").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "a quick one is read to its end");
    let status = trickle(&running).await;
    assert!(status.starts_with("HTTP/1.1 408 "), "{status}");
    assert!(running.counts("meshtrace_injector_requests_failed_total{reason=\"timeout\"} 1"));
}

/// Sends the head of a review and one byte of its body, and returns the answer's first line.
async fn trickle(running: &Running) -> String {
    let mut stream = super::client::raw(running.address, &running.bundle, NOW).await;
    let head = "POST /inject/pod/open HTTP/1.1\r\nhost: webhook\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 512];
    let read = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..read]).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn idle_connections_never_keep_an_api_server_out() {
    let running = Running::start(Times::default()).await;
    let mut idle = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        idle.push(TcpStream::connect(running.address).await.unwrap());
    }
    let mut client = running.client().await;
    assert_eq!(client.review(&json!({})).await["response"]["allowed"], true);
    assert!(running.counts("meshtrace_injector_connections_closed_total 1"));
    let mut byte = [0];
    let closed = tokio::time::timeout(Duration::from_secs(10), idle[0].read(&mut byte)).await.unwrap();
    assert!(matches!(closed, Ok(0) | Err(_)), "the oldest had to go");
}

#[tokio::test]
async fn who_speaks_no_tls_or_trusts_somebody_else_is_counted() {
    let times = Times { handshake: Duration::from_millis(50), ..Times::default() };
    let running = Running::start(times).await;
    let mut plain = TcpStream::connect(running.address).await.unwrap();
    plain.write_all(b"POST /inject/pod/open HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = plain.read_to_end(&mut rest).await;
    let other = Certificates::new("meshtrace-injector.meshtrace-system.svc", NOW).unwrap();
    assert!(Client::connect(running.address, &other.bundle(), NOW).await.is_err());
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    let _ = silent.read_to_end(&mut rest).await;
    assert!(running.counts("meshtrace_injector_tls_handshakes_failed_total 3"));
}
