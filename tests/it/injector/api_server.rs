//! A scripted API server: one Secret, one webhook configuration, and the rules by which versions conflict.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use meshtrace::admission::cluster::Cluster;
use meshtrace::admission::rotate::Names;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The server. Clones share it.
#[derive(Clone)]
pub(super) struct ApiServer {
    pub(super) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    version: u64,
    secret: Value,
    configuration: Value,
    /// What comes instead of the next answers.
    script: VecDeque<(Method, StatusCode)>,
    seen: Vec<String>,
}

pub(super) fn names() -> Names {
    Names {
        namespace: "meshtrace-system".to_owned(),
        secret: "meshtrace-injector".to_owned(),
        configuration: "meshtrace-injector".to_owned(),
        service: "meshtrace-injector".to_owned(),
    }
}

impl ApiServer {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let webhook =
            |name: &str| json!({"name": name, "clientConfig": {"service": {"name": "meshtrace-injector"}}});
        let state = State {
            version: 1,
            secret: json!({"kind": "Secret", "metadata": {"name": "meshtrace-injector", "resourceVersion": "1"}}),
            configuration: json!({
                "metadata": {"name": "meshtrace-injector", "resourceVersion": "1"},
                "webhooks": [webhook("a.inject.meshtrace.io"), webhook("b.inject.meshtrace.io")],
            }),
            script: VecDeque::new(),
            seen: Vec::new(),
        };
        let server = ApiServer { address, state: Arc::new(Mutex::new(state)) };
        let shared = server.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let server = shared.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| server.answer(request));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        server
    }

    /// A client of it.
    pub(super) fn cluster(&self) -> Cluster {
        Cluster { host: "127.0.0.1".to_owned(), port: self.address.port(), tls: None, token: None }
    }

    /// The next request with this method gets this status and does nothing.
    pub(super) fn refuse(&self, method: Method, status: StatusCode) {
        self.state.lock().unwrap().script.push_back((method, status));
    }

    /// The requests so far, as `METHOD kind`.
    pub(super) fn seen(&self) -> Vec<String> {
        self.state.lock().unwrap().seen.clone()
    }

    /// What each webhook trusts, as PEM; empty where nothing is trusted.
    pub(super) fn bundles(&self) -> Vec<String> {
        use base64::Engine as _;
        let state = self.state.lock().unwrap();
        let bundle = |webhook: &Value| {
            let text = webhook["clientConfig"]["caBundle"].as_str().unwrap_or_default();
            String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).unwrap()).unwrap()
        };
        state.configuration["webhooks"].as_array().unwrap().iter().map(bundle).collect()
    }

    /// Somebody writes something else into the configuration.
    pub(super) fn spoil(&self, bundle: &str) {
        let mut state = self.state.lock().unwrap();
        state.configuration["webhooks"][0]["clientConfig"]["caBundle"] = json!(bundle);
        state.touch(false);
    }

    /// Somebody writes something else into the Secret.
    pub(super) fn spoil_secret(&self, data: Value) {
        let mut state = self.state.lock().unwrap();
        state.secret["data"] = data;
        state.touch(true);
    }

    /// Takes the webhooks out of the configuration.
    pub(super) fn empty_configuration(&self) {
        self.state.lock().unwrap().configuration["webhooks"] = json!([]);
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        // Others get their turn between the reading and the writing of one.
        tokio::task::yield_now().await;
        let (status, answer) = self.state.lock().unwrap().answer(&head.method, head.uri.path(), &body);
        let mut response = Response::new(Full::new(Bytes::from(answer.to_string())));
        *response.status_mut() = status;
        Ok(response)
    }
}

impl State {
    fn touch(&mut self, secret: bool) {
        self.version += 1;
        let object = if secret { &mut self.secret } else { &mut self.configuration };
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
    }

    fn answer(&mut self, method: &Method, path: &str, body: &[u8]) -> (StatusCode, Value) {
        let kind = path.split('/').rev().nth(1).unwrap_or_default();
        self.seen.push(format!("{method} {kind}"));
        if self.script.front().is_some_and(|(scripted, _)| scripted == method)
            && let Some((_, status)) = self.script.pop_front()
        {
            return (status, json!({"message": "scripted"}));
        }
        match (method.as_str(), path) {
            ("GET", "/version") => (StatusCode::OK, json!({"major": "1", "minor": "34+"})),
            ("GET", "/api/v1/namespaces/meshtrace-system/secrets/meshtrace-injector") => {
                (StatusCode::OK, self.secret.clone())
            }
            ("PUT", "/api/v1/namespaces/meshtrace-system/secrets/meshtrace-injector") => self.put(body),
            ("GET", _) if path.ends_with("/mutatingwebhookconfigurations/meshtrace-injector") => {
                (StatusCode::OK, self.configuration.clone())
            }
            ("PATCH", _) if path.ends_with("/mutatingwebhookconfigurations/meshtrace-injector") => {
                self.patch(body)
            }
            _ => (StatusCode::FORBIDDEN, json!({"message": format!("{method} {path} is not allowed")})),
        }
    }

    fn put(&mut self, body: &[u8]) -> (StatusCode, Value) {
        let new: Value = serde_json::from_slice(body).unwrap();
        if new["metadata"]["resourceVersion"] != self.secret["metadata"]["resourceVersion"] {
            return (StatusCode::CONFLICT, json!({"message": "the object has been modified"}));
        }
        self.secret = new;
        self.touch(true);
        (StatusCode::OK, self.secret.clone())
    }

    fn patch(&mut self, body: &[u8]) -> (StatusCode, Value) {
        let patch: json_patch::Patch = serde_json::from_slice(body).unwrap();
        let mut new = self.configuration.clone();
        match json_patch::patch(&mut new, &patch) {
            Ok(()) => {
                self.configuration = new;
                self.touch(false);
                (StatusCode::OK, self.configuration.clone())
            }
            Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, json!({"message": error.to_string()})),
        }
    }
}
