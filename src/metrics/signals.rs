//! What became of metrics and log records that were to be sent.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// The counters of one signal. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct SignalMetrics {
    /// Taken by the collector: exports of metrics, or log records.
    pub exported: Counter,
    /// Refused, or not taken in time.
    pub failed: Counter,
    /// Found no room, or were left when the process stopped.
    pub dropped: Counter,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Fate {
    result: &'static str,
}

impl SignalMetrics {
    /// Registers the counters under this name, at zero.
    pub fn register(registry: &mut Registry, name: &str, help: &str) -> Self {
        let family = Family::<Fate, Counter>::default();
        let of = |result| family.get_or_create_owned(&Fate { result });
        let metrics =
            SignalMetrics { exported: of("exported"), failed: of("failed"), dropped: of("dropped") };
        registry.register(name, help, family);
        metrics
    }
}
