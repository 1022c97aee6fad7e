//! Every counter and gauge of the program, created once at start and named in one place.
//!
//! A counter is a shared atomic: counting never locks, looks up a label or allocates on the usual path of a request.

mod export;
mod proxy;

pub use export::ExportMetrics;
pub use proxy::ProxyMetrics;

use prometheus_client::registry::Registry;

/// All metrics of the process. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// What became of finished spans.
    pub export: ExportMetrics,
    /// What happened on the request path.
    pub proxy: ProxyMetrics,
}

impl Metrics {
    /// Creates every metric at zero and registers it, so that a scrape before the first request already shows all
    /// names. `parent_methods` are the ways in which a parent is found, in the order of their index.
    pub fn register(registry: &mut Registry, parent_methods: [&'static str; 4]) -> Self {
        Self {
            export: ExportMetrics::register(registry),
            proxy: ProxyMetrics::register(registry, parent_methods),
        }
    }
}
