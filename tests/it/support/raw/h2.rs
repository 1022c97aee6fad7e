//! HTTP/2 peers with prior knowledge, on the `h2` crate: the client and the
//! server of a [`Mesh`], each stream in the test's own hands.

use std::future::Future;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Mesh, PATIENCE};

/// A client of a sidecar.
pub(crate) struct Client {
    /// Opens streams.
    pub(crate) sender: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// One accepted connection of the upstream.
pub(crate) struct Server {
    streams: mpsc::Receiver<(Request<RecvStream>, SendResponse<Bytes>)>,
    connection: JoinHandle<()>,
}

/// Waits, but not for ever.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

impl Mesh {
    /// A new HTTP/2 client.
    pub(crate) async fn connect_h2(&self) -> Client {
        let tcp = TcpStream::connect(self.address()).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let (sender, connection) = soon("the handshake", h2::client::handshake(tcp)).await.unwrap();
        Client { sender, connection: tokio::spawn(connection) }
    }

    /// The next upstream connection, as an HTTP/2 server.
    pub(crate) async fn accept_h2(&self) -> Server {
        let listener = tokio::net::TcpListener::from_std(self.listener()).unwrap();
        let (tcp, _) = soon("the upstream connection", listener.accept()).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let mut accepting = soon("the handshake", h2::server::handshake(tcp)).await.unwrap();
        let (give, streams) = mpsc::channel(1024);
        let connection = tokio::spawn(async move {
            while let Some(Ok(stream)) = accepting.accept().await {
                if give.try_send(stream).is_err() {
                    accepting.graceful_shutdown();
                }
            }
        });
        Server { streams, connection }
    }

    /// An ordinary request.
    pub(crate) fn request(&self, method: &str, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(format!("http://{}{path}", self.host()))
    }
}

impl Client {
    /// Sends a head, and the end of the message with it if there is no body.
    pub(crate) async fn send(
        &mut self,
        request: http::request::Builder,
        end: bool,
    ) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        let mut sender = soon("room for a stream", self.sender.clone().ready()).await.unwrap();
        sender.send_request(request.body(()).unwrap(), end).unwrap()
    }

    /// Waits for the end of the connection.
    pub(crate) async fn closed(self) -> Result<(), h2::Error> {
        soon("the end of the connection", self.connection).await.unwrap()
    }

    /// Drops the connection at once.
    pub(crate) fn leave(self) {
        self.connection.abort();
    }
}

impl Server {
    /// The next stream.
    pub(crate) async fn stream(&mut self) -> (Request<RecvStream>, SendResponse<Bytes>) {
        soon("a stream", self.streams.recv()).await.expect("the connection ended before")
    }

    /// Waits for the end of the connection.
    pub(crate) async fn closed(mut self) {
        let rest = soon("the end of the connection", self.streams.recv()).await;
        assert!(rest.is_none(), "a stream instead of the end");
    }

    /// Closes the connection at once.
    pub(crate) fn leave(self) {
        self.connection.abort();
    }
}

/// Reads so many bytes of a body.
pub(crate) async fn read(body: &mut RecvStream, length: usize) -> Vec<u8> {
    let mut data = Vec::new();
    while data.len() < length {
        let part = soon("data", body.data()).await.expect("the body ended").unwrap();
        body.flow_control().release_capacity(part.len()).unwrap();
        data.extend_from_slice(&part);
    }
    data
}

/// Reads a body to its end, and its trailers.
pub(crate) async fn read_all(mut body: RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut data = Vec::new();
    while let Some(part) = soon("data", body.data()).await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
        data.extend_from_slice(&part);
    }
    Ok((data, soon("the trailers", body.trailers()).await?))
}

/// Sends a part of a body once there is room for it.
pub(crate) async fn write(stream: &mut SendStream<Bytes>, data: impl Into<Bytes>, end: bool) {
    stream.send_data(data.into(), end).unwrap();
}

/// An answer with this status.
pub(crate) fn status(status: u16) -> http::response::Builder {
    Response::builder().status(status)
}
