//! The scripted client: the same calls in the same order as the clients of the other languages.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, ClientRequest, CustomRequest, GetPromptRequestParams, PingRequest,
    ProgressNotificationParam, ProtocolVersion, ReadResourceRequestParams,
};
use rmcp::service::{NotificationContext, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt, RoleClient, ServiceError};
use serde::Serialize;
use serde_json::{Value, json};

use crate::transcript::say;

const TEXT: &str = "naïve – \"quoted\" \\ 日本 😀 \u{1} </script>";

/// Collects the progress that the server reports, in the order of arrival.
#[derive(Clone, Default)]
struct Watcher(Arc<Mutex<Vec<Value>>>);

impl ClientHandler for Watcher {
    async fn on_progress(
        &self,
        step: ProgressNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        if let Ok(mut steps) = self.0.lock() {
            steps.push(json!([step.progress, step.total, step.message]));
        }
    }
}

type Client = RunningService<RoleClient, Watcher>;

/// Runs one call and prints its answer, or its error as the SDK tells it.
async fn attempt<T: Serialize>(step: &str, call: impl Future<Output = Result<T, ServiceError>>) {
    say(step, &outcome(call).await);
}

async fn outcome<T: Serialize>(call: impl Future<Output = Result<T, ServiceError>>) -> Value {
    match tokio::time::timeout(Duration::from_secs(20), call).await {
        Ok(Ok(answer)) => json!({ "result": answer }),
        Ok(Err(ServiceError::McpError(error))) => json!({ "error": error }),
        Ok(Err(error)) => json!({ "error": { "message": error.to_string() } }),
        Err(_) => json!({ "error": { "message": "no answer in time" } }),
    }
}

fn call(name: &'static str, arguments: Value) -> CallToolRequestParams {
    CallToolRequestParams::new(name)
        .with_arguments(arguments.as_object().cloned().unwrap_or_default())
}

/// Calls of tools, good and bad, small and large, one at a time and at once.
async fn tools(client: &Client) -> Result<(), crate::Failure> {
    attempt("tools", client.list_tools(None)).await;
    attempt(
        "echo",
        client.call_tool(call("echo", json!({ "text": TEXT }))),
    )
    .await;
    let long = TEXT.repeat(5000);
    attempt(
        "echo long",
        client.call_tool(call("echo", json!({ "text": long }))),
    )
    .await;
    attempt(
        "add",
        client.call_tool(call("add", json!({ "a": 2, "b": 3 }))),
    )
    .await;
    attempt(
        "add wrong",
        client.call_tool(call("add", json!({ "a": "x" }))),
    )
    .await;
    attempt("fail", client.call_tool(call("fail", json!({})))).await;
    attempt(
        "unknown tool",
        client.call_tool(call("no_such_tool", json!({}))),
    )
    .await;
    let unknown = ClientRequest::CustomRequest(CustomRequest::new("meshtrace/unknown", None));
    attempt("unknown method", client.send_request(unknown)).await;
    attempt("slow", client.call_tool(call("slow", json!({ "ms": 60 })))).await;

    let mut answer = outcome(client.call_tool(call("stream", json!({ "n": 4 })))).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let steps = client
        .service()
        .0
        .lock()
        .map(|steps| steps.clone())
        .unwrap_or_default();
    answer["progress"] = Value::from(steps);
    say("stream", &answer);

    attempt("ask", client.call_tool(call("ask", json!({})))).await;
    if client
        .peer_info()
        .is_some_and(|about| !about.protocol_version.has_initialize())
    {
        // Here leaving is how a call is cancelled.
        let slow = client.call_tool(call("slow", json!({ "ms": 5000 })));
        let left = tokio::time::timeout(Duration::from_millis(200), slow)
            .await
            .is_err();
        say("hurry", &json!({ "left": left }));
    }

    let large = "m".repeat(1_400_000);
    attempt(
        "measure",
        client.call_tool(call("measure", json!({ "text": large }))),
    )
    .await;
    attempt(
        "blob",
        client.call_tool(call("blob", json!({ "n": 400_000 }))),
    )
    .await;

    let (zero, one, two, slow) = tokio::join!(
        client.call_tool(call("echo", json!({ "text": "at once 0" }))),
        client.call_tool(call("echo", json!({ "text": "at once 1" }))),
        client.call_tool(call("echo", json!({ "text": "at once 2" }))),
        client.call_tool(call("slow", json!({ "ms": 40 }))),
    );
    say("at once", &json!({ "result": [zero?, one?, two?, slow?] }));
    Ok(())
}

/// Connects, runs the script, closes. The answer of `seen` goes to stderr.
pub async fn run(legacy: bool, url: &str) -> Result<(), crate::Failure> {
    let lifecycle = match legacy {
        true => ClientLifecycleMode::Initialize,
        false => ClientLifecycleMode::Auto {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            legacy_version: Some(ProtocolVersion::V_2025_11_25),
        },
    };
    let transport = StreamableHttpClientTransport::from_uri(url);
    let client = Watcher::default()
        .serve_with_lifecycle(transport, lifecycle)
        .await?;
    let about = client
        .peer_info()
        .ok_or("the peer said nothing of itself")?;
    let handshake = about.protocol_version.has_initialize();
    say(
        "connected",
        &json!({ "version": about.protocol_version, "server": about.server_info }),
    );
    tools(&client).await?;
    attempt("prompts", client.list_prompts(None)).await;
    let ada = json!({ "name": "Ada" })
        .as_object()
        .cloned()
        .unwrap_or_default();
    let greet = GetPromptRequestParams::new("greet").with_arguments(ada);
    attempt("prompt", client.get_prompt(greet)).await;
    let unknown = GetPromptRequestParams::new("no_such_prompt");
    attempt("unknown prompt", client.get_prompt(unknown)).await;
    attempt("resources", client.list_resources(None)).await;
    let note = ReadResourceRequestParams::new("note://today");
    attempt("resource", client.read_resource(note)).await;
    let unknown = ReadResourceRequestParams::new("note://nowhere");
    attempt("unknown resource", client.read_resource(unknown)).await;
    if handshake {
        let ping = ClientRequest::PingRequest(PingRequest::default());
        attempt("ping", client.send_request(ping)).await;
    }
    let answer = client
        .call_tool(call("seen", json!({ "text": "who asks" })))
        .await?;
    let answer = serde_json::to_value(answer)?;
    eprintln!(
        "{}",
        answer["content"][0]["text"].as_str().unwrap_or_default()
    );
    client.cancel().await?;
    say("closed", &json!({}));
    Ok(())
}
