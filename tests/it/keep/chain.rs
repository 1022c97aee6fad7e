//! Four sidecars in a row at 1 %: how many failed traces arrive whole, and how
//! many that did not fail arrive at all.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use meshtrace::trace::ids::Ids;
use serde_json::{Value, json};

use crate::support::mesh::{
    Answer, Asked, Era, Mesh, PATIENCE, Running, Server, error, event, is_error, request, result,
};

const ONE_PERCENT: &str = "sampling: { rules: [{ sample: 1%, root: true }], keep: { errors: true } }";

/// Of a trace in which every agent but the last makes two calls.
const SPANS: usize = 13;

const HOPS: usize = 4;

/// How a tool fails.
#[derive(Clone, Copy, Debug)]
enum Failure {
    Status,
    IsError,
    RpcError,
    EventIsError,
    /// The answer is an event, well after the head.
    LateEventIsError,
}

const FAILURES: [Failure; 5] =
    [Failure::Status, Failure::IsError, Failure::RpcError, Failure::EventIsError, Failure::LateEventIsError];

impl Failure {
    async fn answer(self, id: &Value) -> Answer {
        match self {
            Failure::Status => Answer::status(500, ""),
            Failure::IsError => Answer::json(&is_error(id)),
            Failure::RpcError => Answer::json(&error(id, -32603, "no")),
            Failure::EventIsError => Answer::events(&[is_error(id)]),
            Failure::LateEventIsError => {
                let (pieces, answer) = Answer::pieces("text/event-stream");
                let event = event(&is_error(id));
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    let _ = pieces.send(Ok(event.into())).await;
                });
                answer
            }
        }
    }
}

/// Where and how a trace fails: the tool `check` of the agent of this number,
/// or of the last one the tool `plan`.
type Fails = Option<(usize, Failure)>;

/// An agent that looks before it leaps: for a `plan` it has the next agent `check` and then `plan`,
/// and it gets over whatever comes of that.
async fn agent(number: usize, next: Arc<OnceLock<SocketAddr>>, events: bool) -> Server {
    Server::start(move |asked: Asked| {
        let next = next.get().copied();
        async move {
            let message = asked.json();
            let (tool, arguments) = (&message["params"]["name"], &message["params"]["arguments"]);
            if let (Some(next), "plan") = (next, tool.as_str().unwrap()) {
                let context =
                    json!({"traceparent": asked.meta("traceparent"), "tracestate": asked.meta("tracestate")});
                for tool in ["check", "plan"] {
                    let params = json!({"name": tool, "arguments": arguments, "_meta": context});
                    request(Era::Modern, 1.into(), "tools/call", params).send(next).await;
                }
            }
            let fails = arguments["at"] == number && *tool == if number == HOPS { "plan" } else { "check" };
            match arguments["how"].as_u64().filter(|_| fails) {
                Some(how) => FAILURES[how as usize].answer(&asked.id()).await,
                None if events => Answer::events(&[result(&asked.id())]),
                None => Answer::json(&result(&asked.id())),
            }
        }
    })
    .await
}

/// Four agents with sidecars, and where the first of them is.
async fn chain(mesh: &Mesh, notices: bool, events: bool) -> (Vec<(Server, Running)>, SocketAddr) {
    let mut hops: Vec<(Server, Running)> = Vec::new();
    for number in (1..=HOPS).rev() {
        let outbound = Arc::<OnceLock<SocketAddr>>::default();
        let agent = agent(number, Arc::clone(&outbound), events).await;
        let mut sidecar = mesh.sidecar().named(&format!("agent-{number}")).inbound(agent.address);
        if notices {
            sidecar = sidecar.admin();
        }
        if let Some((_, next)) = hops.last() {
            sidecar = sidecar.outbound(next.inbound());
        }
        let sidecar = sidecar.yaml(ONE_PERCENT).start();
        if number < HOPS {
            outbound.set(sidecar.outbound()).unwrap();
        }
        hops.push((agent, sidecar));
    }
    let first = hops.last().unwrap().1.inbound();
    (hops, first)
}

/// What became of the traces of one run.
#[derive(Debug, Default)]
struct Tally {
    failed: usize,
    failed_whole: usize,
    sampled: usize,
    sampled_whole: usize,
    others: usize,
    kept_without_cause: usize,
}

impl Tally {
    fn share(&self) -> f64 {
        self.failed_whole as f64 / self.failed as f64
    }
}

/// Sends traces of which one in eight fails, and counts what arrives of each kind.
async fn run(events: bool, traces: usize, seed: u64) -> Tally {
    let mesh = Mesh::start().await;
    let (_hops, first) = chain(&mesh, true, events).await;
    let ids = Ids::seeded(seed, 7);
    let mut sent: HashMap<String, Fails> = HashMap::new();
    let mut calls = Vec::new();
    for number in 0..traces {
        let fails = (number % 8 == 0).then(|| {
            let number = number / 8;
            (2 + number % (HOPS - 1), FAILURES[number % FAILURES.len()])
        });
        let (trace, span) = (ids.trace_id(), ids.span_id());
        sent.insert(trace.to_string(), fails);
        let arguments = fails.map_or(json!({}), |(at, how)| json!({"at": at, "how": how as u64}));
        let context = json!({"traceparent": format!("00-{trace}-{span}-02")});
        let params = json!({"name": "plan", "arguments": arguments, "_meta": context});
        calls.push(request(Era::Modern, 1.into(), "tools/call", params));
    }
    for some in calls.chunks(8) {
        let all = some.iter().cloned().map(|call| tokio::spawn(call.send(first)));
        for one in all.collect::<Vec<_>>() {
            one.await.unwrap();
        }
    }
    tokio::time::timeout(PATIENCE, settled(&mesh)).await.expect("an end of what arrives");
    let mut spans: HashMap<String, usize> = HashMap::new();
    for span in mesh.stop().await {
        *spans.entry(span.trace).or_default() += 1;
    }
    let mut tally = Tally::default();
    for (trace, fails) in sent {
        let arrived = spans.remove(&trace).unwrap_or_default();
        assert!(arrived <= SPANS);
        let whole = usize::from(arrived == SPANS);
        if is_sampled(&trace) {
            tally.sampled += 1;
            tally.sampled_whole += whole;
        } else if fails.is_some() {
            tally.failed += 1;
            tally.failed_whole += whole;
        } else {
            tally.others += 1;
            tally.kept_without_cause += usize::from(arrived > 0);
        }
    }
    assert!(spans.is_empty(), "of traces that nobody sent: {spans:?}");
    tally
}

/// The decision for 1 %, from the rightmost 56 bits of the id.
fn is_sampled(trace: &str) -> bool {
    let threshold = (0.99 * (1u64 << 56) as f64).round() as u64;
    u64::from_str_radix(&trace[18..], 16).unwrap() >= threshold
}

/// Returns when nothing new has come for a while.
async fn settled(mesh: &Mesh) {
    let mut before = (usize::MAX, 0);
    while before.1 < 10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = mesh.spans().len();
        before = if now == before.0 { (now, before.1 + 1) } else { (now, 0) };
    }
}

#[tokio::test]
async fn failed_traces_arrive_whole_and_no_others() {
    for (events, seed) in [(false, 11), (true, 12)] {
        let tally = run(events, 320, seed).await;
        println!("events: {events}, whole: {:.3}, {tally:?}", tally.share());
        assert!(tally.failed >= 35 && tally.sampled >= 1, "{tally:?}");
        assert!(tally.share() >= 0.98, "{tally:?}");
        assert_eq!(tally.kept_without_cause, 0, "{tally:?}");
        assert_eq!(tally.sampled_whole, tally.sampled, "{tally:?}");
    }
}

/// Where notices are not taken, heads of responses still carry it up the way
/// of the request; what was called beside that way does not hear of it.
#[tokio::test]
async fn without_notices_the_way_to_the_failure_arrives() {
    for (at, expected) in [(HOPS, [3, 4, 4, 2]), (2, [3, 4, 0, 0])] {
        let mesh = Mesh::start().await;
        let (_hops, first) = chain(&mesh, false, false).await;
        let context = json!({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-02"});
        let arguments = json!({"at": at, "how": Failure::IsError as u64});
        let params = json!({"name": "plan", "arguments": arguments, "_meta": context});
        request(Era::Modern, 1.into(), "tools/call", params).send(first).await;
        let spans = mesh.stop().await;
        let of = |agent: &str| spans.iter().filter(|span| span.service == agent).count();
        assert_eq!(["agent-1", "agent-2", "agent-3", "agent-4"].map(of), expected, "{spans:#?}");
    }
}
