//! TLS to the collector: whom we trust and who we are.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use meshtrace::export::config::{Protocol, TlsFiles};
use meshtrace::export::endpoint::Endpoint;
use meshtrace::export::{ExportConfig, TlsError, build, resource};
use meshtrace::metrics::ExportMetrics;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::{Pipeline, config, names};
use crate::support::collector::Collector;

/// An authority whose word is kept in files of its own.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Authority {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("meshtrace-tls-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, folder }
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn file(&self, name: &str, content: &str) -> Option<PathBuf> {
        let path = self.folder.join(name);
        std::fs::write(&path, content).unwrap();
        Some(path)
    }

    fn certificate(&self) -> Option<PathBuf> {
        self.file("ca.pem", &self.issuer.pem())
    }

    /// Our side of mutual TLS.
    fn client(&self, trusted: Option<PathBuf>) -> TlsFiles {
        let (certificate, key) = self.issue("client");
        TlsFiles {
            certificate: trusted,
            client_key: self.file("key.pem", &key.serialize_pem()),
            client_certificate: self.file("cert.pem", &certificate.pem()),
        }
    }

    /// The collector's side, which asks for a certificate of `clients` if there is one.
    fn acceptor(&self, clients: Option<&Self>, alpn: &[u8]) -> TlsAcceptor {
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
        let (certificate, key) = self.issue("127.0.0.1");
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut server = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        server.alpn_protocols = vec![alpn.to_vec()];
        TlsAcceptor::from(Arc::new(server))
    }
}

fn secure(collector: &Collector, protocol: Protocol, tls: TlsFiles) -> ExportConfig {
    config(collector.addr, protocol, |otlp| {
        otlp.endpoint = Endpoint::http_base(&format!("https://{}", collector.addr)).unwrap();
        otlp.tls = tls;
    })
}

#[tokio::test]
async fn a_collector_of_the_given_authority_is_trusted() {
    for (protocol, alpn, grpc) in
        [(Protocol::HttpProtobuf, &b"http/1.1"[..], false), (Protocol::Grpc, &b"h2"[..], true)]
    {
        let authority = Authority::new();
        let collector = Collector::start_tls(authority.acceptor(None, alpn), grpc);
        let tls = TlsFiles { certificate: authority.certificate(), ..TlsFiles::default() };
        let pipeline = Pipeline::start(&secure(&collector, protocol, tls));
        pipeline.record(0..10);
        pipeline.flush().await;
        assert_eq!((collector.names(), pipeline.fates()), (names(0..10), [10, 0, 0, 0, 0]));
    }
}

#[tokio::test]
async fn both_sides_prove_who_they_are() {
    for (protocol, alpn, grpc) in
        [(Protocol::HttpProtobuf, &b"http/1.1"[..], false), (Protocol::Grpc, &b"h2"[..], true)]
    {
        let (servers, clients) = (Authority::new(), Authority::new());
        let collector = Collector::start_tls(servers.acceptor(Some(&clients), alpn), grpc);
        let pipeline = Pipeline::start(&secure(&collector, protocol, clients.client(servers.certificate())));
        pipeline.record(0..10);
        pipeline.flush().await;
        assert_eq!((collector.names(), pipeline.fates()), (names(0..10), [10, 0, 0, 0, 0]));
    }
}

#[tokio::test]
async fn a_stranger_gets_no_spans() {
    let (authority, other) = (Authority::new(), Authority::new());
    let collector = Collector::start_tls(authority.acceptor(None, b"http/1.1"), false);
    for certificate in [other.certificate(), None] {
        let tls = TlsFiles { certificate, ..TlsFiles::default() };
        let pipeline = Pipeline::start(&secure(&collector, Protocol::HttpProtobuf, tls));
        pipeline.record(0..10);
        pipeline.until(|metrics| metrics.requests_network.get() > 2).await;
        assert_eq!((collector.names().len(), pipeline.exporter.waiting().0), (0, 10));
    }
}

#[test]
fn files_that_cannot_be_used_stop_the_start_and_are_named() {
    let authority = Authority::new();
    let good = authority.client(None);
    let missing = Some(authority.folder.join("missing.pem"));
    let empty = authority.file("empty.pem", "");
    let garbage =
        authority.file("garbage.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let cases = [
        (TlsFiles { certificate: missing.clone(), ..TlsFiles::default() }, "missing.pem"),
        (TlsFiles { certificate: empty.clone(), ..TlsFiles::default() }, "empty.pem"),
        (TlsFiles { certificate: garbage, ..TlsFiles::default() }, "garbage.pem"),
        (TlsFiles { client_key: missing, ..good.clone() }, "missing.pem"),
        (TlsFiles { client_certificate: empty, ..good.clone() }, "empty.pem"),
        (TlsFiles { client_key: None, ..good.clone() }, "together"),
        (TlsFiles { client_key: authority.client(None).client_certificate, ..good }, "cert.pem"),
    ];
    let (resource, _) = resource::from_env(&|_| None, 7);
    for (tls, named) in cases {
        let config = config("127.0.0.1:1".parse().unwrap(), Protocol::HttpProtobuf, |otlp| {
            otlp.endpoint = Endpoint::http_base("https://127.0.0.1:1").unwrap();
            otlp.tls = tls;
        });
        let error = build(&config, &resource, &ExportMetrics::default()).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
        assert!(matches!(error, TlsError::File { .. } | TlsError::Pair), "{error:?}");
    }
}
