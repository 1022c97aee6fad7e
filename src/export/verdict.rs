//! What an attempt to export came to, whatever the protocol.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;

use crate::export::env::shown;

/// How the bytes of a request are compressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
}

/// What the collector's answer means for the batch.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// It is there, apart from the rejected spans. The message may be a warning.
    Accepted { rejected: u64, message: String },
    /// Not now. `after` is the wait that the collector asks for.
    Retry { after: Option<Duration>, why: String },
    /// Never; but perhaps uncompressed.
    Refused { why: String, plain_may_help: bool },
}

impl Verdict {
    pub(super) const ACCEPTED: Self = Self::Accepted { rejected: 0, message: String::new() };

    /// The answers of all signals have the same fields under the same numbers.
    pub(super) fn from_response(response: ExportTraceServiceResponse) -> Self {
        let partial = response.partial_success.unwrap_or_default();
        Self::Accepted {
            rejected: u64::try_from(partial.rejected_spans).unwrap_or(0),
            message: shown(&partial.error_message),
        }
    }
}

/// `google.rpc.Status`, the body of errors over HTTP and of gRPC's `grpc-status-details-bin`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RpcStatus {
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<ProtoDuration>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct ProtoDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl RpcStatus {
    /// The wait of the `RetryInfo` among the details, if there is one. Without a delay, or with a negative one, it is zero.
    pub(super) fn retry_delay(&self) -> Option<Duration> {
        let info = self.details.iter().find(|detail| detail.type_url.ends_with("google.rpc.RetryInfo"))?;
        let delay = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay.unwrap_or_default();
        let seconds = u64::try_from(delay.seconds).unwrap_or(0);
        let nanos = u32::try_from(delay.nanos).unwrap_or(0).min(999_999_999);
        Some(Duration::new(seconds, nanos))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The error details of a throttling gRPC server.
    pub(in crate::export) fn throttled(message: &str, seconds: i64, nanos: i32) -> Vec<u8> {
        let info = RetryInfo { retry_delay: Some(ProtoDuration { seconds, nanos }) };
        let detail = Any {
            type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
            value: info.encode_to_vec(),
        };
        RpcStatus { message: message.to_owned(), details: vec![detail] }.encode_to_vec()
    }

    #[test]
    fn the_wait_of_retry_info_is_read_and_nonsense_is_zero() {
        let wait = |seconds, nanos| {
            RpcStatus::decode(throttled("", seconds, nanos).as_slice()).unwrap().retry_delay()
        };
        assert_eq!(wait(2, 500_000_000), Some(Duration::from_millis(2500)));
        assert_eq!(wait(-2, -1), Some(Duration::ZERO));
        assert_eq!(wait(i64::MAX, i32::MAX).map(|wait| wait.as_secs()), Some(i64::MAX.unsigned_abs()));
        assert_eq!(RpcStatus::default().retry_delay(), None);
    }
}
