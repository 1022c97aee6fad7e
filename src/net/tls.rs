//! TLS: whom we trust, who we are, and both sides of a handshake.
//!
//! The one place that knows rustls. The provider of the cryptography is named
//! wherever a configuration is made, so no process-wide default is needed.

pub mod client;
pub mod reload;
pub mod server;
pub mod serving;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use client::{ClientFiles, Connector, HandshakeError, Roots};
pub use reload::{Change, Reloading, Source};
pub use server::{Acceptor, NotTls, ServerFiles};
pub use serving::Serving;
pub use tokio_rustls::TlsStream;

/// The longest PEM file that is read, in bytes: a bundle of every public
/// authority is a quarter of it.
pub const MAX_PEM_BYTES: u64 = 1024 * 1024;

/// Why TLS cannot be set up. Names the file, never its content.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be read or holds nothing usable.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// One of key and certificate is missing.
    #[error("a client key and a client certificate are needed together")]
    Pair,
    /// The parts do not make a configuration.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The PEM files of a certificate chain, leaf first, and of its private key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The chain.
    pub certificate: PathBuf,
    /// The key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// The application protocol that a connection is for (ALPN, RFC 7301).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Alpn {
    /// `http/1.1`.
    Http1,
    /// `h2`.
    Http2,
}

impl Alpn {
    /// Its identifier in a handshake.
    pub fn id(self) -> &'static [u8] {
        match self {
            Alpn::Http1 => b"http/1.1",
            Alpn::Http2 => b"h2",
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// PEM files as they were read at one moment, so that what is compared with a
/// later moment is what a configuration was made of.
#[derive(Clone, Eq, PartialEq)]
pub struct Contents(Vec<(PathBuf, Vec<u8>)>);

impl Contents {
    /// Reads every file, up to [`MAX_PEM_BYTES`] each.
    fn read(paths: &[&Path]) -> Result<Self, TlsError> {
        let read = |path: &&Path| match read_file(path) {
            Ok(bytes) => Ok((path.to_path_buf(), bytes)),
            Err(error) => Err(unusable(path, error)),
        };
        paths.iter().map(read).collect::<Result<_, _>>().map(Contents)
    }

    fn of(&self, path: &Path) -> &[u8] {
        self.0.iter().find(|(p, _)| p == path).map_or(&[], |(_, bytes)| bytes)
    }

    fn certificates(&self, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let read = CertificateDer::pem_slice_iter(self.of(path)).collect::<Result<Vec<_>, _>>();
        let certificates = read.map_err(|error| unusable(path, error))?;
        if certificates.is_empty() {
            return Err(unusable(path, "holds no certificate"));
        }
        Ok(certificates)
    }

    fn key(&self, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(self.of(path)).map_err(|error| unusable(path, error))
    }

    /// The authorities of a file, added to those in `roots`.
    fn add_authorities(&self, path: &Path, roots: &mut RootCertStore) -> Result<(), TlsError> {
        let (added, _) = roots.add_parsable_certificates(self.certificates(path)?);
        if added == 0 {
            return Err(unusable(path, "holds no certificate that can be trusted"));
        }
        Ok(())
    }
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_PEM_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_PEM_BYTES {
        return Err(io::Error::other(format!("is longer than {MAX_PEM_BYTES} bytes")));
    }
    Ok(bytes)
}

fn unusable(path: &Path, reason: impl ToString) -> TlsError {
    TlsError::File { path: path.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_too_long_are_refused_before_they_fill_the_memory() {
        let path = std::env::temp_dir().join(format!("meshtrace-pem-{}", std::process::id()));
        for (length, fits) in [(MAX_PEM_BYTES, true), (MAX_PEM_BYTES + 1, false)] {
            std::fs::write(&path, vec![b'#'; usize::try_from(length).unwrap()]).unwrap();
            let read = Contents::read(&[&path]);
            assert_eq!(read.is_ok(), fits);
            if let Err(error) = read {
                assert!(error.to_string().contains("longer than"), "{error}");
            }
        }
        std::fs::remove_file(&path).unwrap();
    }
}
