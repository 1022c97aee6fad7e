//! What the first bytes of a connection begin: HTTP, TLS or something else.
//! Nothing here waits or reads.

use super::tls;

/// What an HTTP/2 client says first (RFC 9113, 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the downstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// How much is read to begin with: the head of most requests.
pub(super) const FIRST_READ: usize = 2048;

/// What a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// HTTP, to be served.
    Http(Protocol),
    /// A TLS handshake of the client.
    Tls,
    /// Anything else, or nothing at all; to be passed on unread.
    Other,
}

/// The longest TLS handshake that is waited for, to find the server's name.
const MAX_HELLO: usize = 5 + 16 * 1024;

/// What a client that begins like this speaks; `None` while it is open.
pub fn judge(bytes: &[u8], names: bool) -> Option<Carries> {
    match bytes.first()? {
        0x16 => judge_tls(bytes, names),
        _ if bytes.starts_with(PREFACE) => Some(Carries::Http(Protocol::Http2)),
        _ if PREFACE.starts_with(bytes) => None,
        _ => judge_http1(bytes),
    }
}

/// A record with a handshake (RFC 8446, 5.1) that begins with a `ClientHello`.
fn judge_tls(bytes: &[u8], names: bool) -> Option<Carries> {
    let fits = |at: usize, fits: fn(u8) -> bool| bytes.get(at).is_none_or(|byte| fits(*byte));
    if !(fits(1, |b| b == 3) && fits(2, |b| b <= 4) && fits(5, |b| b == 1)) {
        return Some(Carries::Other);
    }
    // A record of length 0 is whole before it says what it holds.
    let begun = bytes.len() > 5;
    (begun && (!names || tls::is_whole(bytes) || bytes.len() >= MAX_HELLO)).then_some(Carries::Tls)
}

/// The longest method that is waited for.
const MAX_METHOD: usize = 32;

/// A request line (RFC 9112, 3). Redis, memcached, SMTP and others begin with
/// words too, so it takes its end to be sure, or so much of it that nothing
/// else is that long.
fn judge_http1(bytes: &[u8]) -> Option<Carries> {
    let method = bytes.iter().position(|b| !is_token(*b)).unwrap_or(bytes.len());
    match bytes.get(method) {
        None if method <= MAX_METHOD => return None,
        Some(b' ') if (1..=MAX_METHOD).contains(&method) => {}
        _ => return Some(Carries::Other),
    }
    let rest = &bytes[method + 1..];
    let Some(end) = rest.iter().position(|b| *b < b' ' || *b == 0x7f) else {
        return (bytes.len() >= FIRST_READ).then(|| match rest.first() {
            Some(b'/' | b'h' | b'*') => Carries::Http(Protocol::Http1),
            _ => Carries::Other,
        });
    };
    let version = |line: &[u8]| {
        let target = line.strip_suffix(b" HTTP/1.1").or_else(|| line.strip_suffix(b" HTTP/1.0"));
        target.is_some_and(|target| !target.is_empty())
    };
    match (&rest[end..], version(&rest[..end])) {
        ([b'\r'], true) => None,
        ([b'\r', b'\n', ..] | [b'\n', ..], true) => Some(Carries::Http(Protocol::Http1)),
        _ => Some(Carries::Other),
    }
}

/// `tchar` of RFC 9110, 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The head of a `SETTINGS` frame on stream 0 (RFC 9113, 6.5), which is no acknowledgement.
pub(super) fn is_settings(bytes: &[u8]) -> bool {
    matches!(bytes, [0, 0, length, 4, 0, 0, 0, 0, 0, ..] if length % 6 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTTP1: Option<Carries> = Some(Carries::Http(Protocol::Http1));
    const HTTP2: Option<Carries> = Some(Carries::Http(Protocol::Http2));
    const OTHER: Option<Carries> = Some(Carries::Other);

    #[test]
    fn requests_are_told_from_other_words() {
        let cases: [(&[u8], Option<Carries>); 24] = [
            (b"GET / HTTP/1.1\r\n", HTTP1),
            (b"GET / HTTP/1.0\n", HTTP1),
            (b"M-SEARCH * HTTP/1.1\r\nHost: a\r\n\r\n", HTTP1),
            (b"CONNECT a:443 HTTP/1.1\r\n", HTTP1),
            (b"POST http://a/ HTTP/1.1\r\n", HTTP1),
            (b"GET / HTTP/1.1\r", None),
            (b"GET / HTTP/1.1", None),
            (b"GET", None),
            (PREFACE, HTTP2),
            (b"PRI * HTTP/2.0\r\n", None),
            (b"GET /\r\n", OTHER),
            (b"GET / HTTP/1.2\r\n", OTHER),
            (b"GET / HTTP/2.0\r\n", OTHER),
            (b"OPTIONS rtsp://a/ RTSP/1.0\r\n", OTHER),
            (b"PING\r\n", OTHER),
            (b"set a 0 0 1\r\nx\r\n", OTHER),
            (b"*1\r\n$4\r\nPING\r\n", OTHER),
            (b"EHLO a\r\n", OTHER),
            (b"SSH-2.0-OpenSSH_9.2 Debian\r\n", OTHER),
            (b"\0\0\0\x08\x04\xd2\x16\x2f", OTHER),
            (b"AMQP\0\0\x09\x01", OTHER),
            (b"\r\nGET / HTTP/1.1\r\n", OTHER),
            (b" / HTTP/1.1\r\n", OTHER),
            (b"GET  HTTP/1.1\r\n", OTHER),
        ];
        for (bytes, expected) in cases {
            assert_eq!(judge(bytes, false), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_is_too_long_to_wait_for_is_decided_as_it_stands() {
        assert_eq!(judge(&[b'A'; MAX_METHOD], false), None);
        assert_eq!(judge(&[b'A'; MAX_METHOD + 1], false), OTHER);
        let line = |target: &str| format!("GET {}", target.repeat(FIRST_READ)).into_bytes();
        assert_eq!(judge(&line("/x")[..FIRST_READ - 1], false), None);
        assert_eq!(judge(&line("/x")[..FIRST_READ], false), HTTP1);
        assert_eq!(judge(&line("x")[..FIRST_READ], false), OTHER);
    }

    #[test]
    fn a_tls_handshake_is_told_by_its_first_bytes() {
        let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
        assert_eq!(judge(&hello, false), Some(Carries::Tls));
        assert_eq!(judge(&hello, true), None, "the rest may hold a name");
        for end in 1..6 {
            assert_eq!(judge(&hello[..end], false), None, "{end} bytes");
        }
        assert_eq!(judge(&[0x16, 3, 1, 2, 0, 2], false), OTHER, "a handshake of a server");
        assert_eq!(judge(&[0x16, 2], false), OTHER);
        let endless = [&[0x16, 3, 1, 0xff, 0xff, 1][..], &[0; MAX_HELLO]].concat();
        assert_eq!(judge(&endless, true), Some(Carries::Tls));
    }

    #[test]
    fn the_greeting_of_an_http2_server_is_told_from_others() {
        assert!(is_settings(&[0, 0, 0, 4, 0, 0, 0, 0, 0]));
        assert!(is_settings(&[0, 0, 12, 4, 0, 0, 0, 0, 0, 0, 3]));
        assert!(!is_settings(&[0, 0, 0, 4, 1, 0, 0, 0, 0]), "an acknowledgement");
        assert!(!is_settings(&[0x4a, 0, 0, 0, 0x0a, b'8', b'.', b'0', 0]), "a MySQL server");
        assert!(!is_settings(b"220 mail ESMTP\r\n"));
        assert!(!is_settings(&[0, 0, 0, 4]));
    }
}
