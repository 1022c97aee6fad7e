//! What must never be said anywhere: a marker goes through every place where
//! secrets stand, and is looked for in every output.

use meshtrace::store::{Limits, Receiver};
use serde_json::json;

use super::process::{Process, free_address};
use crate::support::mesh::{Answer, Call, Era, Scratch, Server, modern_call, request};

const MARKER: &str = "hush-4711";

#[tokio::test]
async fn secrets_are_in_no_output() {
    // What the server says back is a secret as well.
    let server = Server::answering(|asked| {
        let result = json!({"resultType": "input_required", "requestState": MARKER, "content": MARKER});
        let answer = Answer::json(&json!({"jsonrpc": "2.0", "id": asked.id(), "result": result}));
        answer.header("set-cookie", MARKER).header("www-authenticate", MARKER)
    });
    let server = server.await;
    let collector = Receiver::start(Limits::default()).await.unwrap();
    let (admin, listen, out) = (free_address(), free_address(), free_address());
    let file = Scratch::new("sampling: { keep: { errors: true } }\n");
    let (inbound, outbound) =
        (format!("{listen}={}", server.address), format!("{out}=http://{}", server.address));
    let admin_text = admin.to_string();
    let mut args = vec!["proxy", "--inbound", &inbound, "--outbound", &outbound, "--admin", &admin_text];
    args.extend(["--access-log", "json", "--log-format", "json", "--config", file.0.to_str().unwrap()]);
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint()),
        ("OTEL_TRACES_EXPORTER", "otlp,console".to_owned()),
        ("OTEL_EXPORTER_OTLP_HEADERS", format!("x-key={MARKER}")),
        ("OTEL_BSP_SCHEDULE_DELAY", "20".to_owned()),
        ("OTEL_LOG_LEVEL", "trace".to_owned()),
    ];
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let process = Process::ready(&args, &env).await;
    let with_secrets = |call: Call| {
        let query = format!("/mcp?session_id={MARKER}&access_token={MARKER}");
        ["authorization", "cookie", "proxy-authorization", "x-api-key"]
            .into_iter()
            .fold(call.at(&query), |call, name| call.header(name, MARKER))
    };
    for to in [listen, out] {
        let arguments = json!({"password": MARKER});
        let params = json!({"name": "add", "arguments": arguments, "requestState": MARKER,
            "inputResponses": {"a": MARKER}});
        let uri = format!("https://{MARKER}:{MARKER}@host/x?token={MARKER}");
        with_secrets(request(Era::Modern, 1.into(), "tools/call", params)).send(to).await;
        with_secrets(request(Era::Modern, 2.into(), "resources/read", json!({"uri": uri}))).send(to).await;
        with_secrets(Call::get("/")).send(to).await;
        with_secrets(modern_call(3, json!({}))).send(to).await;
    }
    let mut outputs = Vec::new();
    for path in ["/metrics", "/config", "/debug/pending", "/debug/links", "/log-level"] {
        outputs.push(Call::get(path).send(admin).await.body.to_vec());
    }
    outputs.push(
        Call::get("/metrics")
            .header("accept", "application/openmetrics-text")
            .send(admin)
            .await
            .body
            .to_vec(),
    );
    process.signal("TERM");
    let done = process.exit().await;
    assert_eq!(done.out.matches("\"message\":\"request\"").count(), 8, "{}", done.out);
    assert!(done.out.contains("tools/call add"), "the console: {}", done.out);
    outputs.push(done.out.into_bytes());
    outputs.push(done.err.into_bytes());
    let spans = format!("{:?}", collector.store().traces());
    assert!(spans.contains("resources/read") && spans.contains("REDACTED"), "{spans}");
    outputs.push(spans.into_bytes());
    for output in outputs {
        let text = String::from_utf8_lossy(&output);
        assert!(!text.contains(MARKER), "a secret is in:\n{text}");
    }
}
