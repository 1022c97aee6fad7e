//! What goes to the collector beside spans, where it is asked for: metrics, and
//! the access log and our own diagnostics as log records.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry as MetricsRegistry;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::StartError;
use crate::admin;
use crate::config::Config;
use crate::export::lines::{Lines, Writer};
use crate::export::periodic::Periodic;
use crate::export::records::{self, Forwarder};
use crate::log::Outlet;
use crate::metrics::Metrics;
use crate::proxy::access_log::AccessLog;

/// Tasks that are still to be run.
#[derive(Default)]
pub(super) struct Signals {
    metrics: Option<Periodic>,
    records: Option<Forwarder>,
}

impl Signals {
    /// The tasks, and the access log with the thread that writes its lines to `stream`. Opens the outlet of our own
    /// diagnostics where log records are asked for.
    pub(super) fn new(
        config: &Config,
        metrics: &Metrics,
        registry: &Arc<MetricsRegistry>,
        outlet: &Outlet,
        stream: impl io::Write + Send + 'static,
    ) -> Result<(Self, Option<AccessLog>, Option<Writer>), StartError> {
        let mut signals = Signals::default();
        let service = config.resource.service_name();
        if let Some(wanted) = &config.export.metrics {
            let (registry, operations) = (Arc::clone(registry), metrics.operations.clone());
            let agent = service.to_owned();
            let render = Box::new(move || admin::openmetrics(&registry, &operations, &agent));
            let sent = metrics.otlp_metrics.clone();
            signals.metrics = Some(Periodic::new(wanted, &config.resource, sent, render)?);
        }
        let mut out = None;
        if let Some(wanted) = &config.export.logs {
            let (records, forwarder) = records::build(wanted, &config.resource, metrics.otlp_logs.clone())?;
            out = Some(records);
            signals.records = Some(forwarder);
        }
        outlet.lead_to(out.clone());
        let (lines, writer) = match config.access_log {
            true => {
                let dropped = metrics.access_log_dropped.clone();
                let (lines, writer) = Lines::to(stream, dropped).map_err(StartError::Thread)?;
                (Some(lines), Some(writer))
            }
            false => (None, None),
        };
        Ok((signals, AccessLog::new(lines, out, service), writer))
    }

    /// Runs them until the other end of `stopped` is gone, and for at most
    /// `last` after that.
    pub(super) fn spawn(self, stopped: &watch::Receiver<()>, last: Duration) -> JoinSet<()> {
        let mut running = JoinSet::new();
        let stop = || {
            let mut stopped = stopped.clone();
            async move { while stopped.changed().await.is_ok() {} }
        };
        if let Some(periodic) = self.metrics {
            running.spawn(periodic.run(stop(), last));
        }
        if let Some(forwarder) = self.records {
            running.spawn(forwarder.run(stop(), last));
        }
        running
    }
}
