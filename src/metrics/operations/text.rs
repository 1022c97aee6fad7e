//! The operations as OpenMetrics text, with exemplars.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::histogram::{CONVENTION, Exemplar, Histogram, MESH};
use super::{Labels, Outcome, Side, Status};

type Sum = BTreeMap<Labels, BTreeMap<Outcome, Histogram>>;

pub(super) fn encode(sum: &Sum, agent: &str, out: &mut String) {
    in_the_manner_of_mesh(sum, agent, out);
    let families = [
        (Side::Server, "mcp_server_operation_duration_seconds", "Requests and notifications to the agent"),
        (Side::Client, "mcp_client_operation_duration_seconds", "Requests and notifications of the agent"),
    ];
    for (side, name, help) in families {
        head(out, name, "histogram", help);
        for (labels, outcomes) in sum.iter().filter(|(labels, _)| labels.side == side) {
            for (outcome, histogram) in outcomes {
                let written = conventional(labels, outcome);
                samples(out, name, &written, histogram, &CONVENTION);
            }
        }
    }
}

/// `mcp_mesh_*`: the names and buckets that users of MCP Mesh have their dashboards for.
fn in_the_manner_of_mesh(sum: &Sum, agent: &str, out: &mut String) {
    let mut counts = BTreeMap::<(&str, Status), u64>::new();
    let mut durations = BTreeMap::<&str, Histogram>::new();
    for (labels, outcomes) in sum.iter().filter(|(labels, _)| labels.side == Side::Server) {
        for (outcome, histogram) in outcomes {
            *counts.entry((&labels.method, outcome.status)).or_default() += histogram.count();
            durations.entry(&labels.method).or_default().add(histogram);
        }
    }
    head(out, "mcp_mesh_requests", "counter", "Requests to the agent by method and outcome");
    for ((method, status), count) in counts {
        let mut labels = List::default();
        labels.add("agent", agent).add("method", method).add("status", status.as_str());
        let _ = writeln!(out, "mcp_mesh_requests_total{{{}}} {count}", labels.0);
    }
    let name = "mcp_mesh_request_duration_seconds";
    head(out, name, "histogram", "How long requests to the agent took");
    for (method, histogram) in durations {
        let mut labels = List::default();
        labels.add("agent", agent).add("method", method);
        samples(out, name, &labels.0, &histogram, &MESH);
    }
}

/// The attributes of the conventions, in the spelling of Prometheus.
fn conventional(labels: &Labels, outcome: &Outcome) -> String {
    let mut list = List::default();
    list.add("mcp_method_name", &labels.method);
    if &*labels.method == "tools/call" {
        list.add("gen_ai_operation_name", "execute_tool");
    }
    list.maybe("gen_ai_tool_name", labels.tool.as_deref());
    list.maybe("gen_ai_prompt_name", labels.prompt.as_deref());
    list.maybe("mcp_protocol_version", labels.revision.as_deref());
    if let Some(error) = outcome.error {
        list.add("error_type", &error.to_string());
    }
    if let Some(code) = outcome.code {
        list.add("rpc_response_status_code", &code.to_string());
    }
    let (transport, version) = labels.network;
    list.add("network_transport", transport);
    if !version.is_empty() {
        list.add("network_protocol_name", "http").add("network_protocol_version", version);
    }
    if let Some((host, port)) = &labels.server {
        list.add("server_address", host).add("server_port", &port.to_string());
    }
    list.0
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}.\n# TYPE {name} {kind}");
    if name.ends_with("_seconds") {
        let _ = writeln!(out, "# UNIT {name} seconds");
    }
}

fn samples(out: &mut String, name: &str, labels: &str, histogram: &Histogram, bounds: &[f64]) {
    for (bound, count, exemplar) in histogram.buckets(bounds) {
        let le = if bound.is_infinite() { "+Inf".to_owned() } else { format!("{bound:?}") };
        let _ = write!(out, "{name}_bucket{{{labels},le=\"{le}\"}} {count}");
        if let Some(Exemplar { trace_id, span_id, took, at_unix_nanos }) = exemplar {
            let (took, at) = (took.as_secs_f64(), *at_unix_nanos as f64 / 1e9);
            let _ = write!(out, " # {{trace_id=\"{trace_id}\",span_id=\"{span_id}\"}} {took:?} {at:.3}");
        }
        out.push('\n');
    }
    let _ = writeln!(out, "{name}_sum{{{labels}}} {:?}", histogram.sum().as_secs_f64());
    let _ = writeln!(out, "{name}_count{{{labels}}} {}", histogram.count());
}

/// Labels with their values escaped, which peers may have chosen.
#[derive(Default)]
struct List(String);

impl List {
    fn add(&mut self, name: &str, value: &str) -> &mut Self {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(name);
        self.0.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                c => self.0.push(c),
            }
        }
        self.0.push('"');
        self
    }

    fn maybe(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }
}
