//! The reference: a plain reverse proxy on hyper's server and hyper-util's pooled client, one
//! thread, no tracing. `hyper-raw --listen ADDR --upstream ADDR`.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::http::uri::{Authority, Scheme};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use meshtrace_load::args::Args;
use tokio::net::{TcpListener, TcpStream};

type Pool = Client<HttpConnector, Incoming>;
type Answer = Response<Either<Incoming, Full<Bytes>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let args = Args::from_env();
    let upstream: Authority = args.need("upstream");
    let listener = TcpListener::bind(args.need::<SocketAddr>("listen")).await?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let pool: Pool = Client::builder(TokioExecutor::new()).build(connector);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, pool.clone(), upstream.clone()))),
            Err(error) => eprintln!("accept: {error}"),
        }
    }
}

async fn serve(stream: TcpStream, pool: Pool, upstream: Authority) {
    // A connection that fails is its client's business: the load generator counts errors.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| forward(&pool, &upstream, request));
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn forward(
    pool: &Pool,
    upstream: &Authority,
    mut request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    *request.uri_mut() = absolute(request.uri(), upstream);
    Ok(match pool.request(request).await {
        Ok(answer) => answer.map(Either::Left),
        Err(error) => bad_gateway(&error),
    })
}

/// The client finds its connection by scheme and authority, so the target gets both.
fn absolute(uri: &Uri, upstream: &Authority) -> Uri {
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(upstream.clone());
    Uri::from_parts(parts).unwrap_or_default()
}

fn bad_gateway(error: &dyn std::error::Error) -> Answer {
    let mut answer = Response::new(Either::Right(Full::from(format!("{error}\n"))));
    *answer.status_mut() = StatusCode::BAD_GATEWAY;
    answer
}
