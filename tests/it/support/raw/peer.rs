//! One end of a connection as a script sees it: sends these bytes, waits for
//! those, and knows a clean end from a reset.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::PATIENCE;

/// One end of a connection, read and written byte by byte.
pub(crate) struct Raw {
    stream: TcpStream,
    ahead: Vec<u8>,
    /// What is left of the chunk that is being read.
    chunk: usize,
}

/// How a connection ended, and what had come before.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer closed it.
    Clean(Vec<u8>),
    /// The peer broke it off.
    Reset(Vec<u8>),
}

impl Raw {
    /// Takes a connected socket.
    pub(crate) fn new(stream: TcpStream) -> Raw {
        stream.set_nonblocking(false).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Raw { stream, ahead: Vec::new(), chunk: 0 }
    }

    /// Sends all of it.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends all of it or as much as the peer takes.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Breaks the connection off.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Reads a head, its empty line included.
    #[track_caller]
    pub(crate) fn head(&mut self) -> String {
        loop {
            if let Some(end) = find(&self.ahead, b"\r\n\r\n") {
                let head = self.ahead.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            self.more("a head");
        }
    }

    /// Reads a head and takes the trace fields out of it.
    #[track_caller]
    pub(crate) fn plain_head(&mut self) -> String {
        without_trace(&self.head())
    }

    /// Reads so many bytes.
    #[track_caller]
    pub(crate) fn take(&mut self, length: usize) -> Vec<u8> {
        while self.ahead.len() < length {
            self.more("a body");
        }
        self.ahead.drain(..length).collect()
    }

    /// Reads exactly these bytes.
    #[track_caller]
    pub(crate) fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        let wanted = bytes.as_ref();
        let got = self.take(wanted.len());
        assert!(got == wanted, "got {:?}, wanted {:?}", text(&got), text(wanted));
    }

    /// Reads so many bytes of a chunked body, however they are cut.
    #[track_caller]
    pub(crate) fn chunked(&mut self, length: usize) -> Vec<u8> {
        let mut data = Vec::new();
        while data.len() < length {
            if self.chunk == 0 {
                self.chunk = self.chunk_size();
                assert!(self.chunk > 0, "the body ended after {:?}", text(&data));
            }
            let part = self.take(self.chunk.min(length - data.len()));
            self.chunk -= part.len();
            data.extend(part);
            if self.chunk == 0 {
                self.expect("\r\n");
            }
        }
        data
    }

    /// Reads a chunked body to its end: what was left of it, and its trailers.
    #[track_caller]
    pub(crate) fn chunked_end(&mut self) -> (Vec<u8>, String) {
        let mut data = self.chunked(self.chunk);
        loop {
            self.chunk = self.chunk_size();
            if self.chunk == 0 {
                break;
            }
            data.extend(self.chunked(self.chunk));
        }
        let mut trailers = String::new();
        loop {
            let line = self.line();
            if line == "\r\n" {
                return (data, trailers);
            }
            trailers.push_str(&line);
        }
    }

    #[track_caller]
    fn chunk_size(&mut self) -> usize {
        let line = self.line();
        usize::from_str_radix(line.trim_end(), 16).unwrap_or_else(|_| panic!("a chunk size, not {line:?}"))
    }

    #[track_caller]
    fn line(&mut self) -> String {
        loop {
            if let Some(end) = find(&self.ahead, b"\r\n") {
                return String::from_utf8(self.ahead.drain(..end + 2).collect()).unwrap();
            }
            self.more("a line");
        }
    }

    /// Reads until the connection ends.
    #[track_caller]
    pub(crate) fn end(&mut self) -> End {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return End::Clean(std::mem::take(&mut self.ahead)),
                Ok(length) => self.ahead.extend_from_slice(&buffer[..length]),
                Err(error) if is_break(&error) => return End::Reset(std::mem::take(&mut self.ahead)),
                Err(error) => panic!("no end of the connection: {error}; so far {:?}", text(&self.ahead)),
            }
        }
    }

    /// Waits for the clean end of a connection on which nothing more comes.
    #[track_caller]
    pub(crate) fn closes(&mut self) {
        assert_eq!(self.end(), End::Clean(Vec::new()));
    }

    /// Waits for the end, clean or not, of a connection on which nothing more comes.
    #[track_caller]
    pub(crate) fn is_gone(&mut self) {
        let end = self.end();
        assert!(matches!(&end, End::Clean(rest) | End::Reset(rest) if rest.is_empty()), "{end:?}");
    }

    /// Says that nothing has come so far. It proves little alone; a script
    /// that goes on and works shows that nothing was lost or doubled.
    #[track_caller]
    pub(crate) fn is_quiet(&mut self) {
        assert!(self.ahead.is_empty(), "read ahead: {:?}", text(&self.ahead));
        self.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut one = [0];
        match self.stream.peek(&mut one) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            other => panic!("not quiet: {other:?} {one:?}"),
        }
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }

    /// Waits for the next byte, and says whether there is one.
    pub(crate) fn is_open(&self) -> bool {
        !self.ahead.is_empty() || self.stream.peek(&mut [0]).is_ok_and(|length| length > 0)
    }

    /// The socket, for what a script cannot say.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.stream
    }

    #[track_caller]
    fn more(&mut self, what: &str) {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => panic!("closed instead of {what}; so far {:?}", text(&self.ahead)),
            Ok(length) => self.ahead.extend_from_slice(&buffer[..length]),
            Err(error) => panic!("{error} instead of {what}; so far {:?}", text(&self.ahead)),
        }
    }
}

/// Whether an error means that the peer broke off.
pub(crate) fn is_break(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted)
}

/// Takes the lines of the trace fields out of a head.
pub(crate) fn without_trace(head: &str) -> String {
    let ours = ["traceparent:", "tracestate:", "baggage:"];
    head.split_inclusive("\r\n").filter(|line| !ours.iter().any(|name| line.starts_with(name))).collect()
}

/// The value of a field in a head, by its name in lower case.
pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// Where `needle` begins in `bytes`.
pub(crate) fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

/// Bytes as text for a message.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(600)]).into_owned()
}
