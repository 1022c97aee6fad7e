//! The admin port over real sockets, and its rules without them.

use super::*;
use crate::net::probe::TcpProbe;
use crate::net::resolve::Resolver;
use http_body_util::{BodyExt, Empty};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn admin() -> Admin {
    probing(&[])
}

/// An admin port with these probes, by path.
fn probing(probes: &[(&str, TcpProbe)]) -> Admin {
    let probes = probes.iter().map(|(path, probe)| ((*path).to_owned(), probe.clone())).collect();
    let probes = AppProbes::new(probes, Resolver::default(), Counter::default());
    let mut registry = Registry::default();
    let closed = Counter::default();
    registry.register("admin_connections_closed", "Closed", closed.clone());
    let page = Page { path: "/debug/x", render: Box::new(|| "{}".to_owned()) };
    let pages = Arc::new([page]);
    let agent = "weather".to_owned();
    let operations = Operations::default();
    Admin {
        readiness: Readiness::new(),
        level: Level::fixed(tracing::level_filters::LevelFilter::INFO),
        registry: Arc::new(registry),
        operations,
        agent,
        probes,
        closed,
        pages,
    }
}

/// A listener on a free port with the admin server on it.
async fn start(admin: &Admin) -> (SocketAddr, JoinSet<Infallible>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(admin.clone().serve(listener));
    (address, tasks)
}

/// Sends bytes and reads until the server closes.
async fn talk(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn get(address: SocketAddr, path: &str) -> String {
    talk(address, &format!("GET {path} HTTP/1.1\r\nHost: admin\r\n\r\n")).await
}

/// The status and the body for a peer of our choice.
async fn answer(admin: &Admin, peer: &str, method: Method, path: &str) -> (u16, String) {
    let request = Request::builder().method(method).uri(path).body(Empty::<Bytes>::new()).unwrap();
    let response = admin.respond(peer.parse().unwrap(), &request).await;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn probes_follow_the_life_of_the_process() {
    let admin = admin();
    let (address, _tasks) = start(&admin).await;
    assert!(get(address, "/live").await.starts_with("HTTP/1.1 200 "));
    let starting = get(address, "/ready").await;
    assert!(starting.starts_with("HTTP/1.1 503 ") && starting.contains("starting"), "{starting}");
    admin.readiness.set_ready();
    assert!(get(address, "/ready?verbose").await.starts_with("HTTP/1.1 200 "));
    admin.readiness.set_draining();
    let draining = get(address, "/ready").await;
    assert!(draining.starts_with("HTTP/1.1 503 ") && draining.contains("draining"), "{draining}");
    assert!(get(address, "/live").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn metrics_come_in_the_format_that_was_asked_for() {
    let admin = admin();
    let (address, _tasks) = start(&admin).await;
    let plain = get(address, "/metrics").await;
    assert!(plain.contains("content-type: text/plain; version=0.0.4"), "{plain}");
    assert!(plain.contains("# TYPE admin_connections_closed_total counter\n"), "{plain}");
    let request = "GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: application/openmetrics-text\r\n\r\n";
    let open = talk(address, request).await;
    assert!(open.contains("content-type: application/openmetrics-text; version=1.0.0"), "{open}");
    assert!(open.contains("# TYPE admin_connections_closed counter\n"), "{open}");
}

#[tokio::test]
async fn only_loopback_peers_see_what_is_not_public() {
    let admin = admin();
    for peer in ["10.1.2.3", "fd00::1", "::ffff:10.1.2.3"] {
        assert_eq!(answer(&admin, peer, Method::GET, "/config").await.0, 403, "{peer}");
        assert_eq!(answer(&admin, peer, Method::GET, "/live").await.0, 200, "{peer}");
    }
    for peer in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
        let (status, body) = answer(&admin, peer, Method::GET, "/").await;
        assert_eq!(status, 404, "{peer}");
        assert!(body.contains("/live /ready /metrics"), "{body}");
    }
}

#[tokio::test]
async fn the_level_can_be_changed_by_loopback_peers() {
    use parking_lot::Mutex;
    use tracing::level_filters::LevelFilter;
    let now = Arc::new(Mutex::new(LevelFilter::INFO));
    let level = Level(Arc::new(move |new| {
        let mut now = now.lock();
        *now = new.unwrap_or(*now);
        *now
    }));
    let admin = Admin { level, ..admin() };
    let cases = [
        ("127.0.0.1", Method::GET, "/log-level", 200, "info\n"),
        ("10.0.0.1", Method::PUT, "/log-level?level=trace", 403, "loopback"),
        ("::1", Method::PUT, "/log-level?level=debug", 200, "debug\n"),
        ("::1", Method::POST, "/log-level?level=off", 200, "off\n"),
        ("::1", Method::PUT, "/log-level?level=loud", 400, "off, error, warn, info, debug, trace"),
        ("::1", Method::PUT, "/log-level", 400, "?level="),
        ("::1", Method::DELETE, "/log-level", 405, "PUT"),
        ("::1", Method::GET, "/log-level", 200, "off\n"),
    ];
    for (peer, method, path, status, says) in cases {
        let (got, body) = answer(&admin, peer, method, path).await;
        assert_eq!(got, status, "{path}");
        assert!(body.contains(says), "{path}: {body}");
    }
}

#[tokio::test]
async fn only_get_and_head_are_answered() {
    let admin = admin();
    assert_eq!(answer(&admin, "::1", Method::POST, "/live").await.0, 405);
    let (address, _tasks) = start(&admin).await;
    let head = talk(address, "HEAD /live HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    let post = talk(address, "POST /ready HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n").await;
    assert!(post.contains("405") && post.contains("allow: GET, HEAD"), "{post}");
}

#[tokio::test]
async fn heads_have_limits() {
    let (address, _tasks) = start(&admin()).await;
    let long = format!("GET /live HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(MAX_HEAD_BYTES));
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may answer and close before it has all of it.
    let _ = stream.write_all(long.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    let many = format!("GET /live HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(MAX_HEADERS + 1));
    assert!(talk(address, &many).await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn a_slow_peer_is_cut_off() {
    let short = Duration::from_millis(20);
    let long = Duration::from_secs(600);
    // Either of the two ends a head that never comes to its end.
    for times in [Times { head: short, connection: long }, Times { head: long, connection: short }] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(admin().serve_within(times, listener));
        let answer = talk(address, "GET /live HT").await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[tokio::test]
async fn idle_connections_cannot_keep_a_probe_out() {
    let admin = admin();
    let (address, _tasks) = start(&admin).await;
    let mut idle = Vec::new();
    for _ in 0..2 * MAX_CONNECTIONS {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    assert!(get(address, "/live").await.starts_with("HTTP/1.1 200 "));
    assert_eq!(admin.closed.get(), MAX_CONNECTIONS as u64 + 1);
    assert_eq!(idle[0].read(&mut [0]).await.unwrap(), 0, "the oldest was closed");
}

#[tokio::test]
async fn waiting_ends_when_the_sidecar_is_ready() {
    let admin = admin();
    let (address, _tasks) = start(&admin).await;
    let waiting = tokio::spawn(wait(address, Duration::from_secs(60)));
    tokio::task::yield_now().await;
    admin.readiness.set_ready();
    assert_eq!(waiting.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn waiting_in_vain_says_what_was_last_heard() {
    let admin = admin();
    let (address, mut tasks) = start(&admin).await;
    let error = wait(address, Duration::ZERO).await.unwrap_err().to_string();
    assert!(error.contains("503") && error.contains("starting"), "{error}");
    tasks.shutdown().await;
    let error = wait(address, Duration::from_millis(1)).await.unwrap_err().to_string();
    assert!(error.contains("refused"), "{error}");
}

fn tcp(port: u16) -> TcpProbe {
    TcpProbe { host: "127.0.0.1".to_owned(), port, timeout: Duration::from_secs(60) }
}

#[tokio::test]
async fn app_probes_answer_everybody_as_the_port_would() {
    let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = app.local_addr().unwrap().port();
    let admin = probing(&[("app/readinessProbe", tcp(port))]);
    for peer in ["10.1.2.3", "::1"] {
        let (status, body) = answer(&admin, peer, Method::GET, "/app-probe/app/readinessProbe").await;
        assert_eq!((status, body.as_str()), (200, "the port accepts connections\n"), "{peer}");
    }
    drop(app);
    let (status, body) = answer(&admin, "10.1.2.3", Method::GET, "/app-probe/app/readinessProbe").await;
    assert_eq!(status, 503);
    assert!(body.contains(&format!("port {port} ")) && body.contains("refused"), "{body}");
    assert_eq!(answer(&admin, "10.1.2.3", Method::POST, "/app-probe/app/readinessProbe").await.0, 405);
}

/// A stranger can ask for what was configured and for nothing else.
#[tokio::test]
async fn only_configured_probes_are_carried_out() {
    let admin = probing(&[("app/livenessProbe", tcp(1))]);
    for path in [
        "/app-probe",
        "/app-probe/",
        "/app-probe/app",
        "/app-probe/app/",
        "/app-probe/app/livenessProbe/",
        "/app-probe/app/startupProbe",
        "/app-probe//app/livenessProbe",
        "/app-probe/app%2FlivenessProbe",
        "/app-probe/APP/livenessProbe",
        "/app-probe/../app-probe/app/livenessProbe",
        "/app-probe/127.0.0.1:22/livenessProbe",
        "/app/livenessProbe",
    ] {
        assert_eq!(answer(&admin, "10.1.2.3", Method::GET, path).await.0, 403, "{path}");
        assert_eq!(answer(&admin, "::1", Method::GET, path).await.0, 404, "{path}");
    }
}

/// Probes that do not end cannot pile up, and leave the rest of the port alone.
#[tokio::test]
async fn probes_have_a_bound() {
    let (go, wait) = std::sync::mpsc::sync_channel::<()>(1);
    let wait = parking_lot::Mutex::new(wait);
    let dead = Resolver::with(1, move |_| {
        let _ = wait.lock().recv();
        Err(std::io::Error::other("no answer"))
    });
    let probe = TcpProbe { host: "nobody".to_owned(), ..tcp(1) };
    let refused = Counter::default();
    let probes = [("app/readinessProbe".to_owned(), probe)].into();
    let admin = Admin { probes: AppProbes::new(probes, dead, refused.clone()), ..admin() };
    let path = "/app-probe/app/readinessProbe";
    let held: Vec<_> = (0..MAX_PROBES)
        .map(|_| {
            let admin = admin.clone();
            tokio::spawn(async move { answer(&admin, "10.1.2.3", Method::GET, path).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let (status, body) = answer(&admin, "10.1.2.3", Method::GET, path).await;
    assert_eq!((status, body.as_str(), refused.get()), (503, "too many probes at once\n", 1));
    assert_eq!(answer(&admin, "10.1.2.3", Method::GET, "/live").await.0, 200);
    drop(go);
    for one in held {
        let (status, body) = one.await.unwrap();
        assert!(status == 503 && body.contains("no answer"), "{body}");
    }
}
