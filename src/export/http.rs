//! OTLP over HTTP: how a request looks and what an answer means (OTLP specification, "OTLP/HTTP").

use std::time::{Duration, SystemTime};

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use serde_json::Value;

use crate::export::config::{OtlpConfig, Protocol};
use crate::export::connect::{Answer, Frames};
use crate::export::env::shown;
use crate::export::retry;
use crate::export::verdict::{Encoding, RpcStatus, Verdict};

/// Who we are, in the form of the OTLP specification ("User Agent").
pub(super) const USER_AGENT_VALUE: &str =
    concat!("meshtrace/", env!("CARGO_PKG_VERSION"), " OTel-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION"));

/// A request with everything but its body.
pub(super) fn request(config: &OtlpConfig, encoding: Encoding, body: Frames) -> Request<Frames> {
    let content_type = match config.protocol {
        Protocol::HttpJson => "application/json",
        Protocol::HttpProtobuf | Protocol::Grpc => "application/x-protobuf",
    };
    let mut request = Request::new(body);
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = config.endpoint.path.clone().into();
    let headers = request.headers_mut();
    if let Ok(host) = HeaderValue::try_from(config.endpoint.authority()) {
        headers.insert(HOST, host);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(ACCEPT, HeaderValue::from_static(content_type));
    if encoding == Encoding::Gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    add_own_headers(config, headers);
    request
}

/// The headers of every protocol: who we are, the credentials of the URL, and what the user asks for, which wins.
pub(super) fn add_own_headers(config: &OtlpConfig, headers: &mut HeaderMap) {
    headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE));
    if let Some(authorization) = &config.endpoint.authorization {
        headers.insert(AUTHORIZATION, authorization.clone());
    }
    for (name, value) in &config.headers {
        headers.insert(name, value.clone());
    }
}

/// What an answer means. Whatever it holds beyond the status line is read with tolerance: a body that makes no sense
/// cannot turn an accepted request into a failed one.
pub(super) fn verdict(answer: &Answer, encoding: Encoding, now: SystemTime) -> Verdict {
    let status = answer.status;
    if status.is_success() {
        return accepted(answer);
    }
    let why = match RpcStatus::decode(answer.body.as_ref()) {
        Ok(error) if !error.message.is_empty() => {
            format!("HTTP {}: {}", status.as_u16(), shown(&error.message))
        }
        _ => format!("HTTP {}", status.as_u16()),
    };
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Verdict::Retry { after: asked_wait(&answer.headers, now), why },
        StatusCode::BAD_REQUEST | StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            Verdict::Refused { why, plain_may_help: encoding == Encoding::Gzip }
        }
        _ => Verdict::Refused { why, plain_may_help: false },
    }
}

fn asked_wait(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    retry::retry_after(value, now.as_secs())
}

fn accepted(answer: &Answer) -> Verdict {
    let content_type = answer.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    if content_type.starts_with(b"application/json") {
        return json_partial_success(&answer.body).unwrap_or(Verdict::ACCEPTED);
    }
    match ExportTraceServiceResponse::decode(answer.body.as_ref()) {
        Ok(response) => Verdict::from_response(response),
        Err(_) => Verdict::ACCEPTED,
    }
}

/// In JSON a 64-bit number is a string by the rules of protobuf, and a number in the answers of some receivers.
fn json_partial_success(body: &[u8]) -> Option<Verdict> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let partial = answer.get("partialSuccess")?;
    let rejected = ["rejectedSpans", "rejectedDataPoints", "rejectedLogRecords"];
    let rejected = match rejected.iter().find_map(|name| partial.get(name)) {
        Some(Value::String(number)) => number.parse().unwrap_or(0),
        Some(number) => number.as_u64().unwrap_or(0),
        None => 0,
    };
    let message = partial.get("errorMessage").and_then(Value::as_str).unwrap_or_default();
    Some(Verdict::Accepted { rejected, message: shown(message) })
}
