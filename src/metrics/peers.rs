//! The metrics of what is remembered of peers.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// How full the tables of peers are. Cloning shares the numbers.
#[derive(Clone, Debug, Default)]
pub struct PeerMetrics {
    entries: Family<Table, Gauge>,
    evicted: Family<Table, Counter>,
    /// Streams that stay open beyond any answer: what clients listen to.
    pub streams: Gauge,
    /// Spans that are traces of their own because their parent was full.
    pub full: Counter,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Table {
    table: &'static str,
}

impl PeerMetrics {
    /// Registers the metrics under their public names, with these tables at zero.
    pub fn register(registry: &mut Registry, tables: &[&'static str]) -> Self {
        let metrics = Self::default();
        for table in tables {
            metrics.count(table, 0, 0);
        }
        registry.register(
            "meshtrace_streams",
            "Streams of notifications that are open",
            metrics.streams.clone(),
        );
        registry.register(
            "meshtrace_parents_full",
            "Spans that became traces of their own, because that of their stream had all that may hang under it",
            metrics.full.clone(),
        );
        let registry = registry.sub_registry_with_prefix("meshtrace_peers");
        registry.register(
            "entries",
            "What is remembered of peers between their requests, by table",
            metrics.entries.clone(),
        );
        registry.register(
            "evicted",
            "Entries that made room for younger ones, by table",
            metrics.evicted.clone(),
        );
        metrics
    }

    /// Says how many entries a table has, and how many more have been evicted.
    pub fn count(&self, table: &'static str, entries: usize, evicted: u64) {
        self.entries.get_or_create(&Table { table }).set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.evicted.get_or_create(&Table { table }).inc_by(evicted);
    }
}
