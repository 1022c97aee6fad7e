//! The example with the agent whose log lines name their trace.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::process::{Process, free_address};
use crate::support::mesh::legacy_call;

struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn an_agents_own_lines_lead_to_the_span() {
    let (app, listen) = (free_address(), free_address());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/correlated-logs/agent.py");
    let started =
        Command::new("python3").args([script, &app.port().to_string()]).stdout(Stdio::piped()).spawn();
    let Ok(mut agent) = started.map(Agent) else {
        println!("skipped: there is no python3");
        return;
    };
    let mut lines = BufReader::new(agent.0.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert!(next()["message"].as_str().unwrap().starts_with("serving"));
    let inbound = format!("{listen}={app}");
    let args = ["proxy", "--inbound", &inbound, "--admin", "off", "--access-log", "json"];
    let process = Process::ready(&args, &[("OTEL_SERVICE_NAME", "weather")]).await;
    legacy_call(1, json!({})).send(listen).await;
    process.prints("\"message\":\"request\"").await;
    let ours: Value = serde_json::from_str(process.out().lines().next().unwrap()).unwrap();
    let theirs = next();
    assert_eq!(theirs["message"], "asked for tools/call");
    for id in ["trace_id", "span_id", "trace_flags"] {
        assert!(ours[id].is_string() && ours[id] == theirs[id], "{id}: {ours} {theirs}");
    }
}
