//! How long sessions of MCP lasted: `mcp.server.session.duration` and `mcp.client.session.duration` of the conventions.

use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::operations::{CONVENTION, OTHER, Side};

/// The revisions that have sessions. What else a server answers counts as one.
const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

type Labels = Vec<(&'static str, &'static str)>;
type Durations = Family<Labels, Histogram, fn() -> Histogram>;

/// The durations on both sides of the sidecar. Cloning shares them.
#[derive(Clone, Debug)]
pub struct SessionMetrics {
    server: Durations,
    client: Durations,
}

impl Default for SessionMetrics {
    fn default() -> Self {
        let family = || Durations::new_with_constructor(|| Histogram::new(CONVENTION));
        SessionMetrics { server: family(), client: family() }
    }
}

impl SessionMetrics {
    /// Registers the metrics under their public names.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = SessionMetrics::default();
        for (name, help, family) in [
            ("mcp_server_session_duration", "Sessions with the agent", &metrics.server),
            ("mcp_client_session_duration", "Sessions of the agent", &metrics.client),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, family.clone());
        }
        metrics
    }

    /// Counts a session of this revision that ended, over HTTP or a pipe. One
    /// that a server knew no more ended with an error.
    pub fn ended(
        &self,
        side: Side,
        revision: Option<&str>,
        transport: &'static str,
        error: Option<&'static str>,
        lasted: Duration,
    ) {
        let mut labels = Labels::new();
        if let Some(revision) = revision {
            let known = REVISIONS.iter().find(|known| **known == revision);
            labels.push(("mcp_protocol_version", known.unwrap_or(&OTHER)));
        }
        labels.extend(error.map(|error| ("error_type", error)));
        labels.push(("network_transport", transport));
        let family = match side {
            Side::Server => &self.server,
            Side::Client => &self.client,
        };
        family.get_or_create(&labels).observe(lasted.as_secs_f64());
    }
}
