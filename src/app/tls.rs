//! What speaks TLS on the data path, made at start, and the look at its files
//! from time to time.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::metrics::ProxyMetrics;
use crate::net::tls::{Acceptor, Change, Connector, Reloading, Source, TlsError};
use crate::proxy::settings::Outbound;

/// How often TLS files are looked at for changes.
const LOOK: Duration = Duration::from_secs(2);

/// What speaks TLS on the data path, if anything does.
#[derive(Default)]
pub(super) struct Tls {
    pub(super) acceptor: Option<Arc<Acceptor>>,
    pub(super) connector: Option<Arc<Connector>>,
}

impl Tls {
    /// Reads the files of what is configured.
    ///
    /// # Errors
    /// If one cannot be used.
    pub(super) fn new(config: &Config) -> Result<Self, TlsError> {
        let base_url = |o: &Outbound| o.target.as_ref().is_some_and(|target| target.secure);
        let originates = !config.tls.originate.is_empty() || config.outbound.iter().any(base_url);
        let acceptor = config.tls.inbound.clone().map(Acceptor::new).transpose()?;
        let connector = originates.then(|| Connector::new(config.tls.client_files())).transpose()?;
        Ok(Tls { acceptor: acceptor.map(Arc::new), connector: connector.map(Arc::new) })
    }

    /// Looks at the files for as long as it is polled.
    pub(super) async fn watch(self, metrics: ProxyMetrics) {
        let Tls { acceptor, connector } = self;
        if acceptor.is_none() && connector.is_none() {
            return;
        }
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            let (acceptor, connector) = (acceptor.clone(), connector.clone());
            // Reading may block, on a network volume for long.
            let looked = tokio::task::spawn_blocking(move || {
                let accepts = acceptor.map(|acceptor| look(acceptor.files()));
                [accepts, connector.map(|connector| look(connector.files()))]
            });
            for taken in looked.await.unwrap_or_default().into_iter().flatten().flatten() {
                metrics.tls_reload(taken);
            }
        }
    }
}

/// Says whether a change was taken; `None` where there was none.
fn look<S: Source>(files: &Reloading<S>) -> Option<bool> {
    match files.look() {
        Change::None => None,
        Change::Taken => {
            tracing::info!(files = files.describe(), "TLS files have changed and are in force");
            Some(true)
        }
        Change::Refused(error) => {
            tracing::warn!(%error, "TLS files have changed and cannot be used: the old ones stay in force");
            Some(false)
        }
    }
}
