//! TLS to the collector: whom we trust and who we are.

use std::path::PathBuf;

use meshtrace::export::config::{Protocol, TlsFiles};
use meshtrace::export::endpoint::Endpoint;
use meshtrace::export::{ExportConfig, build, resource};
use meshtrace::metrics::ExportMetrics;
use meshtrace::net::tls::TlsError;

use super::{Pipeline, config, names};
use crate::support::authority::Authority;
use crate::support::collector::Collector;

/// Our side of mutual TLS.
fn client(authority: &Authority, trusted: Option<PathBuf>) -> TlsFiles {
    let (certificate, key) = authority.pair("client");
    TlsFiles { certificate: trusted, client_key: Some(key), client_certificate: Some(certificate) }
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
        let collector = Collector::start_tls(authority.acceptor("127.0.0.1", None, &[alpn]), grpc);
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
        let collector = Collector::start_tls(servers.acceptor("127.0.0.1", Some(&clients), &[alpn]), grpc);
        let pipeline =
            Pipeline::start(&secure(&collector, protocol, client(&clients, servers.certificate())));
        pipeline.record(0..10);
        pipeline.flush().await;
        assert_eq!((collector.names(), pipeline.fates()), (names(0..10), [10, 0, 0, 0, 0]));
    }
}

#[tokio::test]
async fn a_stranger_gets_no_spans() {
    let (authority, other) = (Authority::new(), Authority::new());
    let collector = Collector::start_tls(authority.acceptor("127.0.0.1", None, &[b"http/1.1"]), false);
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
    let good = client(&authority, None);
    let missing = Some(authority.folder().join("missing.pem"));
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
        (TlsFiles { client_key: client(&authority, None).client_certificate, ..good }, "cert.pem"),
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
