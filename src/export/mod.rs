//! From a finished span to the collector, beside the request path and never in its way.
//!
//! A worker [encodes](otlp) each span into a [chunk](queue); the [task](Task) sends chunks in batches, tries again what
//! the collector could not take, and counts what was lost. Nothing outside this module knows OTLP.

pub mod config;
pub mod endpoint;
pub mod env;
#[doc(hidden)]
pub mod fuzz;
pub mod lines;
pub mod otlp;
pub mod periodic;
pub mod points;
pub mod queue;
pub mod records;
pub mod resource;
pub mod retry;
pub mod signal;
mod task;
pub mod tree;

mod base64;
mod connect;
mod console;
mod deltas;
mod grpc;
mod health;
mod http;
mod sender;
mod verdict;

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use config::ExportConfig;
pub use queue::{Exporter, Recorder};
pub use resource::Resource;
pub use task::Task;

use crate::metrics::ExportMetrics;
use crate::net::tls::TlsError;

/// Commands that may wait for the task; the callers of more wait themselves.
const MAX_COMMANDS: usize = 16;

/// Makes the pipeline: the handle for the workers and the task that has to run somewhere. Reads the TLS files.
///
/// With no exporter configured there is no task, and the handle does nothing.
///
/// # Errors
/// If a TLS file cannot be used.
pub fn build(
    config: &ExportConfig,
    resource: &Resource,
    metrics: &ExportMetrics,
) -> Result<(Exporter, Option<Task>), TlsError> {
    if !config.is_enabled() {
        return Ok((Exporter::disabled(), None));
    }
    let (hurry, hurried) = watch::channel(false);
    let sender = match &config.otlp {
        None => None,
        Some(otlp) => {
            let envelope = otlp::Envelope::new(&resource.to_proto());
            Some(Arc::new(sender::Sender::new(otlp.clone(), Some(envelope), metrics.clone(), hurried)?))
        }
    };
    let (command, commands) = mpsc::channel(MAX_COMMANDS);
    let shared = Arc::new(queue::Shared::new(config.queue.clone(), metrics.clone()));
    let task = Task {
        shared: Arc::clone(&shared),
        config: config.queue.clone(),
        metrics: metrics.clone(),
        commands,
        sender,
        console: config
            .console
            .then(|| console::Console::new(resource.service_name(), Box::new(std::io::stdout()))),
        hurry,
        waiting: VecDeque::new(),
        first: 0,
        in_flight: JoinSet::new(),
        pending: Vec::new(),
        idle: Vec::new(),
        flushes: Vec::new(),
        stop: None,
    };
    Ok((Exporter::new(shared, command), Some(task)))
}
