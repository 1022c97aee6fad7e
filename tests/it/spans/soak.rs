//! A span ends exactly once, however its request ends: hundreds of requests
//! with every ending there is, many at a time.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::json;
use tokio::sync::{Mutex, Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::mesh::{
    Answer, Asked, Call, Era, Mesh, PATIENCE, SIDES, Server, error, is_error, notification, request, result,
};

/// How a request ends. The server reads it from the tool's name.
const ENDINGS: [&str; 11] = [
    "json",
    "events",
    "tool_error",
    "rpc_error",
    "http_error",
    "empty",
    "torn",
    "closed",
    "leaves",
    "leaves_later",
    "after",
];

#[tokio::test]
async fn every_request_is_one_span_whatever_becomes_of_it() {
    const REQUESTS: usize = 440;
    let held = Arc::new(Held::default());
    let server = {
        let held = Arc::clone(&held);
        Server::start(move |asked| script(asked, Arc::clone(&held))).await
    };
    let mesh = Mesh::start().await;
    let sidecar = mesh.sidecar().around(server.address).start();
    let at_once = Arc::new(Semaphore::new(24));
    let mut tasks = JoinSet::new();
    for number in 0..REQUESTS {
        let ending = ENDINGS[number % ENDINGS.len()];
        let to = sidecar.at(SIDES[number / ENDINGS.len() % 2]);
        let era = if number % 3 == 0 { Era::Modern } else { Era::Legacy };
        let permit = Arc::clone(&at_once).acquire_owned().await.unwrap();
        let held = Arc::clone(&held);
        tasks.spawn(async move {
            client(number, ending, era, to, &held).await;
            drop(permit);
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    // And some that are no calls, of which the notifications count.
    for number in 0..20 {
        let call = if number % 2 == 0 {
            notification("notifications/initialized", json!({}))
        } else {
            request(Era::Legacy, number.into(), "ping", json!({}))
        };
        call.send(sidecar.at(SIDES[number / 2 % 2])).await;
    }
    let spans = mesh.stop().await;
    let ids: HashSet<_> = spans.iter().map(|span| (&span.trace, &span.id)).collect();
    assert_eq!(ids.len(), spans.len(), "a span ended twice");
    assert_eq!(spans.len(), REQUESTS + 10);
    for (number, ending) in ENDINGS.iter().enumerate() {
        let of_this: Vec<_> =
            spans.iter().filter(|span| span.name == format!("tools/call {ending}")).collect();
        assert_eq!(of_this.len(), REQUESTS / ENDINGS.len(), "{number} {ending}");
        for span in of_this {
            let wanted: &[&str] = match *ending {
                "tool_error" => &["tool_error"],
                "rpc_error" => &["-32000"],
                "http_error" => &["500"],
                "empty" | "closed" => &["connection_closed"],
                "torn" => &["connection_closed", "connection_reset"],
                _ => &[""],
            };
            assert!(wanted.contains(&span.error_type().as_str()), "{span:#?}");
        }
    }
}

/// Meetings of client and server about one request.
#[derive(Default)]
struct Held(Mutex<std::collections::HashMap<u64, Arc<Notify>>>);

impl Held {
    async fn of(&self, number: u64) -> Arc<Notify> {
        Arc::clone(self.0.lock().await.entry(number).or_default())
    }
}

async fn script(asked: Asked, held: Arc<Held>) -> Answer {
    let (message, id) = (asked.json(), asked.id());
    if id.is_null() {
        return Answer::status(202, "");
    }
    match message["params"]["name"].as_str().unwrap_or_default() {
        "events" => Answer::events(&[result(&id)]),
        "tool_error" => Answer::json(&is_error(&id)),
        "rpc_error" => Answer::events(&[error(&id, -32000, "no")]),
        "http_error" => Answer::status(500, "oh"),
        "empty" => Answer::events(&[]),
        "torn" => {
            let (pieces, answer) = Answer::pieces("text/event-stream");
            pieces.send(Ok("data: {".into())).await.unwrap();
            pieces.send(Err(std::io::Error::other("torn"))).await.unwrap();
            answer
        }
        "closed" => Answer::close(),
        "leaves" => {
            held.of(id.as_u64().unwrap()).await.notify_one();
            std::future::pending().await
        }
        "leaves_later" | "after" => {
            let (pieces, answer) = Answer::pieces("text/event-stream");
            let text = if message["params"]["name"] == "after" {
                format!("data: {}\n\n", result(&id))
            } else {
                ": x\n\n".to_owned()
            };
            tokio::spawn(async move {
                pieces.send(Ok(text.into())).await.unwrap();
                // Goes on until the client has left.
                pieces.closed().await;
            });
            answer
        }
        _ => Answer::json(&result(&id)),
    }
}

async fn client(number: usize, ending: &str, era: Era, to: std::net::SocketAddr, held: &Held) {
    let call: Call = request(era, number.into(), "tools/call", json!({"name": ending}));
    match ending {
        "leaves" => {
            let asked = held.of(number as u64).await;
            let task = tokio::spawn(call.try_open(to));
            timeout(PATIENCE, asked.notified()).await.expect("the request to arrive");
            task.abort();
        }
        "leaves_later" | "after" => {
            let mut open = call.open(to).await;
            open.read_until("\n\n").await;
        }
        // hyper's server may tear the connection before the head has left.
        "torn" => {
            if let Ok(whole) = call.open(to).await.try_read().await {
                assert_eq!(whole.status, 502, "a torn answer looked whole");
            }
        }
        "closed" => assert_eq!(call.send(to).await.status, 502),
        _ => drop(call.send(to).await),
    }
}
