//! `/app-probe/<container>/<probe>`: the TCP probes of the pod's containers,
//! carried out in place of the kubelet.
//!
//! A port whose traffic is redirected accepts every connection, because we do;
//! a TCP probe of it would succeed with nobody behind it. The injector has the
//! kubelet ask here instead. What may be asked is fixed at start, so that a
//! stranger can make us connect nowhere else.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::Semaphore;

use super::text;
use crate::net::probe::TcpProbe;
use crate::net::resolve::Resolver;

/// The most probes at once. A pod has a handful, seconds apart.
pub const MAX_PROBES: usize = 16;

/// The path under which the probes are.
const PREFIX: &str = "/app-probe/";

/// The probes of a pod's containers. Clones share the bound.
#[derive(Clone, Debug)]
pub struct AppProbes {
    /// By `<container>/<probe>`.
    probes: Arc<BTreeMap<String, TcpProbe>>,
    running: Arc<Semaphore>,
    resolver: Resolver,
    refused: Counter,
}

impl AppProbes {
    /// These probes; `refused` counts the ones that were too many at once.
    pub fn new(probes: BTreeMap<String, TcpProbe>, resolver: Resolver, refused: Counter) -> Self {
        AppProbes {
            probes: Arc::new(probes),
            running: Arc::new(Semaphore::new(MAX_PROBES)),
            resolver,
            refused,
        }
    }

    /// Whether a path is one of a probe.
    pub fn has(&self, path: &str) -> bool {
        self.find(path).is_some()
    }

    fn find(&self, path: &str) -> Option<&TcpProbe> {
        self.probes.get(path.strip_prefix(PREFIX)?)
    }

    /// Carries the probe of this path out: 200 where its port accepts, else
    /// 503 with a line that says why.
    pub(super) async fn answer(&self, path: &str) -> Response<Full<Bytes>> {
        let Some(probe) = self.find(path) else {
            return text(StatusCode::NOT_FOUND, "there is no such probe\n");
        };
        let Ok(_running) = self.running.try_acquire() else {
            self.refused.inc();
            return text(StatusCode::SERVICE_UNAVAILABLE, "too many probes at once\n");
        };
        match probe.run(&self.resolver).await {
            Ok(()) => text(StatusCode::OK, "the port accepts connections\n"),
            Err(error) => {
                let port = probe.port;
                text(StatusCode::SERVICE_UNAVAILABLE, format!("port {port} does not accept: {error}\n"))
            }
        }
    }
}
