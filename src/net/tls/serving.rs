//! A server whose certificate is handed to it in memory, and changed while it
//! serves: the certificates of the injector live in no file.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::{Alpn, TlsError, provider, unusable};

/// What is served. Connections that are open keep the certificate that they began with.
#[derive(Debug, Default)]
pub struct Serving(RwLock<Option<Arc<ServerConfig>>>);

impl Serving {
    /// Nothing yet: handshakes fail.
    pub fn new() -> Self {
        Serving::default()
    }

    /// Serves this chain, leaf first, with its key, both PEM, from the next handshake on. HTTP/1.1 is offered alone.
    ///
    /// # Errors
    /// When they cannot be read or do not fit together. What was served before stays then.
    pub fn install(&self, chain: &[u8], key: &[u8]) -> Result<(), TlsError> {
        let here = Path::new("the serving certificate");
        let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| unusable(here, error))?;
        if chain.is_empty() {
            return Err(unusable(here, "holds no certificate"));
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| unusable(here, error))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![Alpn::Http1.id().to_vec()];
        *self.0.write() = Some(Arc::new(config));
        Ok(())
    }

    /// Carries out a handshake.
    ///
    /// # Errors
    /// When the client does not play along, or nothing was installed yet.
    pub async fn accept(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = self.0.read().clone();
        let config = config.ok_or_else(|| io::Error::other("there is no certificate yet"))?;
        TlsAcceptor::from(config).accept(tcp).await.map(Into::into)
    }
}
