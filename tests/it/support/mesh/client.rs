//! A client with a connection for each request.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::PATIENCE;
use super::wire::{Body, Pieces};

/// A request to be sent.
#[derive(Clone, Debug)]
pub struct Call {
    method: &'static str,
    path: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Bytes,
}

impl Call {
    /// A `POST` of JSON to `/mcp` as MCP clients make it.
    pub fn post(body: impl Into<Bytes>) -> Self {
        let call = Call { body: body.into(), ..Call::method("POST", "/mcp") };
        call.header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
    }

    /// A request without a body.
    pub fn get(path: &str) -> Self {
        Call::method("GET", path)
    }

    /// Any method without a body.
    pub fn method(method: &'static str, path: &str) -> Self {
        Call { method, path: path.to_owned(), headers: Vec::new(), body: Bytes::new() }
    }

    /// Adds a field, also where there is one of this name.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// With another body.
    pub fn with_body(self, body: impl Into<Bytes>) -> Self {
        Call { body: body.into(), ..self }
    }

    /// To another path, or to an absolute target.
    pub fn at(mut self, path: &str) -> Self {
        self.path = path.to_owned();
        self
    }

    /// Sends it and reads the whole answer.
    pub async fn send(self, to: SocketAddr) -> Reply {
        self.open(to).await.read().await
    }

    /// Sends it and returns when the head of the answer is there.
    pub async fn open(self, to: SocketAddr) -> Open {
        let body = Body::from(self.body.clone());
        self.exchange(to, body).await.unwrap_or_else(|error| panic!("no answer from {to}: {error}"))
    }

    /// The same where the connection may break before there is a head.
    pub async fn try_open(self, to: SocketAddr) -> Result<Open, hyper::Error> {
        let body = Body::from(self.body.clone());
        self.exchange(to, body).await
    }

    /// Sends the head, and the body as the test gives it.
    pub fn in_pieces(self, to: SocketAddr) -> (Pieces, impl Future<Output = Open>) {
        let (pieces, body) = Body::pieces();
        (pieces, async move { self.exchange(to, body).await.unwrap() })
    }

    /// Sends several over one connection, each when the one before it is answered.
    pub async fn send_in_turn(calls: Vec<Call>, to: SocketAddr) -> Vec<Reply> {
        let (mut sender, from, _connection) = connect(to).await;
        let mut replies = Vec::new();
        for call in calls {
            let body = Body::from(call.body.clone());
            let sent = sender.send_request(call.request(to, body));
            let response = timeout(PATIENCE, sent).await.expect("an answer in time").unwrap();
            replies.push(read(response, from).await.expect("a whole body"));
        }
        replies
    }

    /// Sends it over HTTP/2 with prior knowledge; `host` becomes `:authority`.
    pub async fn send_http2(mut self, to: SocketAddr) -> Reply {
        let host = self.headers.iter().find(|(name, _)| name == "host");
        let host = host.map_or(to.to_string(), |(_, host)| String::from_utf8(host.clone()).unwrap());
        self.path = format!("http://{host}{}", self.path);
        let tcp = TcpStream::connect(to).await.unwrap();
        let from = tcp.local_addr().unwrap();
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await.unwrap();
        let _connection = AbortOnDrop(tokio::spawn(async move { drop(connection.await) }));
        let mut request = self.clone().request(to, Body::from(self.body));
        *request.version_mut() = http::Version::HTTP_2;
        request.headers_mut().remove("host");
        let response =
            timeout(PATIENCE, sender.send_request(request)).await.expect("an answer in time").unwrap();
        read(response, from).await.expect("a whole body")
    }

    async fn exchange(self, to: SocketAddr, body: Body) -> Result<Open, hyper::Error> {
        let (mut sender, from, connection) = connect(to).await;
        let sent = sender.send_request(self.request(to, body));
        let response = timeout(PATIENCE, sent).await.expect("an answer in time")?;
        Ok(Open { response, from, _connection: connection })
    }

    fn request(self, to: SocketAddr, body: Body) -> Request<Body> {
        let mut request = Request::builder().method(self.method).uri(&self.path);
        if !self.headers.iter().any(|(name, _)| name == "host") {
            request = request.header("host", to.to_string());
        }
        for (name, value) in &self.headers {
            request = request.header(name, value.as_slice());
        }
        request.body(body).unwrap()
    }
}

async fn connect(to: SocketAddr) -> (http1::SendRequest<Body>, SocketAddr, AbortOnDrop) {
    let tcp = TcpStream::connect(to).await.unwrap();
    let from = tcp.local_addr().unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(tcp)).await.unwrap();
    (sender, from, AbortOnDrop(tokio::spawn(async move { drop(connection.await) })))
}

async fn read(response: Response<Incoming>, from: SocketAddr) -> Result<Reply, hyper::Error> {
    let (head, body) = response.into_parts();
    let body = timeout(PATIENCE, body.collect()).await.expect("a body in time")?.to_bytes();
    Ok(Reply { status: head.status.as_u16(), headers: head.headers, body, from })
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer whose body is still coming. Dropping it closes the connection.
pub struct Open {
    response: Response<Incoming>,
    /// The client's own end of the connection.
    pub from: SocketAddr,
    _connection: AbortOnDrop,
}

impl Open {
    /// The next piece of the body; `None` at its end.
    pub async fn piece(&mut self) -> Option<Bytes> {
        let frame = timeout(PATIENCE, self.response.body_mut().frame()).await.expect("a piece in time");
        frame.map(|frame| frame.expect("a whole body").into_data().unwrap_or_default())
    }

    /// Reads until the text is there.
    pub async fn read_until(&mut self, text: &str) {
        self.read_text(text).await;
    }

    /// Reads until the text is there and gives all that was read.
    pub async fn read_text(&mut self, text: &str) -> String {
        let mut all = BytesMut::new();
        while !String::from_utf8_lossy(&all).contains(text) {
            all.extend_from_slice(&self.piece().await.expect("more"));
        }
        String::from_utf8_lossy(&all).into_owned()
    }

    /// Reads to the end.
    pub async fn read(self) -> Reply {
        self.try_read().await.expect("a whole body")
    }

    /// Reads to the end, or to where the body breaks off.
    pub async fn try_read(self) -> Result<Reply, hyper::Error> {
        read(self.response, self.from).await
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its whole body.
    pub body: Bytes,
    /// The client's own end of the connection.
    pub from: SocketAddr,
}
