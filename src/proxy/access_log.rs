//! The access log: one JSON line for each request, with the names that our
//! own diagnostics have too, or the same as a log record.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanId, TraceFlags, TraceId};

use crate::export::lines::Lines;
use crate::export::records::{Record, Records, Said, Severity};
use crate::metrics::operations::Outcome;
use crate::trace::time;

/// Where the lines of a worker go.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// The stream, where lines are asked for.
    pub lines: Option<Lines>,
    /// The way to the collector, where records are.
    pub records: Option<Records>,
    /// The name of the agent, as JSON.
    agent: String,
}

/// What is known of a request when it begins.
#[derive(Debug)]
pub struct Entry {
    /// Whether it is a call of the agent and not one to it.
    pub outbound: bool,
    /// The method of MCP, or of HTTP.
    pub method: String,
    /// The tool, prompt or resource, or the path.
    pub target: String,
    /// The context that it goes on with, where it has one.
    pub context: Option<(TraceId, SpanId, TraceFlags)>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// What became of it.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
    /// The bytes of the response's body until then.
    pub bytes: u64,
    /// When it ended.
    pub at: SystemTime,
}

impl AccessLog {
    /// A log of this agent; `None` where it would go nowhere.
    pub fn new(lines: Option<Lines>, records: Option<Records>, agent: &str) -> Option<Self> {
        (lines.is_some() || records.is_some()).then(|| AccessLog { lines, records, agent: json(agent) })
    }

    /// Writes what there is to say of a request that ended.
    pub fn write(&self, entry: Entry, end: &End) {
        if let Some(lines) = &self.lines {
            lines.push(self.line(&entry, end).as_bytes());
        }
        if let Some(records) = &self.records {
            records.push(record(entry, end));
        }
    }

    fn line(&self, entry: &Entry, end: &End) -> String {
        let mut line = String::with_capacity(512);
        let direction = if entry.outbound { "outbound" } else { "inbound" };
        let _ = write!(
            line,
            r#"{{"timestamp":"{}","level":"INFO","message":"request","agent":{},"direction":"{direction}","method":{},"target":{},"status":"{}""#,
            time::rfc3339(end.at),
            self.agent,
            json(&entry.method),
            json(&entry.target),
            end.outcome.status.as_str(),
        );
        if let Some(error) = end.outcome.error {
            let _ = write!(line, r#","error_type":"{error}""#);
        }
        let _ = write!(line, r#","duration_ms":{:.3},"bytes":{}"#, end.took.as_secs_f64() * 1e3, end.bytes);
        if let Some((trace_id, span_id, flags)) = entry.context {
            let flags = flags.to_u8();
            let _ =
                write!(line, r#","trace_id":"{trace_id}","span_id":"{span_id}","trace_flags":"{flags:02x}""#);
        }
        line.push_str("}\n");
        line
    }
}

/// The same as a record. The agent is the resource that it is about.
fn record(entry: Entry, end: &End) -> Record {
    let direction = if entry.outbound { "outbound" } else { "inbound" };
    let text = |text: &str| Said::Text(text.to_owned());
    let mut attributes = vec![
        ("direction", text(direction)),
        ("method", Said::Text(entry.method)),
        ("target", Said::Text(entry.target)),
        ("status", text(end.outcome.status.as_str())),
        ("duration_ms", Said::Double(end.took.as_secs_f64() * 1e3)),
        ("bytes", Said::Int(i64::try_from(end.bytes).unwrap_or(i64::MAX))),
    ];
    attributes.extend(end.outcome.error.map(|error| ("error.type", Said::Text(error.to_string()))));
    Record {
        at: end.at,
        severity: Severity::Info,
        body: "request".into(),
        attributes,
        context: entry.context,
    }
}

/// A text as JSON, in quotes.
fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::operations::{ErrorType, Status};
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn a_line_is_one_json_object_whatever_peers_choose() {
        let (lines, _writer) = Lines::to(std::io::sink(), Counter::default()).unwrap();
        let log = AccessLog::new(Some(lines), None, "weather \"x\"").unwrap();
        let entry = Entry {
            outbound: true,
            method: "tools/call".into(),
            target: "a\"\n\u{1b}[31m".into(),
            context: Some((
                TraceId::from_bytes([0xab; 16]),
                SpanId::from_bytes([0xcd; 8]),
                TraceFlags::new(1),
            )),
        };
        let outcome =
            Outcome { status: Status::Error, error: Some(ErrorType::Code(-32603)), code: Some(-32603) };
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let line = log.line(&entry, &End { outcome, took: Duration::from_micros(1_500), bytes: 7, at });
        assert_eq!(line.matches('\n').count(), 1);
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        let expect = serde_json::json!({
            "timestamp": "2023-11-14T22:13:20.123000Z", "level": "INFO", "message": "request",
            "agent": "weather \"x\"", "direction": "outbound", "method": "tools/call",
            "target": "a\"\n\u{1b}[31m", "status": "error", "error_type": "-32603", "duration_ms": 1.5, "bytes": 7,
            "trace_id": "ab".repeat(16), "span_id": "cd".repeat(8), "trace_flags": "01",
        });
        assert_eq!(parsed, expect);
    }
}
