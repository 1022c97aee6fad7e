//! Sends metrics in fixed intervals, and once more at the end.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use opentelemetry_proto::tonic::resource::v1;
use prost::Message;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::export::Resource;
use crate::export::config::{MetricsConfig, Temporality};
use crate::export::connect::Lane;
use crate::export::deltas::Deltas;
use crate::export::points::{self, Times};
use crate::export::sender::{Batch, Delivery, Sender};
use crate::metrics::{ExportMetrics, SignalMetrics};
use crate::net::tls::TlsError;

/// Makes the text of all metrics, as OpenMetrics.
pub type Render = Box<dyn Fn() -> String + Send + Sync>;

/// The connection to the collector, and what it knows where it is told only what is new.
struct Way {
    lane: Lane,
    deltas: Option<Deltas>,
}

/// Sends metrics until it is told to stop.
pub struct Periodic {
    sender: Arc<Sender>,
    hurry: watch::Sender<bool>,
    resource: v1::Resource,
    render: Render,
    interval: Duration,
    exemplars: bool,
    temporality: Temporality,
    start: u64,
    metrics: SignalMetrics,
}

impl Periodic {
    /// For what `render` makes, about this resource, counted from now on.
    ///
    /// # Errors
    /// If a TLS file cannot be used.
    pub fn new(
        config: &MetricsConfig,
        resource: &Resource,
        metrics: SignalMetrics,
        render: Render,
    ) -> Result<Self, TlsError> {
        let (hurry, hurried) = watch::channel(false);
        let sender = Sender::new(config.otlp.clone(), None, ExportMetrics::default(), hurried)?;
        Ok(Periodic {
            sender: Arc::new(sender),
            hurry,
            resource: resource.to_proto(),
            render,
            interval: config.interval,
            exemplars: config.exemplars,
            temporality: config.temporality,
            start: unix_nanos(),
            metrics,
        })
    }

    /// Sends until `stop`, and what there is then for at most `last`.
    pub async fn run(self, stop: impl Future<Output = ()>, last: Duration) {
        let mut stop = pin!(stop);
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        let deltas = (self.temporality == Temporality::Delta).then(|| Deltas::since(self.start));
        let mut way = Way { lane: Lane::default(), deltas };
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = &mut stop => break,
            }
            let mut export = pin!(self.export(&mut way));
            tokio::select! {
                () = &mut export => continue,
                () = &mut stop => {}
            }
            self.hurry();
            if tokio::time::timeout(last, export).await.is_err() {
                // Nor would the collector take another one.
                self.metrics.failed.inc();
                return;
            }
            break;
        }
        self.hurry();
        if tokio::time::timeout(last, self.export(&mut way)).await.is_err() {
            self.metrics.failed.inc();
        }
    }

    /// Has waits for the collector end.
    fn hurry(&self) {
        // Nobody listens when there is nothing to hurry.
        let _ = self.hurry.send(true);
    }

    async fn export(&self, way: &mut Way) {
        let times = Times { start: self.start, now: unix_nanos() };
        let mut request = points::read(&(self.render)(), &self.resource, times, self.exemplars);
        let next = way.deltas.as_ref().map(|deltas| deltas.of(&mut request, times.now));
        let body = request.encode_to_vec();
        let batch = Batch { spans: 1, bytes: body.len(), parts: vec![Bytes::from(body)], number: 0 };
        match self.sender.deliver(&mut way.lane, &batch).await {
            Delivery::Accepted { .. } => {
                if let Some((deltas, next)) = way.deltas.as_mut().zip(next) {
                    deltas.taken(next);
                }
                self.metrics.exported.inc()
            }
            Delivery::Refused | Delivery::Expired => self.metrics.failed.inc(),
        };
    }
}

fn unix_nanos() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
