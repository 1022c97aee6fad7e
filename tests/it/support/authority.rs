//! A certificate authority of a test, and what it vouches for.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// An authority whose word is kept in files of its own.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What a certificate is for, and until when.
#[derive(Clone, Copy, Debug)]
pub struct Leaf<'a> {
    /// A name or an address.
    pub name: &'a str,
    /// Its time is over.
    pub expired: bool,
}

impl Authority {
    /// A new one, whom nobody trusts yet.
    pub fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("meshtrace-tls-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, format!("authority {number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, folder }
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file of this name and content.
    pub fn file(&self, name: &str, content: &str) -> Option<PathBuf> {
        let path = self.folder.join(name);
        std::fs::write(&path, content).unwrap();
        Some(path)
    }

    /// Its own certificate, for those who are to trust it.
    pub fn certificate(&self) -> Option<PathBuf> {
        self.file("ca.pem", &self.issuer.pem())
    }

    /// The files of a new certificate for this name, and of its key.
    pub fn pair(&self, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.issue(Leaf { name, expired: false });
        let pair = (self.file("cert.pem", &certificate.pem()), self.file("key.pem", &key.serialize_pem()));
        (pair.0.unwrap(), pair.1.unwrap())
    }

    /// A new certificate and its key.
    pub fn issue(&self, leaf: Leaf<'_>) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![leaf.name.to_owned()]).unwrap();
        if leaf.expired {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// A server of this name, which asks for a certificate of `clients` if
    /// there are such, and knows these application protocols.
    pub fn acceptor(&self, name: &str, clients: Option<&Self>, alpn: &[&[u8]]) -> TlsAcceptor {
        self.acceptor_for(Leaf { name, expired: false }, clients, alpn)
    }

    /// The same with any certificate.
    pub fn acceptor_for(&self, leaf: Leaf<'_>, clients: Option<&Self>, alpn: &[&[u8]]) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.issuer.der().clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let (certificate, key) = self.issue(leaf);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut server = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        server.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        TlsAcceptor::from(Arc::new(server))
    }

    /// What a client needs that trusts this authority.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        roots
    }
}
