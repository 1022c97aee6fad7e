//! What can go wrong with a request, whose fault it is, and the one line that
//! the client is told. Neither a stack nor anything secret is in it.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use crate::net::dial::DialError;

/// A failure that the proxy answers itself.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The request cannot be passed on as exactly one unambiguous message.
    #[error("request refused: {0}")]
    BadRequest(&'static str),
    /// The request has more header fields than the limit allows.
    #[error("request refused: more than {0} header fields")]
    TooManyHeaders(usize),
    /// The request would come back to this very listener.
    #[error("request refused: {0} leads back to this proxy")]
    Loop(String),
    /// No connection to the upstream came about.
    #[error("upstream {0}: {1}")]
    Dial(String, #[source] DialError),
    /// The connection broke before a response head was complete.
    #[error("upstream {0} {1}")]
    Broken(String, Breakage),
    /// The upstream accepted the request and stayed silent.
    #[error("upstream {0}: no response within {1:?}")]
    Silent(String, Duration),
}

/// How an exchange with the upstream broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breakage {
    /// It reset the connection.
    Reset,
    /// It closed the connection without an answer.
    Closed,
    /// What it sent is not HTTP.
    Garbage,
    /// Its response head is over the limit.
    HeadTooLarge,
    /// The downstream broke off while its request body was on its way.
    Request,
    /// Anything else.
    Other,
}

impl std::fmt::Display for Breakage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Breakage::Reset => "reset the connection",
            Breakage::Closed => "closed the connection without a response",
            Breakage::Garbage => "sent something that is not HTTP",
            Breakage::HeadTooLarge => "sent a response head that is too large",
            Breakage::Request => "did not get the whole request",
            Breakage::Other => "failed",
        })
    }
}

impl Breakage {
    /// Reads the kind of failure out of hyper's error.
    pub fn of(error: &hyper::Error) -> Self {
        if error.is_user() {
            return Breakage::Request;
        }
        if error.is_parse_too_large() {
            return Breakage::HeadTooLarge;
        }
        if error.is_parse() {
            return Breakage::Garbage;
        }
        if let Some(error) = io_source(error) {
            return match error.kind() {
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Breakage::Reset,
                // TLS that ends without the word that it does.
                io::ErrorKind::UnexpectedEof => Breakage::Closed,
                _ => Breakage::Other,
            };
        }
        if let Some(error) = source_of::<h2::Error>(error) {
            return if error.is_io() || error.is_go_away() { Breakage::Closed } else { Breakage::Reset };
        }
        if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
            return Breakage::Closed;
        }
        Breakage::Other
    }
}

/// Whether the upstream says that it has not handled the request at all: it
/// refused the stream, or left before it (RFC 9113, 8.7).
pub fn is_unhandled(error: &hyper::Error) -> bool {
    source_of::<h2::Error>(error).is_some_and(|error| {
        error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

fn io_source(error: &hyper::Error) -> Option<&io::Error> {
    source_of::<io::Error>(error)
}

fn source_of<E: std::error::Error + 'static>(error: &hyper::Error) -> Option<&E> {
    let mut source = std::error::Error::source(error);
    // hyper nests two deep at most; the bound only keeps the loop honest.
    for _ in 0..8 {
        let error = source?;
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        source = error.source();
    }
    None
}

impl ProxyError {
    /// The status that the client gets: 503 where nobody could be reached,
    /// 502 where somebody answered wrongly or broke off, 504 for silence.
    pub fn status(&self) -> StatusCode {
        match self {
            ProxyError::BadRequest(_) => StatusCode::BAD_REQUEST,
            ProxyError::TooManyHeaders(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            ProxyError::Loop(_) => StatusCode::LOOP_DETECTED,
            ProxyError::Dial(_, DialError::Timeout(_)) => StatusCode::GATEWAY_TIMEOUT,
            ProxyError::Dial(_, DialError::Tls(_)) => StatusCode::BAD_GATEWAY,
            ProxyError::Dial(..) => StatusCode::SERVICE_UNAVAILABLE,
            ProxyError::Broken(..) => StatusCode::BAD_GATEWAY,
            ProxyError::Silent(..) => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// Whether it shows in the connection itself where no proxy is between:
    /// nobody took it, or it broke off before an answer.
    pub fn ends_connection(&self) -> bool {
        match self {
            ProxyError::Dial(..) | ProxyError::Silent(..) => true,
            ProxyError::Broken(_, breakage) => {
                matches!(breakage, Breakage::Closed | Breakage::Reset | Breakage::Other)
            }
            ProxyError::BadRequest(_) | ProxyError::TooManyHeaders(_) | ProxyError::Loop(_) => false,
        }
    }

    /// The value of `error.type`, from a fixed and small set.
    pub fn error_type(&self) -> &'static str {
        match self {
            ProxyError::BadRequest(_) | ProxyError::TooManyHeaders(_) => "bad_request",
            ProxyError::Loop(_) => "loop",
            ProxyError::Dial(_, DialError::Resolve(_) | DialError::Lookups) => "name_resolution",
            ProxyError::Dial(_, DialError::Connect(error)) => match error.kind() {
                io::ErrorKind::ConnectionRefused => "connection_refused",
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
                _ => "connect",
            },
            ProxyError::Dial(_, DialError::Tls(error)) => error.error_type(),
            ProxyError::Dial(_, DialError::Timeout(_)) | ProxyError::Silent(..) => "timeout",
            ProxyError::Broken(_, Breakage::Reset) => "connection_reset",
            ProxyError::Broken(_, Breakage::Closed) => "connection_closed",
            ProxyError::Broken(_, Breakage::Garbage | Breakage::HeadTooLarge) => "invalid_response",
            ProxyError::Broken(..) => "upstream_error",
        }
    }

    /// The head and the one line that the client gets.
    pub fn response(&self) -> Response<Bytes> {
        let line = format!("meshtrace: {self}\n");
        let mut response = Response::new(Bytes::from(line));
        *response.status_mut() = self.status();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }
}

/// The exchange ends without a response, as it would have without a proxy:
/// the connection (or the HTTP/2 stream) of the client is broken off.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Abort(pub ProxyError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_says_who_and_what_in_one_line() {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let cases = [
            (ProxyError::Dial("app:1".into(), DialError::Connect(refused())), 503, "connection_refused"),
            (ProxyError::Dial("app:1".into(), DialError::Resolve(None)), 503, "name_resolution"),
            (ProxyError::Dial("app:1".into(), DialError::Lookups), 503, "name_resolution"),
            (ProxyError::Dial("app:1".into(), DialError::Timeout(Duration::from_secs(5))), 504, "timeout"),
            (ProxyError::Broken("app:1".into(), Breakage::Reset), 502, "connection_reset"),
            (ProxyError::Broken("app:1".into(), Breakage::Closed), 502, "connection_closed"),
            (ProxyError::Broken("app:1".into(), Breakage::Garbage), 502, "invalid_response"),
            (ProxyError::Silent("app:1".into(), Duration::from_secs(3)), 504, "timeout"),
            (ProxyError::BadRequest("no Host"), 400, "bad_request"),
        ];
        for (error, status, error_type) in cases {
            assert_eq!(error.status().as_u16(), status, "{error}");
            assert_eq!(error.error_type(), error_type);
            let body = error.response().into_body();
            let line = std::str::from_utf8(&body).unwrap();
            assert!(line.starts_with("meshtrace: ") && line.trim_end().lines().count() == 1);
        }
    }
}
