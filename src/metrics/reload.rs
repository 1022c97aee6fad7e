//! The metrics of reloading the configuration.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// How often the file changed, and what became of it. Cloning shares the counters.
#[derive(Clone, Debug, Default)]
pub struct ReloadMetrics {
    /// Files that were taken over.
    pub applied: Counter,
    /// Files that could not be used, so that the old one stayed.
    pub refused: Counter,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Outcome {
    result: &'static str,
}

impl ReloadMetrics {
    /// Creates the metrics at zero and registers them under their public names.
    pub fn register(registry: &mut Registry) -> Self {
        let reloads = Family::<Outcome, Counter>::default();
        let with = |result| reloads.get_or_create_owned(&Outcome { result });
        let metrics = Self { applied: with("applied"), refused: with("refused") };
        registry.register("meshtrace_config_reloads", "Changes of the configuration file", reloads);
        metrics
    }
}
