//! OTLP over gRPC: one unary call (gRPC's "PROTOCOL-HTTP2", and OTLP specification, "OTLP/gRPC").
//!
//! A unary call needs little of gRPC: a message behind five bytes in each direction, and a status that stands in the
//! trailers, or in the headers when there is nothing else.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;

use crate::export::base64;
use crate::export::config::OtlpConfig;
use crate::export::connect::{Answer, Frames};
use crate::export::env::{percent_decoded, shown};
use crate::export::http::add_own_headers;
use crate::export::verdict::{Encoding, RpcStatus, Verdict};

/// The status codes of gRPC that matter here.
const OK: u16 = 0;
const CANCELLED: u16 = 1;
const UNKNOWN: u16 = 2;
const DEADLINE_EXCEEDED: u16 = 4;
const PERMISSION_DENIED: u16 = 7;
const RESOURCE_EXHAUSTED: u16 = 8;
const ABORTED: u16 = 10;
const OUT_OF_RANGE: u16 = 11;
const UNIMPLEMENTED: u16 = 12;
const INTERNAL: u16 = 13;
const UNAVAILABLE: u16 = 14;
const DATA_LOSS: u16 = 15;
const UNAUTHENTICATED: u16 = 16;

/// The five bytes in front of a message of `len` bytes.
pub(super) fn message_prefix(len: usize, encoding: Encoding) -> Bytes {
    let mut prefix = [0; 5];
    prefix[0] = u8::from(encoding == Encoding::Gzip);
    prefix[1..].copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    Bytes::copy_from_slice(&prefix)
}

/// A call with everything but its body.
pub(super) fn request(
    config: &OtlpConfig,
    encoding: Encoding,
    timeout: Duration,
    body: Frames,
) -> Request<Frames> {
    let mut request = Request::new(body);
    *request.method_mut() = http::Method::POST;
    let endpoint = &config.endpoint;
    let uri = Uri::builder()
        .scheme(endpoint.scheme())
        .authority(endpoint.authority())
        .path_and_query(config.signal.method())
        .build();
    *request.uri_mut() = uri.unwrap_or_else(|_| Uri::from_static(config.signal.method()));
    let headers = request.headers_mut();
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    if let Ok(timeout) = HeaderValue::try_from(timeout_value(timeout)) {
        headers.insert("grpc-timeout", timeout);
    }
    if encoding == Encoding::Gzip {
        headers.insert("grpc-encoding", HeaderValue::from_static("gzip"));
    }
    add_own_headers(config, headers);
    request
}

/// At most eight digits and a unit; milliseconds reach a day.
fn timeout_value(timeout: Duration) -> String {
    format!("{}m", timeout.as_millis().clamp(1, 99_999_999))
}

/// What an answer means.
pub(super) fn verdict(answer: &Answer, encoding: Encoding) -> Verdict {
    let (code, described) = status(answer);
    if code == OK {
        return message(&answer.body).map_or(Verdict::ACCEPTED, Verdict::from_response);
    }
    let details = details(described);
    let why = match &details.message {
        message if message.is_empty() => format!("gRPC status {code}"),
        message => format!("gRPC status {code}: {}", shown(message)),
    };
    let after = details.retry_delay();
    match code {
        CANCELLED | DEADLINE_EXCEEDED | ABORTED | OUT_OF_RANGE | UNAVAILABLE | DATA_LOSS => {
            Verdict::Retry { after, why }
        }
        // Only the wait tells a receiver that is busy from one whose quota is used up for good.
        RESOURCE_EXHAUSTED if after.is_some() => Verdict::Retry { after, why },
        // A server that does not know the compression says so with this code.
        UNIMPLEMENTED => Verdict::Refused { why, plain_may_help: encoding == Encoding::Gzip },
        _ => Verdict::Refused { why, plain_may_help: false },
    }
}

/// The status of the call and the headers that describe it. Without one, the HTTP status stands in, by gRPC's table
/// ("HTTP to gRPC Status Code Mapping").
fn status(answer: &Answer) -> (u16, &HeaderMap) {
    for headers in [&answer.trailers, &answer.headers] {
        if let Some(value) = headers.get("grpc-status") {
            let code = value.to_str().ok().and_then(|text| text.parse().ok());
            return (code.unwrap_or(UNKNOWN), headers);
        }
    }
    let code = match answer.status {
        StatusCode::BAD_REQUEST => INTERNAL,
        StatusCode::UNAUTHORIZED => UNAUTHENTICATED,
        StatusCode::FORBIDDEN => PERMISSION_DENIED,
        StatusCode::NOT_FOUND => UNIMPLEMENTED,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => UNAVAILABLE,
        _ => UNKNOWN,
    };
    (code, &answer.headers)
}

/// The error's message and details: from the binary field if it can be read, else from the plain one.
fn details(headers: &HeaderMap) -> RpcStatus {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let binary = text("grpc-status-details-bin").and_then(base64::decode);
    let mut details = binary.and_then(|bytes| RpcStatus::decode(bytes.as_slice()).ok()).unwrap_or_default();
    if let Some(message) = text("grpc-message").and_then(percent_decoded) {
        details.message = String::from_utf8_lossy(&message).into_owned();
    }
    details
}

/// The message behind its five bytes, if it is there and readable. An answer in a compression we did not offer is not.
fn message(body: &[u8]) -> Option<ExportTraceServiceResponse> {
    let (prefix, message) = body.split_first_chunk::<5>()?;
    let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if prefix[0] != 0 {
        return None;
    }
    ExportTraceServiceResponse::decode(message.get(..len)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(
        status: u16,
        headers: &[(&'static str, &str)],
        trailers: &[(&'static str, &str)],
        body: &'static [u8],
    ) -> Answer {
        let map = |pairs: &[(&'static str, &str)]| {
            pairs
                .iter()
                .map(|(k, v)| (http::HeaderName::from_static(k), HeaderValue::from_str(v).unwrap()))
                .collect()
        };
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers: map(headers), body: Bytes::from_static(body), trailers: map(trailers) }
    }

    fn of(answer: &Answer) -> Verdict {
        verdict(answer, Encoding::Gzip)
    }

    #[test]
    fn codes_are_sorted_as_otlp_says() {
        for code in 1..=16 {
            let verdict = of(&answer(200, &[], &[("grpc-status", &code.to_string())], b""));
            let retried = matches!(verdict, Verdict::Retry { after: None, .. });
            assert_eq!(retried, [1, 4, 10, 11, 14, 15].contains(&code), "{code}");
            let plain = matches!(verdict, Verdict::Refused { plain_may_help: true, .. });
            assert_eq!(plain, code == 12, "{code}");
        }
        for (http, retried) in [
            (429, true),
            (502, true),
            (503, true),
            (504, true),
            (200, false),
            (404, false),
            (401, false),
            (500, false),
        ] {
            assert_eq!(matches!(of(&answer(http, &[], &[], b"")), Verdict::Retry { .. }), retried, "{http}");
        }
    }

    #[test]
    fn exhaustion_is_worth_a_retry_only_with_a_wait() {
        let bin = base64::encode(&crate::export::verdict::tests::throttled("busy", 2, 0));
        let verdict = of(&answer(200, &[("grpc-status", "8"), ("grpc-status-details-bin", &bin)], &[], b""));
        assert_eq!(
            verdict,
            Verdict::Retry { after: Some(Duration::from_secs(2)), why: "gRPC status 8: busy".to_owned() }
        );
        let verdict = of(&answer(200, &[], &[("grpc-status", "8"), ("grpc-message", "quota%20used")], b""));
        assert_eq!(
            verdict,
            Verdict::Refused { why: "gRPC status 8: quota used".to_owned(), plain_may_help: false }
        );
    }

    #[test]
    fn the_message_of_a_good_answer_is_read_with_tolerance() {
        let ok = |body| of(&answer(200, &[], &[("grpc-status", "0")], body));
        assert_eq!(ok(b""), Verdict::ACCEPTED);
        assert_eq!(ok(&[0, 0, 0, 0, 0]), Verdict::ACCEPTED);
        assert_eq!(ok(&[1, 0, 0, 0, 0]), Verdict::ACCEPTED);
        assert_eq!(ok(&[0, 255, 255, 255, 255, 1]), Verdict::ACCEPTED);
        let partial = ok(&[0, 0, 0, 0, 7, 0x0a, 5, 8, 3, 0x12, 1, b'x']);
        assert_eq!(partial, Verdict::Accepted { rejected: 3, message: "x".to_owned() });
        let negative = ok(&[0, 0, 0, 0, 13, 0x0a, 11, 8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
        assert_eq!(negative, Verdict::ACCEPTED);
    }

    #[test]
    fn timeouts_have_at_most_eight_digits() {
        assert_eq!(timeout_value(Duration::from_secs(10)), "10000m");
        assert_eq!(timeout_value(Duration::ZERO), "1m");
        assert_eq!(timeout_value(Duration::MAX), "99999999m");
    }
}
