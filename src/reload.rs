//! Takes changes of the configuration file over while the sidecar serves.
//!
//! It is looked at when a SIGHUP asks for it and every few seconds anyway,
//! because nobody signals a pod when its ConfigMap changes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::config::reload::Change;
use crate::config::{Config, FileInForce};
use crate::metrics::ReloadMetrics;
use crate::proxy::policy::Policy;
use crate::proxy::settings::{Attributes, SpanRules};
use crate::proxy::worker::Tracer;
use crate::trace::sampler::Sampler;
use crate::trace::sampler_config::SamplingConfig;

/// The time between two looks at the file.
const PERIOD: Duration = Duration::from_secs(2);

/// What a reload works on.
pub(crate) struct Reload {
    /// The file; without one there is nothing to look at.
    pub(crate) file: Option<FileInForce>,
    /// The name of the agent, which rules may ask for.
    pub(crate) service: String,
    /// What is in force at this moment, for others to look at.
    pub(crate) effective: Arc<Mutex<Config>>,
    /// Who has to know.
    pub(crate) tracer: Arc<Tracer>,
    /// Who counts.
    pub(crate) metrics: ReloadMetrics,
    /// Asked for from outside.
    pub(crate) asked: Arc<Notify>,
}

impl Reload {
    /// Looks again and again, until it is dropped.
    pub(crate) async fn run(mut self) -> Infallible {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let asked = Arc::clone(&self.asked);
            tokio::select! {
                () = asked.notified() => self.look(true),
                _ = ticks.tick() => self.look(false),
            }
        }
    }

    fn look(&mut self, asked: bool) {
        let Some(file) = &mut self.file else {
            if asked {
                tracing::info!("nothing to reload: there is no configuration file (--config)");
            }
            return;
        };
        let sampling = self.effective.lock().sampling.clone();
        match file.look(&sampling) {
            Change::Nothing if asked => {
                tracing::info!("nothing to reload: {} has not changed", file.path().display());
            }
            Change::Nothing => {}
            Change::Refused(error) => {
                self.metrics.refused.inc();
                tracing::error!("not reloaded, what was in force stays: {error}");
            }
            Change::New { spans, attributes, sampling, restart } => {
                let new = policy(spans.clone(), attributes.clone(), &sampling, &self.service);
                self.tracer.policy.replace(new);
                self.metrics.applied.inc();
                let records = sampling.describe(&self.service);
                let path = file.path().display();
                if restart.is_empty() {
                    tracing::info!("reloaded {path}: records {records}");
                } else {
                    let restart = restart.join(" and ");
                    tracing::warn!(
                        "reloaded {path}: records {records}; {restart} changed too, which needs a restart"
                    );
                }
                let mut effective = self.effective.lock();
                (effective.spans, effective.attributes, effective.sampling) = (spans, attributes, sampling);
            }
        }
    }
}

/// The rules for requests that begin from now on.
pub(crate) fn policy(
    spans: SpanRules,
    attributes: Attributes,
    sampling: &SamplingConfig,
    service: &str,
) -> Policy {
    Policy {
        sampler: Sampler::new(sampling, service, Instant::now()),
        keep: sampling.keep,
        spans,
        attributes,
    }
}
