//! The entry for fuzzing what a collector answers. Any bytes are a possible answer; none may panic.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::export::connect::Answer;
use crate::export::verdict::Encoding;
use crate::export::{grpc, http as otlp_http};

/// Reads `data` as an answer over HTTP and over gRPC: two bytes of status, lines `name: value` up to an empty one, which
/// stand in the headers and in the trailers, then the body.
pub fn answer(data: &[u8]) {
    let Some((status, rest)) = data.split_first_chunk::<2>() else { return };
    let split = rest.windows(2).position(|pair| pair == b"\n\n");
    let (lines, body) = split.map_or((&rest[..0], rest), |at| (&rest[..at], &rest[at + 2..]));
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.insert(name, value);
        }
    }
    let status = StatusCode::from_u16(u16::from_be_bytes(*status)).unwrap_or(StatusCode::OK);
    let answer = Answer { status, trailers: headers.clone(), headers, body: Bytes::copy_from_slice(body) };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for encoding in [Encoding::Identity, Encoding::Gzip] {
        otlp_http::verdict(&answer, encoding, now);
        grpc::verdict(&answer, encoding);
    }
}

#[cfg(test)]
mod tests {
    use super::answer;
    use crate::export::base64;
    use crate::export::verdict::tests::throttled;

    fn seeds() -> Vec<Vec<u8>> {
        let details = base64::encode(&throttled("busy", 5, 1));
        vec![
            b"\x00\xc8content-type:application/x-protobuf\n\n\x0a\x05\x08\x03\x12\x01x".to_vec(),
            b"\x00\xc8content-type:application/json\n\n{\"partialSuccess\":{\"rejectedSpans\":\"3\",\"errorMessage\":\"x\"}}".to_vec(),
            b"\x01\xf7retry-after:Sun, 06 Nov 1994 08:49:37 GMT\n\n\x12\x04busy".to_vec(),
            b"\x01\xf7retry-after:120\n\n".to_vec(),
            b"\x00\xc8grpc-status:0\n\n\x00\x00\x00\x00\x07\x0a\x05\x08\x03\x12\x01x".to_vec(),
            format!("\0\u{48}grpc-status:8\ngrpc-message:a%20b\ngrpc-status-details-bin:{details}\n\n").into_bytes(),
        ]
    }

    #[test]
    fn no_answer_panics() {
        let mut number = 0x2545_f491_4f6c_dd1d_u64;
        let mut below = |bound: usize| {
            number ^= number << 13;
            number ^= number >> 7;
            number ^= number << 17;
            (number >> 16) as usize % bound.max(1)
        };
        for seed in seeds() {
            answer(&seed);
            for end in 0..seed.len() {
                answer(&seed[..end]);
            }
            for _ in 0..5000 {
                let mut mutant = seed.clone();
                for _ in 0..=below(4) {
                    let at = below(mutant.len());
                    match below(4) {
                        0 => mutant[at] = below(256) as u8,
                        1 => mutant.insert(at, below(256) as u8),
                        2 if mutant.len() > 1 => _ = mutant.remove(at),
                        _ => mutant[at] ^= 1 << below(8),
                    }
                }
                answer(&mutant);
            }
        }
    }
}
