//! One trace as a tree of lines for a terminal: name, kind, service, duration and status of each span.
//!
//! Spans come from anywhere and in any state: parents may be missing, ids doubled, parents in a circle. Every span is
//! shown exactly once all the same. Text of foreign origin cannot steer the terminal.

use std::collections::{HashMap, HashSet};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

/// Deeper spans are shown at this depth, so that the length of a line is bounded.
const MAX_DEPTH: usize = 32;

/// The longest text shown of a name, a service or a status, in characters.
const MAX_CHARS: usize = 80;

/// A span and the service that recorded it.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The `service.name` of the resource.
    pub service: &'a str,
    /// The span.
    pub span: &'a Span,
}

/// The lines of one trace: a head with the trace's id, then each span below its parent, children in order of their start.
///
/// A span whose parent is not among `entries` stands at the top and names that parent.
pub fn render(entries: &[Entry<'_>]) -> Vec<String> {
    let rows: Vec<Row> = in_order(entries).into_iter().map(|place| place.row(entries)).collect();
    let width =
        |column: fn(&Row) -> &str| rows.iter().map(|row| column(row).chars().count()).max().unwrap_or(0);
    let names = width(|row| &row.name);
    let services = width(|row| &row.service);
    let times = width(|row| &row.time);
    let mut lines = Vec::with_capacity(rows.len() + 1);
    lines.extend(head(entries));
    for Row { name, kind, service, time, status } in &rows {
        lines.push(format!("{name:names$}  {kind:8}  {service:services$}  {time:>times$}  {status}"));
    }
    lines
}

fn head(entries: &[Entry<'_>]) -> Option<String> {
    let trace_id = hex(&entries.first()?.span.trace_id);
    let start = entries.iter().map(|entry| entry.span.start_time_unix_nano).min()?;
    let end = entries.iter().map(|entry| entry.span.end_time_unix_nano).max()?;
    let spans = entries.len();
    let plural = if spans == 1 { "" } else { "s" };
    Some(format!("trace {trace_id}  {spans} span{plural}  {}", milliseconds(start, end)))
}

/// Where a span stands in the tree.
struct Place {
    entry: usize,
    branch: String,
    note: Option<String>,
}

struct Row {
    name: String,
    kind: &'static str,
    service: String,
    time: String,
    status: String,
}

impl Place {
    fn row(self, entries: &[Entry<'_>]) -> Row {
        let Entry { service, span } = entries[self.entry];
        let name = if span.name.is_empty() { "(no name)".to_owned() } else { plain(&span.name) };
        let note = self.note.map(|note| format!("  ({note})")).unwrap_or_default();
        Row {
            name: format!("{}{name}", self.branch),
            kind: kind(span),
            service: plain(service),
            time: milliseconds(span.start_time_unix_nano, span.end_time_unix_nano),
            status: format!("{}{note}", status(span)),
        }
    }
}

/// All spans from the top down.
fn in_order(entries: &[Entry<'_>]) -> Vec<Place> {
    let forest = Forest::new(entries);
    let mut shown = HashSet::new();
    let mut places = Vec::with_capacity(entries.len());
    for (root, note) in forest.roots(entries) {
        forest.walk(root, note, &mut shown, &mut places);
    }
    // What no root leads to has its parents in a circle, which is cut at the earliest span.
    for &entry in &forest.by_start {
        if !shown.contains(&entry) {
            forest.walk(entry, Some("its parents form a circle".to_owned()), &mut shown, &mut places);
        }
    }
    places
}

struct Forest {
    by_start: Vec<usize>,
    children: HashMap<usize, Vec<usize>>,
    parents: Vec<Option<usize>>,
}

impl Forest {
    fn new(entries: &[Entry<'_>]) -> Self {
        let mut by_start: Vec<usize> = (0..entries.len()).collect();
        by_start.sort_by_key(|&entry| (entries[entry].span.start_time_unix_nano, entry));
        let mut ids: HashMap<&[u8], usize> = HashMap::new();
        for &entry in &by_start {
            ids.entry(&entries[entry].span.span_id).or_insert(entry);
        }
        let parent = |entry: &Entry<'_>| ids.get(entry.span.parent_span_id.as_slice()).copied();
        let parents: Vec<_> = entries.iter().map(parent).collect();
        let mut children: HashMap<usize, Vec<usize>> = HashMap::new();
        for &entry in &by_start {
            if let Some(parent) = parents[entry] {
                children.entry(parent).or_default().push(entry);
            }
        }
        Self { by_start, children, parents }
    }

    fn roots(&self, entries: &[Entry<'_>]) -> Vec<(usize, Option<String>)> {
        let roots = self.by_start.iter().filter(|entry| self.parents[**entry].is_none());
        let note =
            |parent: &[u8]| (!parent.is_empty()).then(|| format!("parent {} is not here", hex(parent)));
        roots.map(|&entry| (entry, note(&entries[entry].span.parent_span_id))).collect()
    }

    fn walk(&self, root: usize, note: Option<String>, shown: &mut HashSet<usize>, places: &mut Vec<Place>) {
        // What is still to do: the span, its own branch, and the branch that its children continue.
        let mut stack = vec![(root, String::new(), String::new(), 0, note)];
        while let Some((entry, branch, below, depth, note)) = stack.pop() {
            if !shown.insert(entry) {
                continue;
            }
            places.push(Place { entry, branch, note });
            let children = self.children.get(&entry).map_or(&[][..], Vec::as_slice);
            for (index, &child) in children.iter().enumerate().rev() {
                let last = index + 1 == children.len();
                let (turn, further) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
                let continued = if depth < MAX_DEPTH { format!("{below}{further}") } else { below.clone() };
                stack.push((child, format!("{below}{turn}"), continued, depth + 1, None));
            }
        }
    }
}

fn kind(span: &Span) -> &'static str {
    match SpanKind::try_from(span.kind) {
        Ok(SpanKind::Server) => "SERVER",
        Ok(SpanKind::Client) => "CLIENT",
        Ok(SpanKind::Producer) => "PRODUCER",
        Ok(SpanKind::Consumer) => "CONSUMER",
        _ => "INTERNAL",
    }
}

fn status(span: &Span) -> String {
    let status = span.status.clone().unwrap_or_default();
    match StatusCode::try_from(status.code) {
        Ok(StatusCode::Error) => {
            let words = ["ERROR", error_type(span), &status.message];
            words.iter().filter(|word| !word.is_empty()).map(|word| plain(word)).collect::<Vec<_>>().join(" ")
        }
        Ok(StatusCode::Ok) => "OK".to_owned(),
        _ => "unset".to_owned(),
    }
}

fn error_type(span: &Span) -> &str {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == "error.type");
    match attribute.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text,
        _ => "",
    }
}

fn milliseconds(start_nanos: u64, end_nanos: u64) -> String {
    let micros = end_nanos.saturating_sub(start_nanos) / 1000;
    format!("{}.{:03} ms", micros / 1000, micros % 1000)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Text as a terminal may have it: no control characters, nothing that turns the direction of writing, not too long.
fn plain(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown: String =
        text.chars().take(MAX_CHARS).map(|c| if steers(c) { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(MAX_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
    use opentelemetry_proto::tonic::trace::v1::Status;

    fn span(id: u8, parent: u8, start: u64, name: &str) -> Span {
        let id_of = |id: u8| if id == 0 { Vec::new() } else { vec![0, 0, 0, 0, 0, 0, 0, id] };
        Span {
            trace_id: vec![0xab; 16],
            span_id: id_of(id),
            parent_span_id: id_of(parent),
            name: name.to_owned(),
            kind: if id.is_multiple_of(2) { 3 } else { 2 },
            start_time_unix_nano: start * 1_000_000,
            end_time_unix_nano: start * 1_000_000 + 1_500_000,
            ..Span::default()
        }
    }

    fn lines(spans: &[Span]) -> Vec<String> {
        let entries: Vec<_> = spans.iter().map(|span| Entry { service: "agent", span }).collect();
        render(&entries)
    }

    #[test]
    fn a_trace_is_a_tree_in_order_of_start() {
        let mut failed = span(4, 3, 30, "tools/call");
        failed.status = Some(Status { code: 2, message: "no such city".to_owned() });
        let value = Some(AnyValue { value: Some(Value::StringValue("tool_error".to_owned())) });
        failed.attributes.push(KeyValue { key: "error.type".to_owned(), value, ..KeyValue::default() });
        let spans = [
            failed,
            span(3, 2, 20, "late"),
            span(2, 1, 10, "first"),
            span(1, 0, 0, "root"),
            span(6, 1, 5, "early"),
        ];
        let expected = "\
trace abababababababababababababababab  5 spans  31.500 ms
root                 SERVER    agent  1.500 ms  unset
├─ early             CLIENT    agent  1.500 ms  unset
└─ first             CLIENT    agent  1.500 ms  unset
   └─ late           SERVER    agent  1.500 ms  unset
      └─ tools/call  CLIENT    agent  1.500 ms  ERROR tool_error no such city";
        assert_eq!(lines(&spans).join("\n"), expected);
    }

    #[test]
    fn every_span_is_shown_once_whatever_the_parents_are() {
        let shapes: [(&[(u8, u8)], &str); 5] = [
            (&[(1, 9)], "parent 0000000000000009 is not here"),
            (&[(1, 1)], "circle"),
            (&[(1, 2), (2, 3), (3, 1), (4, 2)], "circle"),
            (&[(1, 0), (1, 0), (2, 1)], "unset"),
            (&[(0, 0), (0, 0)], "unset"),
        ];
        for (shape, note) in shapes {
            let spans: Vec<_> =
                shape.iter().map(|(id, parent)| span(*id, *parent, u64::from(*id), "x")).collect();
            let lines = lines(&spans);
            assert_eq!(lines.len(), spans.len() + 1, "{shape:?}");
            assert!(lines.join("\n").contains(note), "{shape:?}: {lines:?}");
        }
        assert!(lines(&[]).is_empty());
    }

    #[test]
    fn depth_and_text_are_bounded_and_cannot_steer_the_terminal() {
        let chain: Vec<_> = (0..200).map(|n| span(n + 1, n, u64::from(n), "\u{1b}[2J\u{202e}x")).collect();
        let lines = lines(&chain);
        assert_eq!(lines.len(), 201);
        assert!(lines.iter().all(|line| line.chars().count() < 200));
        assert!(!lines.concat().contains(['\u{1b}', '\u{202e}']));
        let long = span(1, 0, 0, &"é".repeat(1000));
        assert!(super::tests::lines(&[long])[1].chars().count() < 150);
    }

    #[test]
    fn broken_times_do_not_panic() {
        let mut backwards = span(1, 0, 5, "x");
        backwards.end_time_unix_nano = 0;
        let mut endless = span(2, 1, 5, "y");
        endless.end_time_unix_nano = u64::MAX;
        assert!(lines(&[backwards, endless])[1].contains("0.000 ms"));
    }
}
