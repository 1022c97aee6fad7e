//! The second reference: as `hyper-raw`, but with one upstream connection for each downstream
//! connection and no pool. `hyper-nopool --listen ADDR --upstream ADDR [--keep-case]`.
//!
//! With `--keep-case` the names of header fields leave as they came, which is what meshtrace
//! promises: the least that a proxy on hyper can cost that promises it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self as client, SendRequest};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use meshtrace_load::args::Args;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

type Answer = Response<Either<Incoming, Full<Bytes>>>;
type Failure = Box<dyn std::error::Error + Send + Sync>;
/// The upstream connection of one downstream connection, once it is open.
type Upstream = Mutex<Option<SendRequest<Incoming>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let args = Args::from_env();
    let upstream: SocketAddr = args.need("upstream");
    let keep_case = args.has("keep-case");
    let listener = TcpListener::bind(args.need::<SocketAddr>("listen")).await?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, upstream, keep_case))),
            Err(error) => eprintln!("accept: {error}"),
        }
    }
}

async fn serve(stream: TcpStream, target: SocketAddr, keep_case: bool) {
    // A connection that fails is its client's business: the load generator counts errors.
    let _ = stream.set_nodelay(true);
    let upstream = Arc::new(Upstream::default());
    let service = service_fn(|request| answer(Arc::clone(&upstream), target, keep_case, request));
    let _ = http1::Builder::new()
        .preserve_header_case(keep_case)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    upstream: Arc<Upstream>,
    target: SocketAddr,
    keep_case: bool,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    Ok(match forward(&upstream, target, keep_case, request).await {
        Ok(answer) => answer.map(Either::Left),
        Err(error) => bad_gateway(&error),
    })
}

async fn forward(
    upstream: &Upstream,
    target: SocketAddr,
    keep_case: bool,
    request: Request<Incoming>,
) -> Result<Response<Incoming>, Failure> {
    // HTTP/1.1 serves one request at a time, so nobody ever waits for this lock.
    let mut slot = upstream.lock().await;
    let sender = match slot.as_mut().filter(|sender| !sender.is_closed()) {
        Some(sender) => sender,
        None => slot.insert(connect(target, keep_case).await?),
    };
    sender.ready().await?;
    Ok(sender.send_request(request).await?)
}

async fn connect(target: SocketAddr, keep_case: bool) -> Result<SendRequest<Incoming>, Failure> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) =
        client::Builder::new().preserve_header_case(keep_case).handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

fn bad_gateway(error: &Failure) -> Answer {
    let mut answer = Response::new(Either::Right(Full::from(format!("{error}\n"))));
    *answer.status_mut() = StatusCode::BAD_GATEWAY;
    answer
}
