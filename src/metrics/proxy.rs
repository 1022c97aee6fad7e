//! The metrics of the request path.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What happened on the request path. Cloning shares the counters.
#[derive(Clone, Debug, Default)]
pub struct ProxyMetrics {
    /// Requests that the proxy answered itself, by what went wrong.
    failed: Family<Reason, Counter>,
    /// CLIENT spans by how their parent was found.
    parents: Box<[Counter]>,
    /// CLIENT spans whose arguments speak for another parent than the context that they carried.
    pub parent_conflicts: Counter,
    /// Responses that are streams of events and still open.
    pub open_streams: Gauge,
    /// Connections accepted.
    pub connections: Counter,
    /// Connections refused because too many were open.
    pub connections_refused: Counter,
    /// Requests that failed because too many name lookups were unanswered.
    pub lookups_full: Counter,
    /// Clients of TLS listeners that did not get in, by why.
    handshakes_failed: Family<Reason, Counter>,
    /// Changes of certificate files, by what became of them.
    tls_reloads: Family<ResultLabel, Counter>,
    /// Redirected connections that were not passed on, by reason.
    redirected_refused: Family<Reason, Counter>,
    /// Values of configured attributes that were cut.
    pub attributes_cut: Counter,
    /// Configured baggage entries that found no room.
    baggage_full: Counter,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct MethodLabel {
    method: &'static str,
}

impl ProxyMetrics {
    /// Creates the metrics at zero and registers them under their public
    /// names. `methods` are the label values of the parents, in their order.
    pub fn register(registry: &mut Registry, methods: &[&'static str]) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("meshtrace");
        registry.register(
            "requests_failed",
            "Requests that the proxy answered itself, by reason",
            metrics.failed.clone(),
        );
        let parents = Family::<MethodLabel, Counter>::default();
        let counter = |method: &&'static str| parents.get_or_create(&MethodLabel { method }).clone();
        let counters = methods.iter().map(counter).collect();
        registry.register("parent", "CLIENT spans by how their parent was found", parents);
        registry.register(
            "parent_conflicts",
            "CLIENT spans whose arguments speak for another parent than the context that they carried",
            metrics.parent_conflicts.clone(),
        );
        registry.register(
            "open_streams",
            "Responses that are streams of events and still open",
            metrics.open_streams.clone(),
        );
        registry.register("connections", "Connections accepted", metrics.connections.clone());
        registry.register(
            "connections_refused",
            "Connections refused because too many were open",
            metrics.connections_refused.clone(),
        );
        registry.register(
            "attributes_cut",
            "Values of configured attributes that were too long and were cut",
            metrics.attributes_cut.clone(),
        );
        registry.register(
            "lookups_full",
            "Requests that failed because too many name lookups were unanswered",
            metrics.lookups_full.clone(),
        );
        registry.register(
            "tls_handshakes_failed",
            "Clients of TLS listeners that did not get in, by reason",
            metrics.handshakes_failed.clone(),
        );
        registry.register(
            "tls_reloads",
            "Changes of certificate files, by what became of them",
            metrics.tls_reloads.clone(),
        );
        registry.register(
            "redirected_refused",
            "Redirected connections that were not passed on, by reason",
            metrics.redirected_refused.clone(),
        );
        registry.register(
            "baggage_full",
            "Configured baggage entries that found no room in a request's baggage",
            metrics.baggage_full.clone(),
        );
        Self { parents: counters, ..metrics }
    }

    /// Counts a request that the proxy had to answer itself. The reason comes
    /// from a fixed set.
    pub fn failed(&self, reason: &'static str) {
        self.failed.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a client of a TLS listener that did not get in. The reason
    /// comes from a fixed set.
    pub fn handshake_failed(&self, reason: &'static str) {
        self.handshakes_failed.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a change of certificate files that was taken or refused.
    pub fn tls_reload(&self, taken: bool) {
        let result = if taken { "taken" } else { "refused" };
        self.tls_reloads.get_or_create(&ResultLabel { result }).inc();
    }

    /// Counts a redirected connection that was not passed on. The reason
    /// comes from a fixed set.
    pub fn redirected_refused(&self, reason: &'static str) {
        self.redirected_refused.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a CLIENT span by the index of its method.
    pub fn parent(&self, method: usize) {
        if let Some(counter) = self.parents.get(method) {
            counter.inc();
        }
    }

    /// How many CLIENT spans there were of the method with this index.
    pub fn parents(&self, method: usize) -> u64 {
        self.parents.get(method).map_or(0, Counter::get)
    }

    /// Counts a baggage entry that found no room.
    pub fn baggage_full(&self) {
        self.baggage_full.inc();
    }
}
