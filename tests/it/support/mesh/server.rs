//! A server that answers as a test scripts it and remembers what it was asked.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::wire::{Body, Pieces};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET`, `POST` and so on.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The header fields.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Asked {
    /// A header field; `None` where it is missing, a panic where it is there twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        assert!(self.headers.get_all(name).iter().count() <= 1, "{name} twice: {:?}", self.headers);
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The body as JSON; `null` where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A member of `params._meta` that is a string.
    pub fn meta(&self, name: &str) -> Option<String> {
        self.json()["params"]["_meta"][name].as_str().map(str::to_owned)
    }

    /// The `id` of the message.
    pub fn id(&self) -> Value {
        self.json()["id"].clone()
    }

    /// The ids of trace and span in a header or in `_meta`, with the flags.
    pub fn context(text: &str) -> (&str, &str, &str) {
        assert_eq!(text.len(), 55, "{text}");
        (&text[3..35], &text[36..52], &text[53..])
    }
}

/// What a script answers.
pub struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Body,
    closes: bool,
}

impl Answer {
    /// A status with a body of no type.
    pub fn status(status: u16, body: &str) -> Self {
        Answer { status, headers: Vec::new(), body: body.to_owned().into(), closes: false }
    }

    /// One JSON-RPC message as a JSON body.
    pub fn json(message: &Value) -> Self {
        Answer::status(200, &message.to_string()).header("content-type", "application/json")
    }

    /// JSON-RPC messages as events of a stream that ends after them.
    pub fn events(messages: &[Value]) -> Self {
        let text: String = messages.iter().map(event).collect();
        Answer::status(200, &text).header("content-type", "text/event-stream")
    }

    /// A body that the test writes while the client reads.
    pub fn pieces(content_type: &str) -> (Pieces, Self) {
        let (sender, body) = Body::pieces();
        let answer = Answer { body, ..Answer::status(200, "") };
        (sender, answer.header("content-type", content_type))
    }

    /// The connection closes without an answer.
    pub fn close() -> Self {
        Answer { closes: true, ..Answer::status(200, "") }
    }

    /// With this field too.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// With another body, of any bytes.
    pub fn with_body(mut self, body: Vec<u8>) -> Self {
        self.body = body.into();
        self
    }

    /// With another status.
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    fn into_response(self) -> io::Result<Response<Body>> {
        if self.closes {
            return Err(io::Error::other("as scripted"));
        }
        let mut response = Response::builder().status(self.status);
        for (name, value) in &self.headers {
            response = response.header(*name, value);
        }
        Ok(response.body(self.body).unwrap())
    }
}

/// A message as an event.
pub fn event(message: &Value) -> String {
    format!("event: message\ndata: {message}\n\n")
}

/// A running server. It stops, with its connections, when it is dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Answers every request as `script` says.
    pub async fn start<F, R>(script: F) -> Self
    where
        F: Fn(Asked) -> R + Send + Sync + 'static,
        R: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (script, log) = (Arc::new(script), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                connections.spawn(serve(tcp, Arc::clone(&script), Arc::clone(&log)));
                while connections.try_join_next().is_some() {}
            }
        });
        Server { address, asked, task }
    }

    /// Answers every request at once with what `answer` makes of it.
    pub async fn answering(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Server::start(move |asked| std::future::ready(answer(&asked))).await
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The latest request.
    pub fn last(&self) -> Asked {
        self.asked().pop().expect("a request")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<F, R>(tcp: TcpStream, script: Arc<F>, log: Arc<Mutex<Vec<Asked>>>)
where
    F: Fn(Asked) -> R + Send + Sync + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (script, log) = (Arc::clone(&script), Arc::clone(&log));
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
            let asked = Asked {
                method: head.method.to_string(),
                path: head.uri.path_and_query().map_or_else(String::new, ToString::to_string),
                headers: head.headers,
                body,
            };
            log.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
            script(asked).await.into_response()
        }
    });
    // What goes wrong here is part of the script, or the test sees it on the other side.
    let mut start = [0];
    match tcp.peek(&mut start).await {
        Ok(1) if start == *b"P" && is_preface(&tcp).await => {
            let server = http2::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(tcp), service).await;
        }
        _ => drop(http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await),
    }
}

/// Whether the bytes `PRI` are next; a method `P…` of at least three bytes is told apart by them.
async fn is_preface(tcp: &TcpStream) -> bool {
    let mut start = [0; 3];
    while tcp.peek(&mut start).await.is_ok_and(|n| n < start.len() && n > 0) {
        tokio::task::yield_now().await;
    }
    start == *b"PRI"
}
