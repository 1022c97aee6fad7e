//! What an API server does: connects to a webhook that it knows by name, trusts one bundle, and posts reviews.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A connection.
pub(super) struct Client(http1::SendRequest<Full<Bytes>>);

/// The clock of the client, which tests choose.
#[derive(Debug)]
struct At(u64);

impl rustls::time_provider::TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}

impl Client {
    /// Trusts these authorities and no others, at this time.
    pub(super) async fn connect(address: SocketAddr, bundle: &str, now: u64) -> std::io::Result<Self> {
        let stream = secured(address, bundle, now).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Ok(Client(sender))
    }

    /// Posts any body, and returns what came back.
    pub(super) async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> (StatusCode, Bytes) {
        self.send(Method::POST, path, Full::new(body.into())).await
    }

    pub(super) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Full<Bytes>,
    ) -> (StatusCode, Bytes) {
        self.0.ready().await.unwrap();
        let request =
            Request::builder().method(method).uri(path).header("host", "webhook").body(body).unwrap();
        let response = self.0.send_request(request).await.unwrap();
        (response.status(), response.into_body().collect().await.unwrap().to_bytes())
    }

    /// Posts a review of a pod with these annotations, and returns the whole answer.
    pub(super) async fn review(&mut self, annotations: &Value) -> Value {
        let (status, body) = self.post("/inject/pod/open", review(annotations).to_string()).await;
        assert_eq!(status, StatusCode::OK);
        serde_json::from_slice(&body).unwrap()
    }
}

/// A connection on which bytes are written by hand.
pub(super) async fn raw(address: SocketAddr, bundle: &str, now: u64) -> TlsStream<TcpStream> {
    secured(address, bundle, now).await.unwrap()
}

async fn secured(address: SocketAddr, bundle: &str, now: u64) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(authority.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_details(provider, Arc::new(At(now)))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("meshtrace-injector.meshtrace-system.svc").unwrap();
    let tcp = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

/// A review as an API server writes it.
pub(super) fn review(annotations: &Value) -> Value {
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "0a1b", "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop", "operation": "CREATE", "userInfo": {"username": "admin"}, "dryRun": false,
            "object": {
                "kind": "Pod", "apiVersion": "v1",
                "metadata": {"generateName": "weather-", "annotations": annotations},
                "spec": {"containers": [{"name": "agent", "image": "weather:1"}]},
            },
        },
    })
}
