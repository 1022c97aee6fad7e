//! The injector's second task beside answering reviews: certificates that are good, and trusted.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::admission::cluster::{Cluster, ClusterError};
use crate::admission::rotate::{self, BACKOFF, INTERVAL, Names, RotateError};
use crate::admission::webhook::Webhook;
use crate::metrics::InjectorMetrics;
use crate::net::tls::{Serving, TlsError};

/// Where the serving certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Made and renewed by the replicas themselves, and announced to the API servers.
    Own(Names),
    /// PEM files that somebody else replaces, and announces, such as cert-manager.
    Files {
        /// The chain, leaf first.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
}

/// Keeps the serving certificate good.
#[derive(Debug)]
pub struct Keeper {
    /// Where it comes from.
    pub source: Source,
    /// The API server, where there is one.
    pub cluster: Option<Cluster>,
    /// Where it is served.
    pub serving: Arc<Serving>,
    /// Whose settings depend on the version of the API server; `None` when that is settled.
    pub webhook: Option<Arc<Webhook>>,
    /// What is counted.
    pub metrics: InjectorMetrics,
    /// What is served now: chain and key.
    pub served: (Vec<u8>, Vec<u8>),
}

/// Why there is no good certificate.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// Sharing or announcing failed.
    #[error(transparent)]
    Rotate(#[from] RotateError),
    /// The certificate cannot be served.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file cannot be read.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Own certificates need an API server.
    #[error("certificates of our own need the API server: KUBERNETES_SERVICE_HOST is not set")]
    NoCluster,
}

impl Keeper {
    /// Looks after the certificate for ever. `ready` is called each time that all is well, `clock` tells the time.
    pub async fn run(mut self, clock: impl Fn() -> u64, ready: impl Fn()) -> std::convert::Infallible {
        let mut wait = BACKOFF.0;
        loop {
            let pause = match self.look(clock()).await {
                Ok(()) => {
                    ready();
                    wait = BACKOFF.0;
                    INTERVAL
                }
                Err(error) => {
                    self.metrics.rotation_failures.inc();
                    tracing::warn!(%error, retry = ?wait, "the serving certificate could not be looked after");
                    let pause = wait;
                    wait = (wait * 2).min(BACKOFF.1);
                    pause
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// One look: what is due is done, what is new is served, who has to trust it does.
    ///
    /// # Errors
    /// The first thing that failed. What was served before stays.
    pub async fn look(&mut self, now: u64) -> Result<(), KeeperError> {
        self.learn_version().await;
        match &self.source {
            Source::Files { certificate, key } => {
                let read = |path: &PathBuf| {
                    std::fs::read(path).map_err(|error| KeeperError::File { path: path.clone(), error })
                };
                let pair = (read(certificate)?, read(key)?);
                self.serve(pair)
            }
            Source::Own(names) => {
                let names = names.clone();
                let cluster = self.cluster.as_ref().ok_or(KeeperError::NoCluster)?;
                let certificates = rotate::share(cluster, &names, now).await?;
                if rotate::announce(cluster, &names, &certificates).await? {
                    tracing::info!(
                        authorities = certificates.authorities.len(),
                        "announced to the API servers"
                    );
                }
                self.metrics.certificate_expires.set(certificates.expires());
                self.serve((certificates.leaf.certificate.into_bytes(), certificates.leaf.key.into_bytes()))
            }
        }
    }

    fn serve(&mut self, pair: (Vec<u8>, Vec<u8>)) -> Result<(), KeeperError> {
        if self.served != pair {
            self.serving.install(&pair.0, &pair.1)?;
            self.metrics.certificates_taken.inc();
            self.served = pair;
            tracing::info!("took a certificate into use");
        }
        Ok(())
    }

    /// Asks the API server for its version, by which the form of the sidecar is chosen. Not knowing it is no failure.
    async fn learn_version(&self) {
        let (Some(cluster), Some(webhook)) = (&self.cluster, &self.webhook) else {
            return;
        };
        match version(cluster).await {
            Ok(Some(version)) => webhook.set_kubernetes(version),
            Ok(None) => tracing::debug!("the API server does not say its version"),
            Err(error) => tracing::debug!(%error, "the version of the API server is not known"),
        }
    }
}

/// Major and minor version; clusters append a plus sign to the latter.
async fn version(cluster: &Cluster) -> Result<Option<(u32, u32)>, ClusterError> {
    let answer = cluster.read("/version").await?;
    let number = |key: &str| {
        let text = answer.get(key).and_then(Value::as_str)?;
        text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok()
    };
    Ok(number("major").zip(number("minor")))
}

/// The time in seconds since 1970.
pub fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
