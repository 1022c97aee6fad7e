//! Tells HTTP/1 and HTTP/2 apart by the first bytes of a connection that is
//! meant for this proxy. [`first`] does so for one that was meant for somebody
//! else and may carry anything.
//!
//! Here, what does not begin with the HTTP/2 preface (RFC 9113, 3.4) is
//! taken for HTTP/1, whose parser then refuses what it cannot read.

pub mod first;
pub mod judge;
pub mod tls;

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use self::judge::{FIRST_READ, PREFACE};

pub use self::judge::{Carries, Protocol};

/// Waits for the first bytes and says what they begin. The bytes returned
/// were consumed and have to be read again before the socket. `on_part` is
/// called when a preface has begun and its end is missing.
pub async fn detect(tcp: &mut TcpStream, on_part: impl FnOnce()) -> io::Result<(Protocol, Bytes)> {
    let first = first_read(tcp).await?;
    if let Some(protocol) = judge(&first) {
        return Ok((protocol, first));
    }
    if first.is_empty() {
        return Ok((Protocol::Http1, first));
    }
    on_part();
    let mut read = BytesMut::from(&first[..]);
    loop {
        let mut rest = [0; PREFACE.len()];
        let wanted = PREFACE.len() - read.len();
        let length = tcp.read(&mut rest[..wanted]).await?;
        read.extend_from_slice(&rest[..length]);
        match judge(&read) {
            Some(protocol) => return Ok((protocol, read.freeze())),
            None if length == 0 => return Ok((Protocol::Http1, read.freeze())),
            None => {}
        }
    }
}

/// What is there once something is. Nothing is allocated for a connection on
/// which nothing comes.
async fn first_read(tcp: &TcpStream) -> io::Result<Bytes> {
    loop {
        tcp.readable().await?;
        let mut buffer = [0; FIRST_READ];
        match tcp.try_read(&mut buffer) {
            Ok(length) => return Ok(Bytes::copy_from_slice(&buffer[..length])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// `None` while the bytes are a true prefix of the preface.
fn judge(bytes: &[u8]) -> Option<Protocol> {
    if bytes.starts_with(PREFACE) {
        Some(Protocol::Http2)
    } else if PREFACE.starts_with(bytes) {
        None
    } else {
        Some(Protocol::Http1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_is_told_from_methods_that_begin_like_it() {
        assert_eq!(judge(PREFACE), Some(Protocol::Http2));
        assert_eq!(judge(b"PRI * HTTP/2.0\r\n"), None);
        assert_eq!(judge(b"P"), None);
        for text in ["POST / HTTP/1.1\r\n", "PUT", "GET / HTTP/1.1", "PRI * HTTP/1.1"] {
            assert_eq!(judge(text.as_bytes()), Some(Protocol::Http1), "{text}");
        }
    }
}
