//! Our own diagnostics on stderr: text for people, or JSON lines with the
//! names of the access log, and log records where those are asked for.

mod outlet;

use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt as lines, reload};

pub(crate) use self::outlet::Outlet;
use crate::admin::Level;
use crate::trace::time;

/// How diagnostics are written.
#[derive(Clone, Debug)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// A JSON object a line, for the agent of this name.
    Json(String),
}

/// Sends diagnostics to stderr and to the outlet, and gives the handle by which their level is changed.
pub(crate) fn start(level: LevelFilter, format: Format, outlet: Option<Outlet>) -> Level {
    let (filter, handle) = reload::Layer::new(level);
    let layer = match format {
        Format::Text => {
            let ansi = io::stderr().is_terminal();
            lines::layer().with_writer(io::stderr).with_target(false).with_ansi(ansi).boxed()
        }
        Format::Json(agent) => lines::layer().with_writer(io::stderr).event_format(Json { agent }).boxed(),
    };
    let layer = match outlet {
        Some(outlet) => layer.and_then(outlet).boxed(),
        None => layer,
    };
    // Only a second call in one process is refused, and the first one serves.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
    Level(Arc::new(move |new| {
        if let Some(new) = new {
            // It fails only where the subscriber has gone, and then nobody logs.
            let _ = handle.modify(|level| *level = new);
        }
        handle.clone_current().unwrap_or(LevelFilter::OFF)
    }))
}

struct Json {
    agent: String,
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = Map::new();
        line.insert("timestamp".into(), time::rfc3339(SystemTime::now()).into());
        line.insert("level".into(), event.metadata().level().as_str().into());
        line.insert("message".into(), Value::Null);
        line.insert("agent".into(), self.agent.clone().into());
        event.record(&mut Fields(&mut line));
        writeln!(out, "{}", Value::Object(line))
    }
}

struct Fields<'a>(&'a mut Map<String, Value>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Caught(Arc<Mutex<Vec<u8>>>);

    impl Write for Caught {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_object_with_the_names_of_the_access_log() {
        let caught = Caught::default();
        let writer = caught.clone();
        let json = Json { agent: "weather".to_owned() };
        let layer = lines::layer().with_writer(move || writer.clone()).event_format(json);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(spans = 3, error = %"a\n\"b\"", "lost {}", "some");
        });
        let text = String::from_utf8(caught.0.lock().clone()).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let mut line: Value = serde_json::from_str(&text).unwrap();
        assert!(line["timestamp"].take().as_str().unwrap().ends_with('Z'));
        let expect = serde_json::json!({
            "timestamp": null, "level": "WARN", "message": "lost some", "agent": "weather", "spans": 3,
            "error": "a\n\"b\"",
        });
        assert_eq!(line, expect);
    }
}
