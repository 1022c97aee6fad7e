//! Counting over lanes, bounds, and the text that a scrape gets.

use opentelemetry::trace::{SpanId, TraceId};

use super::*;

fn call(tool: &str) -> Operation<'_> {
    Operation {
        side: Side::Server,
        method: "tools/call",
        target: Target::Tool(tool),
        revision: Some("2025-06-18"),
        network: ("tcp", "1.1"),
        server: None,
    }
}

fn failed(code: i64) -> Outcome {
    Outcome { status: Status::Error, error: Some(ErrorType::Code(code)), code: Some(code) }
}

fn text(operations: &Operations) -> String {
    let mut out = String::new();
    operations.encode("weather", &mut out);
    out
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn lanes_are_added_up_under_every_name() {
    let operations = Operations::default();
    let (one, other) = (operations.lane(), operations.lane());
    let exemplar = Exemplar {
        trace_id: TraceId::from_bytes([0xab; 16]),
        span_id: SpanId::from_bytes([0xcd; 8]),
        took: SECOND,
        at_unix_nanos: 1_700_000_000_500_000_000,
    };
    one.observe(one.series(&call("add")), Outcome::default(), SECOND, Some(exemplar));
    other.observe(other.series(&call("add")), Outcome::default(), 3 * SECOND, None);
    other.observe(other.series(&call("add")), failed(-32603), SECOND, None);
    let client = Operation { side: Side::Client, server: Some(("w\"x", 80)), ..call("sub") };
    let cancelled = Outcome { status: Status::Cancelled, ..Outcome::default() };
    one.observe(one.series(&client), cancelled, SECOND, None);
    let text = text(&operations);
    for line in [
        "# TYPE mcp_mesh_requests counter",
        r#"mcp_mesh_requests_total{agent="weather",method="tools/call",status="success"} 2"#,
        r#"mcp_mesh_requests_total{agent="weather",method="tools/call",status="error"} 1"#,
        "# TYPE mcp_mesh_request_duration_seconds histogram",
        r#"mcp_mesh_request_duration_seconds_bucket{agent="weather",method="tools/call",le="1.0"} 2 # {trace_id="abababababababababababababababab",span_id="cdcdcdcdcdcdcdcd"} 1.0 1700000000.500"#,
        r#"mcp_mesh_request_duration_seconds_bucket{agent="weather",method="tools/call",le="5.0"} 3"#,
        r#"mcp_mesh_request_duration_seconds_count{agent="weather",method="tools/call"} 3"#,
        r#"mcp_server_operation_duration_seconds_count{mcp_method_name="tools/call",gen_ai_operation_name="execute_tool",gen_ai_tool_name="add",mcp_protocol_version="2025-06-18",network_transport="tcp",network_protocol_name="http",network_protocol_version="1.1"} 2"#,
        r#"mcp_server_operation_duration_seconds_sum{mcp_method_name="tools/call",gen_ai_operation_name="execute_tool",gen_ai_tool_name="add",mcp_protocol_version="2025-06-18",error_type="-32603",rpc_response_status_code="-32603",network_transport="tcp",network_protocol_name="http",network_protocol_version="1.1"} 1.0"#,
        r#"mcp_client_operation_duration_seconds_bucket{mcp_method_name="tools/call",gen_ai_operation_name="execute_tool",gen_ai_tool_name="sub",mcp_protocol_version="2025-06-18",network_transport="tcp",network_protocol_name="http",network_protocol_version="1.1",server_address="w\"x",server_port="80",le="+Inf"} 1"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("cancelled"), "a call of the agent is no request to it");
}

#[test]
fn names_that_peers_invent_are_bounded_over_all_lanes() {
    let operations = Operations::default();
    let lanes = [operations.lane(), operations.lane()];
    for n in 0..3 * MAX_SERIES {
        let name = format!("tool-{n}");
        for lane in &lanes {
            lane.observe(lane.series(&call(&name)), Outcome::default(), SECOND, None);
        }
    }
    let long = "x".repeat(MAX_LABEL_BYTES + 1);
    lanes[0].observe(lanes[0].series(&call(&long)), Outcome::default(), SECOND, None);
    let text = text(&operations);
    let counts = text.lines().filter(|l| l.starts_with("mcp_server_operation_duration_seconds_count"));
    assert_eq!(counts.count(), MAX_SERIES + 1);
    assert!(!text.contains(&long));
    let other = format!(
        r#"mcp_mesh_requests_total{{agent="weather",method="other",status="success"}} {}"#,
        4 * MAX_SERIES + 1
    );
    assert!(text.lines().any(|l| l == other), "{other} is not in\n{text}");
    // What was known before the flood is counted as before.
    lanes[1].observe(lanes[1].series(&call("tool-0")), Outcome::default(), SECOND, None);
    assert!(
        super::tests::text(&operations)
            .contains(&format!(r#"method="tools/call",status="success"}} {}"#, 2 * MAX_SERIES + 1))
    );
}

/// After a flood, tools that were never seen before get labels of their own
/// again, and no total has fallen.
#[test]
fn a_flood_passes() {
    let operations = Operations::default();
    let lanes = [operations.lane(), operations.lane()];
    let once =
        |lane: &Lane, tool: &str| lane.observe(lane.series(&call(tool)), Outcome::default(), SECOND, None);
    let lines = |start: &str| text(&operations).lines().filter(|line| line.starts_with(start)).count();
    let total = || {
        let text = text(&operations);
        let counts = text.lines().filter(|line| line.starts_with("mcp_mesh_requests_total"));
        counts.map(|line| line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap()).sum::<usize>()
    };
    for n in 0..2 * MAX_SERIES {
        once(&lanes[n % 2], &format!("random-{n}"));
    }
    let slow = lanes[0].series(&call("random-0"));
    operations.tick(aging::UNUSED_FOR - 1);
    once(&lanes[0], "random-1");
    once(&lanes[1], "too-late");
    assert!(!text(&operations).contains("too-late"));
    operations.tick(aging::UNUSED_FOR);
    once(&lanes[1], "later");
    let now = text(&operations);
    for (tool, count) in [("later", 1), ("random-1", 2)] {
        let line = format!(r#"gen_ai_tool_name="{tool}","#);
        let line = now
            .lines()
            .find(|l| l.starts_with("mcp_server_operation_duration_seconds_count") && l.contains(&line));
        assert!(line.is_some_and(|line| line.ends_with(&format!(" {count}"))), "{tool}: {line:?}");
    }
    // The two of others: for the method, and for what found no room before.
    assert_eq!(lines("mcp_server_operation_duration_seconds_count"), 4);
    assert!(now.contains(r#"gen_ai_tool_name="other","#), "{now}");
    assert_eq!(total(), 2 * MAX_SERIES + 3);
    // One that began before its labels went is counted all the same, and in nobody else's place.
    lanes[0].observe(slow, Outcome::default(), SECOND, None);
    assert_eq!(total(), 2 * MAX_SERIES + 4);
    // And again: places are used anew, and the bound holds.
    for n in 0..2 * MAX_SERIES {
        once(&lanes[n % 2], &format!("more-{n}"));
    }
    assert!(lines("mcp_server_operation_duration_seconds_count") <= MAX_SERIES + 3);
    assert!(lanes[0].table.lock().series.len() <= MAX_SERIES + 3);
}

#[test]
fn codes_that_peers_invent_are_bounded() {
    let operations = Operations::default();
    let lane = operations.lane();
    let series = lane.series(&call("add"));
    for code in 0..1_000 {
        lane.observe(series, failed(code), SECOND, None);
    }
    let text = text(&operations);
    let counts = text.lines().filter(|l| l.starts_with("mcp_server_operation_duration_seconds_count"));
    assert_eq!(counts.count(), MAX_OUTCOMES + 1);
    assert!(text.contains(r#"error_type="_OTHER""#));
    assert!(
        text.contains(r#"mcp_mesh_requests_total{agent="weather",method="tools/call",status="error"} 1000"#)
    );
}

#[test]
fn labels_are_escaped() {
    let operations = Operations::default();
    let lane = operations.lane();
    lane.observe(lane.series(&call("a\"} 1\n# EOF\\")), Outcome::default(), SECOND, None);
    let text = text(&operations);
    assert!(text.contains(r#"gen_ai_tool_name="a\"} 1\n# EOF\\","#), "{text}");
    assert!(text.lines().all(|line| line.starts_with("# ") || line.starts_with("mcp_")), "{text}");
}
