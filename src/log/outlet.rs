//! Our own diagnostics as log records.
//!
//! They begin before anything can be sent, so the first ones wait for the way out. What is about the sending of log
//! records stays on stderr, and so does what the libraries say that carry them: else each failure would make the next
//! record.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::trace::{SpanId, TraceFlags, TraceId};
use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::export::records::{Record, Records, Said, Severity};
use crate::export::signal::Signal;

/// Diagnostics that wait for the way out at most; one more is dropped, and counted once there is one.
const MAX_EARLY: usize = 256;

/// The longest text of a record; the rest is cut off.
const MAX_TEXT: usize = 4_096;

/// The way of diagnostics to the collector. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outlet(Arc<Mutex<State>>);

#[derive(Debug)]
enum State {
    /// Nobody can say yet where they go, or whether.
    Early { waiting: Vec<Record>, missed: u64 },
    /// They go here.
    Open(Records),
    /// Nobody wants them.
    Closed,
}

impl Default for State {
    fn default() -> Self {
        State::Early { waiting: Vec::new(), missed: 0 }
    }
}

impl Outlet {
    /// Says where diagnostics go from now on, and those that have waited, or that they go nowhere.
    pub(crate) fn lead_to(&self, records: Option<Records>) {
        let mut state = self.0.lock();
        let next = records.clone().map_or(State::Closed, State::Open);
        if let (State::Early { waiting, missed }, Some(records)) = (mem::replace(&mut *state, next), records)
        {
            records.missed(missed);
            waiting.into_iter().for_each(|record| records.push(record));
        }
    }

    fn push(&self, record: Record) {
        match &mut *self.0.lock() {
            State::Early { waiting, .. } if waiting.len() < MAX_EARLY => waiting.push(record),
            State::Early { missed, .. } => *missed += 1,
            State::Open(records) => records.push(record),
            State::Closed => {}
        }
    }
}

impl<S: Subscriber> Layer<S> for Outlet {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let target = event.metadata().target();
        if target.split("::").next() != Some(env!("CARGO_PKG_NAME")) {
            return;
        }
        let mut read = Reading::default();
        event.record(&mut read);
        if !read.about_logs {
            self.push(read.record(*event.metadata().level()));
        }
    }
}

/// What the fields of an event say.
#[derive(Debug, Default)]
struct Reading {
    message: String,
    attributes: Vec<(&'static str, Said)>,
    trace: Option<TraceId>,
    span: Option<SpanId>,
    flags: Option<TraceFlags>,
    /// It tells of the sending of log records.
    about_logs: bool,
}

impl Reading {
    fn record(self, level: Level) -> Record {
        let severity = match level {
            Level::ERROR => Severity::Error,
            Level::WARN => Severity::Warn,
            Level::INFO => Severity::Info,
            Level::DEBUG => Severity::Debug,
            Level::TRACE => Severity::Trace,
        };
        let context = self.trace.zip(self.span).map(|(trace, span)| {
            let flags = self.flags.unwrap_or_default();
            (trace, span, flags)
        });
        let at = SystemTime::now();
        Record { at, severity, body: self.message.into(), attributes: self.attributes, context }
    }

    fn text(&mut self, name: &'static str, mut text: String) {
        if text.len() > MAX_TEXT {
            let end = (0..=MAX_TEXT).rev().find(|at| text.is_char_boundary(*at));
            text.truncate(end.unwrap_or_default());
        }
        match name {
            "message" => self.message = text,
            "trace_id" => self.trace = TraceId::from_hex(&text).ok(),
            "span_id" => self.span = SpanId::from_hex(&text).ok(),
            "trace_flags" => self.flags = u8::from_str_radix(&text, 16).ok().map(TraceFlags::new),
            _ => {
                self.about_logs |= name == "signal" && text == Signal::Logs.as_str();
                self.attributes.push((name, Said::Text(text)));
            }
        }
    }
}

impl Visit for Reading {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value.to_owned());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.attributes.push((field.name(), Said::Int(i64::try_from(value).unwrap_or(i64::MAX))));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.attributes.push((field.name(), Said::Int(value)));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.attributes.push((field.name(), Said::Double(value)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.attributes.push((field.name(), Said::Bool(value)));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// What became of the events that `say` makes.
    fn early(outlet: &Outlet, say: impl FnOnce()) -> (Vec<Record>, u64) {
        tracing::subscriber::with_default(tracing_subscriber::registry().with(outlet.clone()), say);
        match mem::take(&mut *outlet.0.lock()) {
            State::Early { waiting, missed } => (waiting, missed),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_event_is_a_record_of_its_severity_and_context() {
        let ids = (Some("ab".repeat(16)), Some("cd".repeat(8)), Some("03"));
        let (records, _) = early(&Outlet::default(), || {
            tracing::error!(lost = 3_u64, share = 0.5, all = true, "spans {}", "lost");
            tracing::debug!(
                error = %"reset",
                trace_id = ids.0.map(display),
                span_id = ids.1.map(display),
                trace_flags = ids.2.map(display),
                "failed"
            );
            tracing::warn!(trace_id = None::<&str>, "{}é", "x".repeat(MAX_TEXT - 1));
            tracing::info!("i");
            tracing::trace!("t");
        });
        let numbers: Vec<_> = records.iter().map(|record| record.severity as i32).collect();
        assert_eq!(numbers, [17, 5, 13, 9, 1]);
        let said = [("lost", Said::Int(3)), ("share", Said::Double(0.5)), ("all", Said::Bool(true))];
        assert_eq!((&*records[0].body, &records[0].attributes[..]), ("spans lost", &said[..]));
        let (trace, span) = (TraceId::from_bytes([0xab; 16]), SpanId::from_bytes([0xcd; 8]));
        assert_eq!(records[1].context, Some((trace, span, TraceFlags::new(3))));
        assert_eq!(records[1].attributes, [("error", Said::Text("reset".to_owned()))]);
        assert_eq!((records[2].body.len(), records[2].context), (MAX_TEXT - 1, None));
    }

    #[test]
    fn nothing_about_the_sending_of_records_becomes_one() {
        let (records, _) = early(&Outlet::default(), || {
            tracing::warn!(signal = "logs", "the collector refuses our log records");
            tracing::warn!(signal = "traces", "the collector refuses our spans");
            tracing::warn!(target: "h2::codec", "a frame");
            tracing::warn!(target: "meshtracer", "another");
        });
        let bodies: Vec<_> = records.iter().map(|record| &*record.body).collect();
        assert_eq!(bodies, ["the collector refuses our spans"]);
    }

    #[test]
    fn what_waits_is_bounded_and_nothing_waits_where_nobody_wants_it() {
        let outlet = Outlet::default();
        let many = || (0..MAX_EARLY + 7).for_each(|number| tracing::info!(number));
        let (waiting, missed) = early(&outlet, many);
        assert_eq!((waiting.len(), missed), (MAX_EARLY, 7));
        outlet.lead_to(None);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(outlet.clone()), many);
        assert!(matches!(*outlet.0.lock(), State::Closed));
    }
}
