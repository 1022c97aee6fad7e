//! An agent on MCP Mesh and its registry: requests that are named for what they are.

use serde_json::json;

use super::{watch, watch_with};
use crate::support::mesh::{Answer, Asked, Call, SIDES};

const REGISTRATION: &str = r#"{"agent_id":"planner-agent-312508f0","name":"planner-agent","agent_type":"mcp_agent",
    "tools":[{"function_name":"plan","dependencies":[{"capability":"forecast"}]}]}"#;

/// Answers as the registry does.
fn registry(asked: &Asked) -> Answer {
    match asked.path.as_str() {
        "/heartbeat" => Answer::json(&json!({
            "agent_id": "planner-agent-312508f0",
            "dependencies_resolved": {"plan": [{"agent_id": "weather-agent-484099c4", "status": "available"}]},
            "status": "success",
        })),
        _ => Answer::status(200, ""),
    }
}

fn calls() -> [Call; 3] {
    [
        Call::post(REGISTRATION).at("/heartbeat"),
        Call::method("HEAD", "/heartbeat/planner-agent-312508f0"),
        Call::method("DELETE", "/agents/planner-agent-312508f0"),
    ]
}

#[tokio::test]
async fn a_registration_a_heartbeat_and_a_farewell() {
    for side in SIDES {
        let watched = watch(registry, calls().into_iter().map(|call| (side, call)).collect()).await;
        let names: Vec<_> = watched.spans.iter().map(|span| span.name.as_str()).collect();
        let wanted =
            ["mesh/register planner-agent", "mesh/heartbeat planner-agent", "mesh/unregister planner-agent"];
        assert_eq!(names, wanted);
        for span in &watched.spans {
            let attributes = span.all_attributes();
            assert_eq!(span.kind, side.kind());
            assert_eq!(attributes["agent.name"], "planner-agent");
            assert_eq!(attributes["agent.id"], "planner-agent-312508f0");
            assert_eq!(attributes["http.response.status_code"], 200);
            assert_eq!(span.error, None);
        }
        assert_eq!(watched.spans[0].all_attributes()["agent.target"], "weather-agent");
        assert!(watched.spans[1].all_attributes().get("agent.target").is_none());
    }
}

#[tokio::test]
async fn heartbeats_can_be_ignored() {
    let yaml = "spans: { ignore: [{ method: mesh/heartbeat }] }";
    for side in SIDES {
        let watched =
            watch_with(yaml, registry, calls().into_iter().map(|call| (side, call)).collect()).await;
        let names: Vec<_> = watched.spans.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["mesh/register planner-agent", "mesh/unregister planner-agent"]);
        assert_eq!(watched.asked.len(), 3, "what is ignored passes all the same");
    }
}
