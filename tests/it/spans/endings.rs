//! Rows 18 to 20: requests whose answer never comes, because a stream ends
//! without it or because the client has left.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{Stage, watch};
use crate::support::mesh::{
    Answer, Asked, Call, Era, PATIENCE, SIDES, Server, Side, expected, legacy_call, merge, modern_call,
    result,
};

const ERAS: [Era; 2] = [Era::Legacy, Era::Modern];

fn add(era: Era) -> Call {
    match era {
        Era::Legacy => legacy_call(1, json!({})),
        Era::Modern => modern_call(1, json!({})),
    }
}

#[tokio::test]
async fn row_18_a_stream_that_ends_without_an_answer() {
    let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}});
    let other = result(&json!("another"));
    for side in SIDES {
        let messages = [progress.clone(), other.clone()];
        let script = move |_: &Asked| Answer::events(&messages);
        let watched = watch(script, ERAS.map(|era| (side, add(era))).into()).await;
        assert_eq!(watched.spans.len(), 2);
        for span in &watched.spans {
            assert_eq!(span.error_type(), "connection_closed", "{span:#?}");
            assert!(span.error.is_some());
        }
    }
}

#[tokio::test]
async fn row_18_an_empty_stream() {
    for side in SIDES {
        let watched = watch(|_| Answer::events(&[]), vec![(side, add(Era::Modern))]).await;
        let span = &watched.spans[0];
        let message = json!({
            "mcp.method.name": "tools/call", "gen_ai.tool.name": "add", "gen_ai.operation.name": "execute_tool",
            "jsonrpc.request.id": "1", "mcp.protocol.version": "2026-07-28", "error.type": "connection_closed",
        });
        assert_eq!(span.all_attributes(), expected(side, &watched.replies[0], watched.server, message));
    }
}

/// A body that breaks off is a failure whatever was in it, and the client sees it break off too.
#[tokio::test]
async fn row_18_a_body_that_breaks_off() {
    for side in SIDES {
        for content_type in ["text/event-stream", "application/json"] {
            let (pieces, answer) = Answer::pieces(content_type);
            let answer = std::sync::Mutex::new(Some(answer));
            let stage = Stage::set("", move |_| answer.lock().unwrap().take().unwrap()).await;
            let mut open = add(Era::Modern).open(stage.sidecar.at(side)).await;
            pieces.send(Ok("data: {\"jsonrpc\"".into())).await.unwrap();
            open.read_until("jsonrpc").await;
            pieces.send(Err(std::io::Error::other("torn"))).await.unwrap();
            assert!(open.try_read().await.is_err(), "a torn body looked whole");
            let span = stage.mesh.only_span().await;
            assert!(
                ["connection_closed", "connection_reset"].contains(&span.error_type().as_str()),
                "{span:#?}"
            );
        }
    }
}

/// A server that keeps what it was asked to itself, and says so.
async fn silent() -> (Server, Arc<Notify>) {
    let asked = Arc::new(Notify::new());
    let notify = Arc::clone(&asked);
    let server = Server::start(move |_| {
        notify.notify_one();
        std::future::pending()
    });
    (server.await, asked)
}

fn abandoned(era: Era) -> Value {
    let mut all = json!({
        "mcp.method.name": "tools/call", "gen_ai.tool.name": "add", "gen_ai.operation.name": "execute_tool",
        "jsonrpc.request.id": "1", "mcp.protocol.version": era.version(),
    });
    match era {
        Era::Modern => merge(&mut all, json!({"meshtrace.cancelled": true})),
        Era::Legacy => merge(&mut all, json!({"meshtrace.disconnected": true, "mcp.session.id": "s-1"})),
    }
    all
}

async fn leaves_before_the_head(era: Era) {
    for side in SIDES {
        let (server, asked) = silent().await;
        let stage = Stage::with("", server).await;
        let to = stage.sidecar.at(side);
        let client = tokio::spawn(add(era).try_open(to));
        timeout(PATIENCE, asked.notified()).await.unwrap();
        client.abort();
        let span = stage.mesh.wait_for(1).await.remove(0);
        assert_eq!(span.error, None, "{span:#?}");
        for (key, value) in abandoned(era).as_object().unwrap() {
            assert_eq!(span.attribute(key), *value, "{key}");
        }
        assert_eq!(span.error_type(), "");
        assert_eq!(stage.mesh.only_span().await, span);
    }
}

async fn leaves_in_the_stream(era: Era) {
    for side in SIDES {
        let (pieces, answer) = Answer::pieces("text/event-stream");
        let answer = std::sync::Mutex::new(Some(answer));
        let stage = Stage::set("", move |_| answer.lock().unwrap().take().unwrap()).await;
        let mut open = add(era).open(stage.sidecar.at(side)).await;
        pieces.send(Ok(": here\n\n".into())).await.unwrap();
        open.read_until("here").await;
        drop(open);
        // The server is told.
        timeout(PATIENCE, pieces.closed()).await.expect("the disconnect upstream");
        let span = stage.mesh.only_span().await;
        assert_eq!(span.error, None, "{span:#?}");
        for (key, value) in abandoned(era).as_object().unwrap() {
            assert_eq!(span.attribute(key), *value, "{key}");
        }
    }
}

#[tokio::test]
async fn row_19_a_client_that_leaves_cancels_since_2026() {
    leaves_before_the_head(Era::Modern).await;
    leaves_in_the_stream(Era::Modern).await;
}

#[tokio::test]
async fn row_20_a_legacy_client_that_leaves_does_not_cancel() {
    leaves_before_the_head(Era::Legacy).await;
    leaves_in_the_stream(Era::Legacy).await;
}

/// Leaving after the answer is no cancellation.
#[tokio::test]
async fn row_19_leaving_after_the_answer_is_nothing() {
    let (pieces, answer) = Answer::pieces("text/event-stream");
    let answer = std::sync::Mutex::new(Some(answer));
    let stage = Stage::set("", move |_| answer.lock().unwrap().take().unwrap()).await;
    let mut open = add(Era::Modern).open(stage.sidecar.at(Side::Server)).await;
    pieces.send(Ok(format!("data: {}\n\n", result(&json!(1))).into())).await.unwrap();
    open.read_until("result").await;
    drop(open);
    timeout(PATIENCE, pieces.closed()).await.expect("the disconnect upstream");
    let span = stage.mesh.only_span().await;
    assert_eq!(span.attribute("meshtrace.cancelled"), Value::Null);
}

/// A resumable stream of a session may still be answered elsewhere, so its end is no failure.
#[tokio::test]
async fn row_18_is_not_for_streams_that_can_be_resumed() {
    let script =
        |_: &Asked| Answer::status(200, "id: 7\ndata:\n\n").header("content-type", "text/event-stream");
    for side in SIDES {
        let watched = watch(script, vec![(side, add(Era::Legacy)), (side, add(Era::Modern))]).await;
        assert_eq!(watched.spans[0].error, None);
        assert_eq!(
            watched.spans[1].error_type(),
            "connection_closed",
            "there is no resuming since 2026-07-28"
        );
    }
}
