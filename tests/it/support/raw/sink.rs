//! A collector that takes everything and keeps the bytes, so that a test can
//! ask whether a word was in some span without decoding it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::find;

/// The collector; its thread ends with it.
pub(crate) struct Sink {
    at: SocketAddr,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Sink {
    /// Listens on a free port.
    pub(crate) fn start() -> Sink {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::downgrade(&seen);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let Some(seen) = keep.upgrade() else { return };
                std::thread::spawn(move || serve(stream, &seen));
            }
        });
        Sink { at, seen }
    }

    /// What to set as the OTLP endpoint.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    /// Whether these bytes were in anything that was exported so far.
    pub(crate) fn saw(&self, bytes: &[u8]) -> bool {
        find(&self.seen.lock().unwrap(), bytes).is_some()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.seen = Arc::default();
        drop(TcpStream::connect(self.at));
    }
}

/// Answers request after request on one connection.
fn serve(mut stream: TcpStream, seen: &Mutex<Vec<u8>>) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
    let mut buffer = Vec::new();
    let mut part = [0; 16 * 1024];
    loop {
        let Some(end) = find(&buffer, b"\r\n\r\n") else {
            match stream.read(&mut part) {
                Ok(length) if length > 0 => buffer.extend_from_slice(&part[..length]),
                _ => return,
            }
            continue;
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        let length: usize = super::field(&head, "content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
        while buffer.len() < end + 4 + length {
            match stream.read(&mut part) {
                Ok(length) if length > 0 => buffer.extend_from_slice(&part[..length]),
                _ => return,
            }
        }
        seen.lock().unwrap().extend(buffer.drain(..end + 4 + length));
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
