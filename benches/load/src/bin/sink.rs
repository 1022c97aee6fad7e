//! An OTLP/HTTP receiver that counts spans and keeps none. `sink --listen ADDR`.
//!
//! `POST /v1/traces` takes protobuf; `GET /count` answers with totals since the start as JSON.
//! Only the field numbers on the way to a span are read, so that counting costs next to nothing.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use meshtrace_load::args::Args;
use tokio::net::TcpListener;
use tokio::task::LocalSet;

/// `ExportTraceServiceRequest.resource_spans` (opentelemetry-proto, trace_service.proto).
const RESOURCE_SPANS: u64 = 1;
/// `ResourceSpans.scope_spans` and `ScopeSpans.spans` (opentelemetry-proto, trace.proto).
const SCOPE_SPANS: u64 = 2;
const SPANS: u64 = 2;

#[derive(Debug, Default)]
struct Totals {
    spans: usize,
    requests: usize,
    bytes: usize,
    /// Bodies that are not protobuf, or not plain: counted, so that a run can be called void.
    broken: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let args = Args::from_env();
    let listener = TcpListener::bind(args.need::<SocketAddr>("listen")).await?;
    let totals = Rc::new(RefCell::new(Totals::default()));
    let tasks = LocalSet::new();
    tasks
        .run_until(async {
            loop {
                let (stream, _) = listener.accept().await?;
                let totals = Rc::clone(&totals);
                tokio::task::spawn_local(async move {
                    let service = service_fn(|request| answer(Rc::clone(&totals), request));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        })
        .await
}

async fn answer(
    totals: Rc<RefCell<Totals>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() == Method::GET {
        let Totals { spans, requests, bytes, broken } = *totals.borrow();
        let text =
            format!("{{\"spans\":{spans},\"requests\":{requests},\"bytes\":{bytes},\"broken\":{broken}}}\n");
        return Ok(Response::new(Full::from(text)));
    }
    let spans = match request.into_body().collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            totals.borrow_mut().bytes += body.len();
            count(&body)
        }
        Err(_) => None,
    };
    let mut totals = totals.borrow_mut();
    totals.requests += 1;
    match spans {
        Some(spans) => totals.spans += spans,
        None => totals.broken += 1,
    }
    // An empty `ExportTraceServiceResponse` is zero bytes: everything was accepted.
    let mut response = Response::new(Full::default());
    let protobuf = hyper::header::HeaderValue::from_static("application/x-protobuf");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, protobuf);
    Ok(response)
}

/// The number of spans in an export request; `None` when it is not one.
fn count(request: &[u8]) -> Option<usize> {
    let mut spans = 0;
    for resource in fields(request, RESOURCE_SPANS)? {
        for scope in fields(resource, SCOPE_SPANS)? {
            spans += fields(scope, SPANS)?.len();
        }
    }
    Some(spans)
}

/// The values of every length-delimited field with this number.
fn fields(mut message: &[u8], number: u64) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let skip = match tag & 7 {
            0 => {
                varint(&mut message)?;
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (value, rest) = message.split_at_checked(skip)?;
        if tag == number << 3 | 2 {
            found.push(value);
        }
        message = rest;
    }
    Some(found)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_spans_and_refuses_other_bytes() {
        let scope = [0x12, 1, 0, 0x12, 0, 0x1a, 1, b's'];
        let mut resource = vec![0x12, scope.len() as u8];
        resource.extend(scope);
        let mut request = vec![0x0a, resource.len() as u8];
        request.extend(&resource);
        assert_eq!(count(&request), Some(2));
        assert_eq!(count(&request[..5]), None);
        assert_eq!(count(b"\x1f\x8bgzip"), None);
    }
}
