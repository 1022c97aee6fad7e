//! The metrics of the webhook that adds the sidecar to pods.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// What the injector did. Cloning shares the counters.
#[derive(Clone, Debug)]
pub struct InjectorMetrics {
    reviews: Family<ResultLabel, Counter>,
    refusals: Family<ReasonLabel, Counter>,
    requests_failed: Family<ReasonLabel, Counter>,
    /// Seconds from the last byte of a review to its answer.
    pub seconds: Histogram,
    /// Connections that were closed to make room for new ones.
    pub connections_closed: Counter,
    /// TLS handshakes that came to nothing.
    pub handshakes_failed: Counter,
    /// Certificates that were taken into use.
    pub certificates_taken: Counter,
    /// When the certificate in use ends, in seconds since 1970; 0 while there is none.
    pub certificate_expires: Gauge<u64, AtomicU64>,
    /// Failed attempts to look after certificates.
    pub rotation_failures: Counter,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ReasonLabel {
    reason: &'static str,
}

impl InjectorMetrics {
    /// Creates the metrics at zero and registers them under their public names.
    pub fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("meshtrace_injector");
        let metrics = InjectorMetrics {
            reviews: Family::default(),
            refusals: Family::default(),
            requests_failed: Family::default(),
            seconds: Histogram::new([
                0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 1.0,
            ]),
            connections_closed: Counter::default(),
            handshakes_failed: Counter::default(),
            certificates_taken: Counter::default(),
            certificate_expires: Gauge::default(),
            rotation_failures: Counter::default(),
        };
        registry.register("reviews", "Reviews answered, by result", metrics.reviews.clone());
        registry.register(
            "refusals",
            "Pods that asked and were refused, by reason",
            metrics.refusals.clone(),
        );
        registry.register(
            "requests_failed",
            "Requests that were no review and got an HTTP error, by reason",
            metrics.requests_failed.clone(),
        );
        registry.register("review_seconds", "Time to answer a review", metrics.seconds.clone());
        registry.register(
            "connections_closed",
            "Connections closed to make room for new ones",
            metrics.connections_closed.clone(),
        );
        registry.register(
            "tls_handshakes_failed",
            "TLS handshakes that came to nothing",
            metrics.handshakes_failed.clone(),
        );
        registry.register(
            "certificates_taken",
            "Serving certificates taken into use",
            metrics.certificates_taken.clone(),
        );
        registry.register(
            "certificate_expires_timestamp_seconds",
            "When the serving certificate ends",
            metrics.certificate_expires.clone(),
        );
        registry.register(
            "rotation_failures",
            "Failed attempts to look after certificates",
            metrics.rotation_failures.clone(),
        );
        metrics
    }

    /// Counts an answered review. The words come from fixed sets.
    pub fn answered(&self, result: &'static str, refusal: Option<&'static str>) {
        self.reviews.get_or_create(&ResultLabel { result }).inc();
        if let Some(reason) = refusal {
            self.refusals.get_or_create(&ReasonLabel { reason }).inc();
        }
    }

    /// Counts a request that got an HTTP error. The reason comes from a fixed set.
    pub fn failed(&self, reason: &'static str) {
        self.requests_failed.get_or_create(&ReasonLabel { reason }).inc();
    }
}
