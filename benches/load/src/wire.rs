//! HTTP/1.1 framing, as little of it as the two ends of the benchmark need.
//!
//! It trusts its peers: both are under test on loopback, and a message that it cannot frame ends
//! the run with an error instead of a wrong figure.

use std::io;
use std::ops::Range;

use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The largest message that is read whole, in bytes.
const MAX_MESSAGE: usize = 1 << 20;

/// One complete message at the front of a [`Reader`]'s buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Bytes of the head, the empty line included.
    pub head: usize,
    /// Where the payload lies; with chunked coding the chunk headers are part of it.
    pub body: Range<usize>,
}

/// Reads messages one after the other from a connection.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
}

impl Reader {
    /// What has been received and not yet consumed.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Forgets `message`; what follows it stays.
    pub fn consume(&mut self, message: &Message) {
        self.buffer.drain(..message.body.end);
    }

    /// Waits for one whole message; `None` when the peer closed before its first byte.
    pub async fn message<S>(&mut self, stream: &mut S) -> io::Result<Option<Message>>
    where
        S: AsyncRead + Unpin,
    {
        let mut framing = None;
        loop {
            if framing.is_none() {
                framing = framing_of(&self.buffer);
            }
            if let Some(message) = framing.as_ref().and_then(|f| complete(&self.buffer, f)) {
                return Ok(Some(message));
            }
            if self.buffer.len() > MAX_MESSAGE {
                return Err(io::Error::other("message too large"));
            }
            if self.fill(stream).await? == 0 {
                let clean = self.buffer.is_empty();
                return if clean { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Waits for one head only and returns its length; `None` when the peer closed first.
    pub async fn head<S>(&mut self, stream: &mut S) -> io::Result<Option<usize>>
    where
        S: AsyncRead + Unpin,
    {
        loop {
            if let Some((head, _)) = framing_of(&self.buffer) {
                return Ok(Some(head));
            }
            if self.fill(stream).await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn fill<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> io::Result<usize> {
        if self.buffer.capacity() - self.buffer.len() < 2048 {
            // Grows to what large messages need, and stays small where thousands lie idle.
            self.buffer.reserve(4096.max(self.buffer.len()));
        }
        stream.read_buf(&mut self.buffer).await
    }
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
}

/// The length of the head and the framing of what follows, once the head is complete.
fn framing_of(buffer: &[u8]) -> Option<(usize, Framing)> {
    let head = memmem::find(buffer, b"\r\n\r\n")? + 4;
    let mut framing = Framing::Length(0);
    for line in buffer[..head].split(|&byte| byte == b'\n').skip(1) {
        match line.first() {
            Some(b'c' | b'C') if named(line, b"content-length:") => {
                framing = Framing::Length(decimal(&line[15..]));
            }
            Some(b't' | b'T') if named(line, b"transfer-encoding:") => framing = Framing::Chunked,
            _ => {}
        }
    }
    Some((head, framing))
}

fn complete(buffer: &[u8], &(head, framing): &(usize, Framing)) -> Option<Message> {
    let end = match framing {
        Framing::Length(length) => head + length,
        Framing::Chunked => head + chunked_end(&buffer[head..])?,
    };
    (buffer.len() >= end).then_some(Message { head, body: head..end })
}

/// The length of a chunked body, trailers not expected, once its last chunk is there.
fn chunked_end(mut rest: &[u8]) -> Option<usize> {
    let all = rest.len();
    loop {
        let line = memmem::find(rest, b"\r\n")?;
        let size = hexadecimal(&rest[..line]);
        rest = rest.get(line + 2 + size + 2..)?;
        if size == 0 {
            return Some(all - rest.len());
        }
    }
}

fn named(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

fn decimal(digits: &[u8]) -> usize {
    let digits = digits.iter().skip_while(|byte| **byte == b' ');
    digits.take_while(|byte| byte.is_ascii_digit()).fold(0, |n, d| n * 10 + usize::from(d - b'0'))
}

fn hexadecimal(digits: &[u8]) -> usize {
    digits.iter().map_while(|byte| char::from(*byte).to_digit(16)).fold(0, |n, digit| n * 16 + digit as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(mut input: &[u8]) -> Option<Message> {
        Reader::default().message(&mut input).await.unwrap()
    }

    #[tokio::test]
    async fn frames_by_length_and_by_chunks() {
        let message = read(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcPOST").await.unwrap();
        assert_eq!(message, Message { head: 38, body: 38..41 });
        let message =
            read(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\nX").await;
        assert_eq!(message.unwrap(), Message { head: 47, body: 47..67 });
        assert_eq!(read(b"").await, None);
    }
}
