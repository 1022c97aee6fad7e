//! The API server, as far as the injector needs it: a few requests an hour, each on a connection of its own.
//!
//! Token and authority are files that Kubernetes replaces, so both are read again for every request.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::net::tls::{Alpn, Connector};

/// How long one request may take, connecting included.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The most bytes of an answer. A webhook configuration and a Secret are a few KiB.
const MAX_ANSWER_BYTES: usize = 2 * 1024 * 1024;

/// Where the API server is, and how it is spoken to.
#[derive(Debug)]
pub struct Cluster {
    /// Its host name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// TLS towards it; plain HTTP without, which is for tests and for a proxy beside us.
    pub tls: Option<Connector>,
    /// The file with the token of our service account, if we need one.
    pub token: Option<PathBuf>,
}

/// Why a request brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The API server was not reached, or the connection broke.
    #[error("the API server at {0} cannot be spoken to: {1}")]
    Connection(String, String),
    /// It took too long.
    #[error("the API server at {0} did not answer within {TIMEOUT:?}")]
    Timeout(String),
    /// The token cannot be read.
    #[error("{}: {reason}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It said no.
    #[error("{method} {path}: the API server answers {status}: {message}")]
    Status {
        /// The request's method.
        method: Method,
        /// The request's path.
        path: String,
        /// What it answered.
        status: StatusCode,
        /// The message in the answer, shortened.
        message: String,
    },
}

impl ClusterError {
    /// Somebody else was faster: what was to be changed is not any more what it was, or has been made meanwhile.
    pub fn is_conflict(&self) -> bool {
        match self {
            // A JSON Patch whose test fails is 422.
            ClusterError::Status { status, .. } => {
                matches!(*status, StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY)
            }
            _ => false,
        }
    }
}

impl Cluster {
    /// Reads an object.
    pub async fn read(&self, path: &str) -> Result<Value, ClusterError> {
        self.request(Method::GET, path, "application/json", None).await
    }

    /// Replaces an object. The API server refuses if it is not the version that was read.
    pub async fn replace(&self, path: &str, object: &Value) -> Result<Value, ClusterError> {
        self.request(Method::PUT, path, "application/json", Some(object)).await
    }

    /// Applies a JSON Patch to an object.
    pub async fn patch(&self, path: &str, patch: &Value) -> Result<Value, ClusterError> {
        self.request(Method::PATCH, path, "application/json-patch+json", Some(patch)).await
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        content: &'static str,
        body: Option<&Value>,
    ) -> Result<Value, ClusterError> {
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method.clone();
        *request.uri_mut() = path.parse().map_err(|error| self.broken(error))?;
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_str(&self.authority()).map_err(|error| self.broken(error))?);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, bearer(token)?);
        }
        let exchange = tokio::time::timeout(TIMEOUT, self.exchange(request)).await;
        let (status, answer) = exchange.map_err(|_| ClusterError::Timeout(self.authority()))??;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        if status.is_success() {
            return Ok(answer);
        }
        let message = answer.get("message").and_then(Value::as_str).unwrap_or_default();
        let message = message.chars().filter(|c| !c.is_control()).take(300).collect();
        Err(ClusterError::Status { method, path: path.to_owned(), status, message })
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), ClusterError> {
        let tcp =
            TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|error| self.broken(error))?;
        match &self.tls {
            None => self.over(tcp, request).await,
            Some(connector) => {
                // The authority of the cluster can be replaced while we run.
                connector.files().look();
                let stream = connector.connect(&self.host, tcp, Alpn::Http1).await;
                self.over(stream.map_err(|error| self.broken(error))?, request).await
            }
        }
    }

    async fn over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), ClusterError> {
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.broken(error))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| self.broken(error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            Ok((status, body.map_err(|error| self.broken(error))?.to_bytes()))
        };
        tokio::pin!(exchange);
        tokio::select! {
            done = &mut exchange => done,
            // The connection may end with the answer already read.
            _ = connection => exchange.await,
        }
    }

    fn authority(&self) -> String {
        let v6 = self.host.parse::<std::net::Ipv6Addr>().is_ok();
        if v6 { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }

    fn broken(&self, error: impl ToString) -> ClusterError {
        ClusterError::Connection(self.authority(), error.to_string())
    }
}

/// The token as a header that no log shows.
fn bearer(path: &PathBuf) -> Result<HeaderValue, ClusterError> {
    let failed = |reason: String| ClusterError::Token { path: path.clone(), reason };
    let token = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let value = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
    let mut value = value.map_err(|_| failed("is not a token".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}
