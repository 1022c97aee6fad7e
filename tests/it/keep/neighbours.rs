//! What sidecars say to each other of kept traces, and what nobody else sees of it.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use meshtrace::trace::hop;
use meshtrace::trace::ids::Ids;
use opentelemetry::trace::TraceId;
use serde_json::json;

use super::{KEEP, UNSAMPLED, ok};
use crate::support::mesh::{
    Answer, Call, Era, Mesh, PATIENCE, Server, event, is_error, legacy_call, modern_call, notification,
    request,
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// The port for notices that a request names; `None` where it names none.
fn announced(tracestate: Option<&str>) -> Option<u16> {
    tracestate?.split_once(";n")?.1.split([',', ';']).next()?.parse().ok()
}

/// A call as the sidecar of a caller sends it that takes notices there.
fn call_from(port: u16) -> Call {
    Call::get("/x")
        .header("traceparent", format!("00-{TRACE}-b7ad6b7169203331-02"))
        .header("tracestate", format!("mt=b7ad6b7169203331;n{port}"))
}

fn trace() -> TraceId {
    TraceId::from_hex(TRACE).unwrap()
}

/// Waits for something that a task of a sidecar does.
async fn until(what: impl Fn() -> bool) {
    let done = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, done).await.expect("in time");
}

/// All kinds of requests pass two sidecars. Neither the agents at the ends nor
/// their clients see anything of what the sidecars say to each other.
#[tokio::test]
async fn agents_see_nothing_of_it() {
    let calls = [
        modern_call(1, json!({"traceparent": UNSAMPLED})),
        modern_call(1, json!({})).header("traceparent", UNSAMPLED),
        request(Era::Legacy, 1.into(), "initialize", json!({"protocolVersion": "2025-06-18"})),
        request(Era::Legacy, 1.into(), "tools/call", json!({"name": "x"})),
        request(Era::Legacy, 1.into(), "ping", json!({})),
        notification("notifications/initialized", json!({})),
        Call::get("/x").header("traceparent", UNSAMPLED),
        Call::get("/healthz").header("traceparent", UNSAMPLED),
        Call::post(format!(
            "[{},{}]",
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}"#,
            r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"b"}}"#
        ))
        .header("mcp-protocol-version", "2025-03-26")
        .header("mcp-session-id", "s-1"),
    ];
    let ignoring = "{ spans: { ignore: [{ path: /healthz }, { method: ping }] }, sampling: { rules: [{ sample: 0% }] } }";
    for last_yaml in [KEEP, "sampling: { rules: [{ sample: 0% }] }", ignoring] {
        let mesh = Mesh::start().await;
        let server = Server::answering(|asked| match asked.path.as_str() {
            "/mcp" => Answer::json(&is_error(&1.into())),
            _ => Answer::status(500, ""),
        });
        let server = server.await;
        let last = mesh.sidecar().admin().inbound(server.address).yaml(last_yaml).start();
        let first = mesh.sidecar().admin().outbound(last.inbound()).yaml(KEEP).start();
        for call in &calls {
            let replies =
                [call.clone().send(first.outbound()).await, call.clone().send_http2(first.outbound()).await];
            for reply in replies {
                assert!(!reply.headers.contains_key(hop::FIELD), "{:?}", reply.headers);
            }
        }
        let asked = server.asked();
        assert_eq!(asked.len(), 2 * calls.len());
        for asked in asked {
            let body = String::from_utf8_lossy(&asked.body).into_owned();
            let seen = format!("{:?} {body}", asked.headers);
            assert!(!seen.contains(";n"), "{seen}");
        }
        mesh.stop().await;
    }
}

/// The mark is on what may be a sidecar only: it is in the network, and context goes there.
#[tokio::test]
async fn the_mark_goes_where_context_goes() {
    let cases = [
        (KEEP.to_owned(), true),
        (format!("{{ propagation: {{ to: [elsewhere.example] }}, {KEEP} }}"), false),
        ("sampling: { rules: [{ sample: 0% }] }".to_owned(), false),
        ("sampling: { rules: [{ sample: 100% }], keep: { errors: true } }".to_owned(), false),
    ];
    for (yaml, marked) in cases {
        let mesh = Mesh::start().await;
        let server = Server::answering(ok).await;
        let sidecar = mesh.sidecar().admin().outbound(server.address).yaml(&yaml).start();
        modern_call(1, json!({})).send(sidecar.outbound()).await;
        let asked = server.last();
        let header = announced(asked.header("tracestate"));
        assert_eq!(header.is_some_and(|port| port != 0), marked, "{yaml}: {asked:?}");
        assert_eq!(announced(asked.meta("tracestate").as_deref()), header);
        mesh.stop().await;
    }
    // Without an admin port there are no notices, but heads of responses are understood.
    let mesh = Mesh::start().await;
    let server = Server::answering(ok).await;
    let sidecar = mesh.sidecar().outbound(server.address).yaml(KEEP).start();
    Call::get("/x").send(sidecar.outbound()).await;
    assert_eq!(announced(server.last().header("tracestate")), Some(0));
}

/// Only who asks for it is answered.
#[tokio::test]
async fn the_field_goes_to_sidecars_that_asked() {
    let own = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-02";
    let cases = [
        (Call::get("/x"), None),
        (Call::get("/x").header("traceparent", UNSAMPLED), None),
        (Call::get("/x").header("traceparent", UNSAMPLED).header("tracestate", "mt=b7ad6b7169203331"), None),
        // An agent with spans of its own, which passes the state of its caller on.
        (Call::get("/x").header("traceparent", own).header("tracestate", "mt=b7ad6b7169203331;n9"), None),
        (call_from(9), Some(true)),
        (call_from(0), Some(true)),
    ];
    for status in [200, 404] {
        let mesh = Mesh::start().await;
        let server =
            Server::answering(move |_| Answer::status(status, "").header(hop::FIELD, "theirs")).await;
        let sidecar = mesh.sidecar().admin().inbound(server.address).yaml(KEEP).start();
        for (number, (call, expected)) in cases.clone().into_iter().enumerate() {
            let reply = call.send(sidecar.inbound()).await;
            let values: Vec<_> = reply.headers.get_all(hop::FIELD).iter().map(|v| v.as_bytes()).collect();
            match expected {
                None => assert_eq!(values, [b"theirs"], "{number}: what is the agent's passes"),
                Some(_) => {
                    let [value] = values[..] else { panic!("{values:?}") };
                    let said = hop::Said::parse(value).unwrap();
                    assert!(said.at.is_some_and(|at| at.ip().is_loopback() && at.port() != 0), "{said:?}");
                    assert_eq!(said.kept, status == 404);
                }
            }
        }
        mesh.stop().await;
    }
}

/// A server in the way of a sidecar: what it says in the field is taken, and not passed on.
#[tokio::test]
async fn a_kept_trace_is_learned_from_the_head() {
    for (said, kept) in [("-;kept", true), ("-", false), ("kept", false), ("127.0.0.1:9;kept", true)] {
        let mesh = Mesh::start().await;
        let server = Server::answering(move |a| ok(a).header(hop::FIELD, said)).await;
        let sidecar = mesh.sidecar().admin().outbound(server.address).yaml(KEEP).start();
        let reply = modern_call(1, json!({})).send(sidecar.outbound()).await;
        assert!(!reply.headers.contains_key(hop::FIELD));
        let spans = mesh.stop().await;
        assert_eq!(spans.len(), usize::from(kept), "{said}");
        assert!(spans.iter().all(|span| span.attribute("meshtrace.sampling.reason") == "trace"));
    }
}

#[tokio::test]
async fn a_notice_releases_what_is_held_and_goes_on_to_the_caller() {
    let mesh = Mesh::start().await;
    let server = Server::answering(ok).await;
    let sidecar = mesh.sidecar().admin().around(server.address).yaml(KEEP).start();
    let caller = UdpSocket::bind("127.0.0.1:0").unwrap();
    caller.set_read_timeout(Some(PATIENCE)).unwrap();
    let reply = call_from(caller.local_addr().unwrap().port()).send(sidecar.inbound()).await;
    let said = hop::Said::parse(reply.headers[hop::FIELD].as_bytes()).unwrap();
    assert!(!said.kept);
    // Twice, from somebody else: it is passed on once.
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..2 {
        other.send_to(&hop::encode_notice(&[trace()]), said.at.unwrap()).unwrap();
    }
    let span = mesh.wait_for(1).await.remove(0);
    assert_eq!((span.trace.as_str(), span.kind), (TRACE, "SERVER"));
    assert_eq!(span.attribute("meshtrace.sampling.reason"), "trace");
    let metrics = mesh.metrics();
    until(|| metrics.notices.known.get() == 2 && metrics.notices.sent.get() == 1).await;
    let (packet, from) = tokio::task::spawn_blocking(move || {
        let mut packet = vec![0; 1500];
        let (length, from) = caller.recv_from(&mut packet).unwrap();
        packet.truncate(length);
        (packet, from)
    })
    .await
    .unwrap();
    assert_eq!(from, said.at.unwrap());
    assert!(hop::parse_notice(&packet).unwrap().eq([trace()]));
    assert_eq!(mesh.stop().await.len(), 1);
}

/// What is only known at the end of the answer goes to the caller as a notice.
#[tokio::test]
async fn a_failure_after_the_head_is_told_the_caller() {
    for answer in
        [(|| Answer::json(&is_error(&1.into()))) as fn() -> Answer, || Answer::events(&[is_error(&1.into())])]
    {
        let mesh = Mesh::start().await;
        let server = Server::answering(move |_| answer()).await;
        let sidecar = mesh.sidecar().admin().inbound(server.address).yaml(KEEP).start();
        let caller = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = caller.local_addr().unwrap().port();
        let context = json!({"traceparent": UNSAMPLED, "tracestate": format!("mt=b7ad6b7169203331;n{port}")});
        modern_call(1, context).send(sidecar.inbound()).await;
        let mut packet = [0; 100];
        let read = tokio::time::timeout(PATIENCE, caller.recv_from(&mut packet));
        let (length, _) = read.await.expect("a notice").unwrap();
        assert!(hop::parse_notice(&packet[..length]).unwrap().eq([trace()]));
        mesh.stop().await;
    }
}

/// A question in the stream of a request that the client refuses: the trace is that of the request, whose caller hears of it
/// while the request still goes on.
#[tokio::test]
async fn a_question_that_fails_is_told_the_caller_of_its_request() {
    let mesh = Mesh::start().await;
    let open = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let server = Server::start(move |asked| {
        let open = std::sync::Arc::clone(&open);
        async move {
            if asked.json()["method"].is_null() {
                return Answer::status(202, "");
            }
            let (pieces, answer) = Answer::pieces("text/event-stream");
            let question = json!({"jsonrpc": "2.0", "id": 7, "method": "elicitation/create", "params": {}});
            pieces.send(Ok(event(&question).into())).await.unwrap();
            open.lock().unwrap().push(pieces);
            answer
        }
    });
    let server = server.await;
    let sidecar = mesh.sidecar().admin().inbound(server.address).yaml(KEEP).start();
    let caller = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = caller.local_addr().unwrap().port();
    let context = json!({"traceparent": UNSAMPLED, "tracestate": format!("mt=b7ad6b7169203331;n{port}")});
    let mut call = legacy_call(1, context).open(sidecar.inbound()).await;
    call.read_until("elicitation").await;
    let refusal = json!({"jsonrpc": "2.0", "id": 7, "error": {"code": -1, "message": "no"}});
    Call::post(refusal.to_string()).header("mcp-session-id", "s-1").send(sidecar.inbound()).await;
    let mut packet = [0; 100];
    let read = tokio::time::timeout(PATIENCE, caller.recv_from(&mut packet));
    let (length, _) = read.await.expect("a notice").unwrap();
    assert!(hop::parse_notice(&packet[..length]).unwrap().eq([trace()]));
    drop(call);
    let mut why: Vec<_> = mesh
        .stop()
        .await
        .iter()
        .map(|span| (span.name.clone(), span.attribute("meshtrace.sampling.reason")))
        .collect();
    why.sort_by_key(|(name, _)| name.clone());
    assert_eq!(
        why,
        [("elicitation/create".to_owned(), json!("error")), ("tools/call add".to_owned(), json!("trace"))]
    );
}

/// A caller that says another address than it comes from: it hears there on the port of sidecars, and on no other.
#[tokio::test]
async fn an_address_that_is_said_is_one_of_a_sidecar() {
    let mesh = Mesh::start().await;
    let server = Server::answering(|_| Answer::json(&is_error(&1.into()))).await;
    let sidecar = mesh.sidecar().admin().inbound(server.address).yaml(KEEP).start();
    let reply = call_from(9).send(sidecar.inbound()).await;
    let ours = hop::Said::parse(reply.headers[hop::FIELD].as_bytes()).unwrap().at.unwrap().port();
    let socket = |address: &str, port| {
        let socket = UdpSocket::bind((address, port)).unwrap();
        socket.set_nonblocking(true).unwrap();
        tokio::net::UdpSocket::from_std(socket).unwrap()
    };
    let there = socket("127.0.0.2", ours);
    let here = socket("127.0.0.1", 0);
    let other = here.local_addr().unwrap().port();
    let decoy = UdpSocket::bind(("127.0.0.2", other)).unwrap();
    decoy.set_nonblocking(true).unwrap();
    for (number, (port, hears)) in [(ours, &there), (other, &here)].into_iter().enumerate() {
        let trace = format!("{}af7651916cd43dd8448eb211c80319c", number + 1);
        let context = json!({
            "traceparent": format!("00-{trace}-b7ad6b7169203331-02"),
            "tracestate": format!("mt=b7ad6b7169203331;n{port};a127.0.0.2"),
        });
        modern_call(1, context).send(sidecar.inbound()).await;
        let mut packet = [0; 100];
        let read = tokio::time::timeout(PATIENCE, hears.recv_from(&mut packet));
        let (length, _) = read.await.expect("a notice").unwrap();
        assert!(hop::parse_notice(&packet[..length]).unwrap().eq([TraceId::from_hex(&trace).unwrap()]));
    }
    assert!(decoy.recv_from(&mut [0; 100]).is_err(), "nobody but a sidecar is sent anything there");
    mesh.stop().await;
}

/// Strangers who guess: nothing is sent, nothing grows, and all of it is counted.
#[tokio::test]
async fn a_flood_of_notices_has_no_effect() {
    let mesh = Mesh::start().await;
    let server = Server::answering(ok).await;
    let sidecar = mesh.sidecar().admin().inbound(server.address).yaml(KEEP).start();
    let reply = call_from(9).send(sidecar.inbound()).await;
    let at = hop::Said::parse(reply.headers[hop::FIELD].as_bytes()).unwrap().at.unwrap();
    let (socket, ids) = (UdpSocket::bind("127.0.0.1:0").unwrap(), Ids::seeded(5, 6));
    for number in 0..3_000_u32 {
        let mut notice = hop::encode_notice(&std::array::from_fn::<_, 64, _>(|_| ids.trace_id()));
        if number % 3 == 0 {
            notice.pop();
        }
        // Some find the buffer of the kernel full, which is no concern of the sender.
        let _ = socket.send_to(&notice, at);
    }
    let metrics = mesh.metrics();
    until(|| metrics.notices.unknown.get() > 640 && metrics.notices.malformed.get() > 5).await;
    assert_eq!(metrics.notices.known.get(), 0);
    assert_eq!(call_from(9).send(sidecar.inbound()).await.status, 200, "it serves on");
    assert_eq!(metrics.notices.sent.get(), 0, "nothing is passed on");
    assert_eq!(mesh.stop().await, []);
}

/// A caller that is gone, and one that names a port where nobody listens.
#[tokio::test]
async fn a_neighbour_that_does_not_listen_costs_nothing() {
    let mesh = Mesh::start().await;
    let server = Server::answering(|_| Answer::close()).await;
    let sidecar = mesh.sidecar().admin().inbound(server.address).yaml(KEEP).start();
    let free: SocketAddr = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for _ in 0..50 {
        assert_eq!(call_from(free.port()).send(sidecar.inbound()).await.status, 502);
    }
    let metrics = mesh.metrics();
    until(|| metrics.notices.sent.get() == 1).await;
    let spans = mesh.stop().await;
    assert_eq!(spans.len(), 50);
    assert_eq!(metrics.notices.sent.get(), 1, "once for all that is known of the trace, and never again");
}
