//! The receiver over a real socket, and its decoder against damaged input.

use std::{io::Write, time::Duration};

use flate2::{Compression, write::GzEncoder};
use opentelemetry::TraceId;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};

use super::*;
use crate::store::web::send;

const SOON: Duration = Duration::from_secs(10);

fn request(spans: u8) -> ExportTraceServiceRequest {
    let span = |n: u8| Span {
        trace_id: vec![1; 16],
        span_id: vec![n; 8],
        name: format!("span {n}"),
        ..Span::default()
    };
    let scope_spans =
        vec![ScopeSpans { spans: (0..spans).map(|n| span(n + 1)).collect(), ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

async fn receiver(limits: Limits) -> Receiver {
    Receiver::start(limits).await.unwrap()
}

async fn post(receiver: &Receiver, headers: &[(&str, &str)], body: Vec<u8>) -> Response<Bytes> {
    let mut request = Request::post(PATH).header("content-type", PROTOBUF);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::from(body)).unwrap();
    send(receiver.address(), request).await.unwrap()
}

#[tokio::test]
async fn plain_and_gzip_spans_arrive() {
    let limits = Limits { requests: 10, ..Limits::default() };
    let receiver = receiver(limits).await;
    let message = request(3);
    let plain = message.encode_to_vec();
    let zipped = gzip(&plain);
    for (encoding, body) in [("identity", plain), ("gzip", zipped.clone())] {
        let answer = post(&receiver, &[("content-encoding", encoding)], body).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], PROTOBUF);
        let body = ExportTraceServiceResponse::decode(answer.into_body()).unwrap();
        assert_eq!(body.partial_success, None);
    }
    let id = TraceId::from_bytes([1; 16]);
    let trace = receiver.store().wait_for(id, 6, SOON).await.unwrap();
    assert_eq!(trace.spans.len(), 6);
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|received| received.request == message));
    assert_eq!(requests[1].headers["content-encoding"], "gzip");
    assert_eq!(requests[1].body_bytes, zipped.len());
}

#[tokio::test]
async fn only_the_latest_requests_are_kept() {
    let limits = Limits { requests: 2, ..Limits::default() };
    let receiver = receiver(limits).await;
    for spans in 1..=3 {
        post(&receiver, &[], request(spans).encode_to_vec()).await;
    }
    let kept = receiver.requests();
    assert_eq!(kept.len(), 2);
    assert_eq!(kept[0].request, request(2));
    assert_eq!(kept[1].request, request(3));
}

#[tokio::test]
async fn rejected_spans_are_a_partial_success() {
    let receiver = receiver(Limits::default()).await;
    let mut message = request(2);
    message.resource_spans[0].scope_spans[0].spans[0].span_id.clear();
    let answer = post(&receiver, &[], message.encode_to_vec()).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let body = ExportTraceServiceResponse::decode(answer.into_body()).unwrap();
    assert_eq!(body.partial_success.unwrap().rejected_spans, 1);
    assert_eq!(receiver.store().counts().stored, 1);
}

#[tokio::test]
async fn what_is_not_otlp_is_refused_with_a_reason() {
    let receiver = receiver(Limits::default()).await;
    let good = request(1).encode_to_vec();
    let mut cut = gzip(&good);
    cut.truncate(cut.len() - 4);
    let gzipped = [("content-encoding", "gzip")];
    let brotli = [("content-encoding", "br")];
    let cases = [
        (&[][..], b"{\"resourceSpans\":[]}".to_vec(), 400),
        (&gzipped, good.clone(), 400),
        (&gzipped, cut, 400),
        (&brotli, good.clone(), 415),
    ];
    for (headers, body, status) in cases {
        let answer = post(&receiver, headers, body).await;
        assert_eq!(answer.status(), status);
        let reason = RpcStatus::decode(answer.into_body()).unwrap();
        assert!(!reason.message.is_empty());
    }
    let json = Request::post(PATH).header("content-type", "application/json");
    let paths = [
        (json.body(Full::default()).unwrap(), 415),
        (Request::get(PATH).body(Full::default()).unwrap(), 405),
        (Request::post("/v1/logs").body(Full::default()).unwrap(), 404),
    ];
    for (request, status) in paths {
        let answer = send(receiver.address(), request).await.unwrap();
        assert_eq!(answer.status(), status);
    }
    assert_eq!(receiver.store().counts().stored, 0);
}

#[tokio::test]
async fn too_large_is_413_before_and_after_decompression() {
    let limits = Limits { body_bytes: 1000, ..Limits::default() };
    let receiver = receiver(limits).await;
    let mut message = request(1);
    let name = |message: &mut ExportTraceServiceRequest, length| {
        message.resource_spans[0].scope_spans[0].spans[0].name = "x".repeat(length);
    };
    name(&mut message, 1000);
    let large = message.encode_to_vec();
    let bomb = gzip(&large);
    assert!(bomb.len() < 1000);
    let answer = post(&receiver, &[], large).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let answer = post(&receiver, &[("content-encoding", "gzip")], bomb).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);

    let spare = 1000 - (message.encoded_len() - 1000);
    name(&mut message, spare);
    let exact = message.encode_to_vec();
    assert_eq!(exact.len(), 1000);
    for (encoding, body) in [("identity", exact.clone()), ("gzip", gzip(&exact))] {
        let answer = post(&receiver, &[("content-encoding", encoding)], body).await;
        assert_eq!(answer.status(), StatusCode::OK);
    }
}

#[test]
fn damaged_input_never_panics() {
    let plain = request(5).encode_to_vec();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        // xorshift64: a fixed seed, so that a failure can be seen again.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    for (flag, valid) in [(0, plain.clone()), (1, gzip(&plain))] {
        for _ in 0..20_000 {
            let mut input = vec![flag];
            input.extend_from_slice(&valid);
            for _ in 0..=random(4) {
                let at = 1 + random(input.len() - 1);
                match random(3) {
                    0 => input[at] = random(256) as u8,
                    1 => input.insert(at, random(256) as u8),
                    _ if input.len() > 2 => drop(input.remove(at)),
                    _ => {}
                }
            }
            fuzz(&input);
        }
    }
}
