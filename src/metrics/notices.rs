//! What sidecars tell each other of kept traces, in numbers.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Notices that a trace is kept. Cloning shares the counters.
#[derive(Clone, Debug, Default)]
pub struct NoticeMetrics {
    /// Traces that another sidecar was told of.
    pub sent: Counter,
    /// Those that it could not be told of: too many at once.
    pub dropped: Counter,
    /// Traces that another sidecar told of, and that something was known of.
    pub known: Counter,
    /// Those that nothing was known of.
    pub unknown: Counter,
    /// Packets that are no notices.
    pub malformed: Counter,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Received {
    result: &'static str,
}

impl NoticeMetrics {
    /// Registers the metrics under their public names, at zero.
    pub fn register(registry: &mut Registry) -> Self {
        let received = Family::<Received, Counter>::default();
        let of = |result| received.get_or_create(&Received { result }).clone();
        let metrics = NoticeMetrics {
            known: of("known"),
            unknown: of("unknown"),
            malformed: of("malformed"),
            ..Self::default()
        };
        registry.register(
            "meshtrace_notices_received",
            "Notices of other sidecars that a trace is kept, and packets that are none",
            received,
        );
        registry.register(
            "meshtrace_notices_sent",
            "Notices to other sidecars that a trace is kept",
            metrics.sent.clone(),
        );
        registry.register(
            "meshtrace_notices_dropped",
            "Notices to other sidecars that were too many at once, or could not be sent",
            metrics.dropped.clone(),
        );
        metrics
    }
}
