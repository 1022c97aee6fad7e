//! `OTEL_TRACES_EXPORTER=console`: finished traces as trees on standard output.
//!
//! Nobody says when a trace is complete, so it is printed when no span of it has come for a moment. A span that comes
//! later is printed by itself, with a note that its parent is not there.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};
use prost::Message;
use tokio::time::Instant;

use crate::export::tree::{self, Entry};

/// How long a trace must have been quiet before it is printed.
const QUIET: Duration = Duration::from_millis(600);

/// A trace with more spans is printed in parts.
const MAX_SPANS: usize = 1000;

/// With more traces under way, all are printed as they are.
const MAX_TRACES: usize = 1000;

/// The traces that are not printed yet.
pub(super) struct Console {
    service: String,
    out: Box<dyn Write + Send>,
    traces: HashMap<Vec<u8>, Trace>,
}

struct Trace {
    spans: Vec<Span>,
    last: Instant,
}

impl Console {
    /// The longest time that spans may take to come here, well below [`QUIET`], so that a trace is printed in one piece.
    pub(super) const LONGEST_DELAY: Duration = Duration::from_millis(250);

    pub(super) fn new(service: &str, out: Box<dyn Write + Send>) -> Self {
        Self { service: service.to_owned(), out, traces: HashMap::new() }
    }

    /// Takes note of encoded spans. A chunk of them is by its form a `ScopeSpans` message.
    pub(super) fn observe(&mut self, chunk: &[u8], now: Instant) {
        let spans = ScopeSpans::decode(chunk).map(|scope| scope.spans).unwrap_or_default();
        for span in spans {
            let trace = self
                .traces
                .entry(span.trace_id.clone())
                .or_insert_with(|| Trace { spans: Vec::new(), last: now });
            trace.last = now;
            trace.spans.push(span);
            if trace.spans.len() >= MAX_SPANS || self.traces.len() > MAX_TRACES {
                self.print(|trace| trace.spans.len() >= MAX_SPANS || trace.last <= now);
            }
        }
    }

    /// Prints the traces that have been quiet.
    pub(super) fn tick(&mut self, now: Instant) {
        self.print(|trace| now.duration_since(trace.last) >= QUIET);
    }

    /// Prints what is left.
    pub(super) fn finish(&mut self) {
        self.print(|_| true);
    }

    fn print(&mut self, ready: impl Fn(&Trace) -> bool) {
        let mut ready: Vec<Trace> =
            self.traces.extract_if(|_, trace| ready(trace)).map(|(_, trace)| trace).collect();
        if ready.is_empty() {
            return;
        }
        ready.sort_by_key(|trace| trace.spans.iter().map(|span| span.start_time_unix_nano).min());
        let mut text = String::new();
        for trace in ready {
            let entries: Vec<_> =
                trace.spans.iter().map(|span| Entry { service: &self.service, span }).collect();
            for line in tree::render(&entries) {
                text.push_str(&line);
                text.push('\n');
            }
            text.push('\n');
        }
        // A closed standard output stops the printing and nothing else.
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use parking_lot::Mutex;

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Screen {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap()
        }
    }

    fn chunk(spans: &[(u16, u8, u8)]) -> Vec<u8> {
        let span = |(trace, id, parent): &(u16, u8, u8)| Span {
            trace_id: [&trace.to_be_bytes()[..], &[7; 14]].concat(),
            span_id: vec![*id; 8],
            parent_span_id: vec![*parent; if *parent == 0 { 0 } else { 8 }],
            start_time_unix_nano: u64::from(*trace),
            name: format!("s{id}"),
            ..Span::default()
        };
        ScopeSpans { spans: spans.iter().map(span).collect(), ..ScopeSpans::default() }.encode_to_vec()
    }

    #[test]
    fn a_trace_is_printed_once_it_is_quiet() {
        let screen = Screen::default();
        let mut console = Console::new("agent", Box::new(screen.clone()));
        let start = Instant::now();
        console.observe(&chunk(&[(1, 2, 1), (2, 5, 0)]), start);
        console.tick(start + QUIET / 2);
        assert_eq!(screen.take(), "");
        console.observe(&chunk(&[(1, 1, 0)]), start + QUIET / 2);
        console.tick(start + QUIET);
        let text = screen.take();
        assert!(text.contains("s5") && !text.contains("s1"), "{text}");
        console.tick(start + QUIET * 2);
        let text = screen.take();
        assert!(text.contains("\ns1 ") && text.contains("\n└─ s2 "), "{text}");
        console.finish();
        assert_eq!(screen.take(), "");
    }

    #[test]
    fn what_is_held_is_bounded() {
        let screen = Screen::default();
        let mut console = Console::new("agent", Box::new(screen.clone()));
        let now = Instant::now();
        for _ in 0..MAX_SPANS {
            console.observe(&chunk(&[(1, 1, 0)]), now);
        }
        assert_eq!(screen.take().matches("s1").count(), MAX_SPANS);
        for trace in 0..=u16::try_from(MAX_TRACES).unwrap() {
            console.observe(&chunk(&[(trace, 2, 0)]), now);
        }
        assert_eq!(screen.take().matches("trace ").count(), MAX_TRACES + 1);
        assert!(console.traces.is_empty());
        console.observe(b"\xff\xff", now);
    }
}
