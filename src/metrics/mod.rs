//! Every counter and gauge of the program, created once at start and named in one place.
//!
//! A counter is a shared atomic: counting never locks, looks up a label or allocates on the usual path of a request.

mod export;
mod injector;
mod notices;
pub mod operations;
mod peers;
mod proxy;
mod reload;
mod sessions;
mod signals;

pub use export::ExportMetrics;
pub use injector::InjectorMetrics;
pub use notices::NoticeMetrics;
pub use peers::PeerMetrics;
pub use proxy::ProxyMetrics;
pub use reload::ReloadMetrics;
pub use sessions::SessionMetrics;
pub use signals::SignalMetrics;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// All metrics of the process. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// What became of finished spans.
    pub export: ExportMetrics,
    /// What happened on the request path.
    pub proxy: ProxyMetrics,
    /// What each MCP request and notification counts in.
    pub operations: operations::Operations,
    /// What is remembered of peers.
    pub peers: PeerMetrics,
    /// How long sessions lasted.
    pub sessions: SessionMetrics,
    /// What became of changes of the configuration.
    pub reload: ReloadMetrics,
    /// Metrics that were to be sent.
    pub otlp_metrics: SignalMetrics,
    /// Lines of the access log that were to be sent as log records.
    pub otlp_logs: SignalMetrics,
    /// Held spans that made room before their time.
    pub held_evicted: Counter,
    /// Traces, and neighbours of traces, that found no room to be known.
    pub held_forgotten: Counter,
    /// What sidecars tell each other of kept traces.
    pub notices: NoticeMetrics,
    /// Lines of the access log that found no room.
    pub access_log_dropped: Counter,
    /// Connections to the admin port that were closed to make room.
    pub admin_closed: Counter,
    /// Probes of the containers beside us that were too many at once.
    pub app_probes_refused: Counter,
}

impl Metrics {
    /// Creates every metric at zero and registers it, so that a scrape before the first request already shows all
    /// names. `parent_methods` are the ways in which a parent is found, in the order of their index.
    pub fn register(registry: &mut Registry, parent_methods: &[&'static str]) -> Self {
        let admin_closed = Counter::default();
        registry.register(
            "meshtrace_admin_connections_closed",
            "Connections to the admin port that were closed to make room for new ones",
            admin_closed.clone(),
        );
        let held_evicted = Counter::default();
        registry.register(
            "meshtrace_held_spans_evicted",
            "Spans held in case their trace is kept that made room before their time",
            held_evicted.clone(),
        );
        let held_forgotten = Counter::default();
        registry.register(
            "meshtrace_held_traces_forgotten",
            "Unsampled traces, and their neighbours, that found no room to be known or had to make some",
            held_forgotten.clone(),
        );
        let access_log_dropped = Counter::default();
        registry.register(
            "meshtrace_access_log_dropped",
            "Lines of the access log that were dropped because nobody read them in time",
            access_log_dropped.clone(),
        );
        let app_probes_refused = Counter::default();
        registry.register(
            "meshtrace_app_probes_refused",
            "Probes on /app-probe that were too many at once",
            app_probes_refused.clone(),
        );
        Self {
            admin_closed,
            app_probes_refused,
            held_evicted,
            held_forgotten,
            notices: NoticeMetrics::register(registry),
            access_log_dropped,
            operations: operations::Operations::default(),
            export: ExportMetrics::register(registry),
            proxy: ProxyMetrics::register(registry, parent_methods),
            peers: PeerMetrics::register(registry, &["pending", "sessions", "tasks", "states"]),
            otlp_metrics: SignalMetrics::register(
                registry,
                "meshtrace_otlp_metrics",
                "Exports of metrics over OTLP by result",
            ),
            otlp_logs: SignalMetrics::register(
                registry,
                "meshtrace_otlp_log_records",
                "Log records over OTLP by result",
            ),
            sessions: SessionMetrics::register(registry),
            reload: ReloadMetrics::register(registry),
        }
    }
}
