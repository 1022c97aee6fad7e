//! The least sidecar that the demonstration can be tested with: it reads whole JSON messages, writes its span's
//! context into `_meta` and sends one span a request by OTLP over a socket. Faults can be asked for.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    net::SocketAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::SpanKind},
};
use prost::Message;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    demo::{RunningSidecar, SidecarPlan},
    store::web::{Server, read_body, response, send},
};

/// What the fake gets wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// It does not write its context, so that every request begins a trace.
    NoContext,
    /// It exports no client spans.
    NoClientSpans,
    /// It reports every status as unset.
    NoStatus,
}

struct Side {
    service: String,
    kind: SpanKind,
    target: SocketAddr,
    collector: SocketAddr,
    fault: Fault,
}

/// Starts one as planned.
pub(super) async fn start(
    plan: SidecarPlan,
    fault: Fault,
) -> Result<RunningSidecar, Box<dyn std::error::Error + Send + Sync>> {
    let address = |url: &str| url.trim_start_matches("http://").parse::<SocketAddr>();
    let collector = address(&plan.otlp_endpoint)?;
    let side = |kind, target| Side { service: plan.service_name.clone(), kind, target, collector, fault };
    let mut servers = Vec::new();
    let mut inbound = Vec::new();
    for (listen, app) in &plan.inbound {
        servers.push(serve(*listen, side(SpanKind::Server, *app)).await?);
        inbound.extend(servers.last().map(Server::address));
    }
    let mut outbound = Vec::new();
    for (listen, url) in &plan.outbound {
        servers.push(serve(*listen, side(SpanKind::Client, address(url)?)).await?);
        outbound.extend(servers.last().map(Server::address));
    }
    Ok(RunningSidecar { inbound, outbound, guard: Box::new(servers) })
}

async fn serve(listen: SocketAddr, side: Side) -> std::io::Result<Server> {
    let side = Arc::new(side);
    let listener = TcpListener::bind(listen).await?;
    Server::start(listener, move |request| handle(Arc::clone(&side), request))
}

async fn handle(side: Arc<Side>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    match forward(&side, request).await {
        Ok(answer) => answer,
        Err(error) => response(StatusCode::BAD_GATEWAY, "text/plain", error.to_string()),
    }
}

async fn forward(
    side: &Side,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let (mut head, body) = request.into_parts();
    let mut message: Value = serde_json::from_slice(&read_body(body, 1 << 20).await?)?;
    let mut span = begin(side, &head.headers, &message);
    if side.fault != Fault::NoContext {
        let context = format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id));
        message["params"]["_meta"]["traceparent"] = json!(context);
    }
    head.headers.remove(header::CONTENT_LENGTH);
    let forwarded = Request::from_parts(head, Full::from(message.to_string()));
    let answer = send(side.target, forwarded).await?;
    let result: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    if result["result"]["isError"] == true && side.fault != Fault::NoStatus {
        span.status = Some(Status { code: 2, ..Status::default() });
    }
    span.end_time_unix_nano = now();
    if side.fault != Fault::NoClientSpans || side.kind != SpanKind::Client {
        export(side, span).await?;
    }
    Ok(answer.map(Full::new))
}

fn begin(side: &Side, headers: &http::HeaderMap, message: &Value) -> Span {
    let header = headers.get("traceparent").and_then(|value| value.to_str().ok());
    let context = message["params"]["_meta"]["traceparent"].as_str().or(header);
    let mut parts = context.unwrap_or("").split('-').skip(1);
    let trace_id = parts.next().and_then(unhex);
    let parent_span_id = parts.next().and_then(unhex).unwrap_or_default();
    let method = message["method"].as_str().unwrap_or("?");
    let target = message["params"]["name"].as_str();
    Span {
        trace_id: trace_id.unwrap_or_else(|| [random(), random()].concat()),
        span_id: random(),
        parent_span_id,
        name: target.map_or(method.to_owned(), |target| format!("{method} {target}")),
        kind: side.kind as i32,
        start_time_unix_nano: now(),
        ..Span::default()
    }
}

async fn export(side: &Side, span: Span) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let name = any_value::Value::StringValue(side.service.clone());
    let service = KeyValue {
        key: "service.name".to_owned(),
        value: Some(AnyValue { value: Some(name) }),
        ..KeyValue::default()
    };
    let resource = Resource { attributes: vec![service], ..Resource::default() };
    let body = request(resource, span).encode_to_vec();
    let export = Request::post("/v1/traces").header("content-type", "application/x-protobuf");
    send(side.collector, export.body(Full::from(body))?).await?;
    Ok(())
}

/// An export request of one span.
pub(super) fn request(resource: Resource, span: Span) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    let resource_spans =
        vec![ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }
}

/// Eight bytes that are never all zero.
fn random() -> Vec<u8> {
    let number = RandomState::new().build_hasher().finish() | 1;
    number.to_be_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = (0..text.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}
