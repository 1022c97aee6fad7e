//! What the admin port shows to whoever asks from this machine.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::admin::Page;
use crate::check;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::proxy::worker::Tracer;
use crate::trace::tally::{self, Report};

/// What is in force, without secrets.
pub(super) fn config_page(effective: &Arc<Mutex<Config>>) -> Page {
    let effective = Arc::clone(effective);
    let render = move || effective.lock().effective();
    Page { path: "/config", render: Box::new(render) }
}

/// The most pending requests that are shown.
const SHOWN_PENDING: usize = 100;

/// What is being worked on, and some of the requests that wait for an answer
/// which may come on another connection.
pub(super) fn pending_page(tracer: &Arc<Tracer>) -> Page {
    let tracer = Arc::clone(tracer);
    let render = move || {
        let some = tracer.peers.some(SHOWN_PENDING).into_iter();
        let mut pending: Vec<(String, Duration)> =
            some.flat_map(|exchange| exchange.lock().describe()).take(SHOWN_PENDING).collect();
        pending.sort_by_key(|(_, age)| std::cmp::Reverse(*age));
        let age = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let pending: Vec<_> = pending
            .into_iter()
            .map(|(name, waited)| serde_json::json!({"span": name, "age_ms": age(waited)}))
            .collect();
        let in_flight = tracer.server_spans.in_flight();
        format!("{:#}\n", serde_json::json!({"in_flight": in_flight, "pending": pending}))
    };
    Page { path: "/debug/pending", render: Box::new(render) }
}

/// How calls found their parents, for `meshtrace check --agent`.
pub(super) fn links_page(config: &Config, tracer: &Arc<Tracer>, metrics: &Metrics) -> Page {
    let service = config.resource.service_name().to_owned();
    let (tracer, metrics) = (Arc::clone(tracer), metrics.clone());
    let render = move || {
        let (unproved, others) = tracer.tally.destinations();
        let report = Report {
            service: service.clone(),
            in_flight: tracer.server_spans.in_flight(),
            methods: tally::by_method(|method| metrics.proxy.parents(method.index())),
            conflicts: metrics.proxy.parent_conflicts.get(),
            unproved,
            others,
        };
        serde_json::to_string(&report).unwrap_or_default()
    };
    Page { path: check::agent::PATH, render: Box::new(render) }
}
