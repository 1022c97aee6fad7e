//! Byte-exact peers on loopback sockets: a sidecar between a client and an
//! upstream that both follow a script, one step after the other.
//!
//! Nothing here sleeps to let something happen: every wait ends when the
//! bytes are there, and gives up after [`PATIENCE`].

pub(crate) mod frames;
pub(crate) mod h2;
pub(crate) mod sink;
pub(crate) mod strict;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use meshtrace::app::{self, Sidecar};
use meshtrace::config::{Config, Flags};

use self::sink::Sink;

/// How long a peer waits before it calls the test failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Where the sidecar stands, and how it finds the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// In front of an application.
    Inbound,
    /// Behind a client that was given the sidecar as its base URL.
    Base,
    /// Behind a client, routed by `Host` or absolute-form target.
    Forward,
}

/// All of them.
pub(crate) const ALL: [Direction; 3] = [Direction::Inbound, Direction::Base, Direction::Forward];

/// The ones that know a single upstream.
pub(crate) const FIXED: [Direction; 2] = [Direction::Inbound, Direction::Base];

/// A sidecar, the upstream behind it and a collector that takes everything.
pub(crate) struct Mesh {
    sidecar: Option<Sidecar>,
    at: SocketAddr,
    upstream: TcpListener,
    sink: Option<Sink>,
}

impl Mesh {
    /// A sidecar with the default settings in front of a listening upstream.
    pub(crate) fn start(direction: Direction) -> Mesh {
        Mesh::with(direction, "")
    }

    /// The same with the text of a configuration file.
    pub(crate) fn with(direction: Direction, file: &str) -> Mesh {
        let upstream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let target = upstream.local_addr().unwrap().to_string();
        Mesh::towards(direction, upstream, &target, file)
    }

    /// The same with another target than the listening upstream.
    pub(crate) fn towards(direction: Direction, upstream: TcpListener, target: &str, file: &str) -> Mesh {
        upstream.set_nonblocking(true).unwrap();
        let sink = Sink::start();
        let mut flags = Flags { admin: Some("off".into()), workers: Some("1".into()), ..Flags::default() };
        match direction {
            Direction::Inbound => flags.inbound.push(format!("127.0.0.1:0={target}")),
            Direction::Base => flags.outbound.push(format!("127.0.0.1:0=http://{target}")),
            Direction::Forward => flags.outbound.push("127.0.0.1:0".into()),
        }
        let path = (!file.is_empty()).then(|| write_config(file, upstream.local_addr().unwrap().port()));
        flags.config.clone_from(&path);
        let collector = sink.url();
        let config = Config::load(&flags, &|name| match name {
            "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(collector.clone()),
            "OTEL_SERVICE_NAME" => Some("tested".into()),
            _ => None,
        })
        .unwrap();
        let sidecar = app::start(&config).unwrap();
        path.map(std::fs::remove_file);
        let at = *sidecar.inbound.iter().chain(&sidecar.outbound).next().unwrap();
        Mesh { sidecar: Some(sidecar), at, upstream, sink: Some(sink) }
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.at
    }

    /// The address of the upstream, which is what clients put into `Host`.
    pub(crate) fn host(&self) -> String {
        self.upstream.local_addr().unwrap().to_string()
    }

    /// A new client.
    pub(crate) fn connect(&self) -> Raw {
        Raw::new(TcpStream::connect(self.at).unwrap())
    }

    /// The next connection that the sidecar opens to the upstream.
    pub(crate) fn accept(&self) -> Raw {
        wait("the upstream connection", || self.try_accept())
    }

    /// A connection that the sidecar has opened and nobody accepted yet.
    pub(crate) fn try_accept(&self) -> Option<Raw> {
        match self.upstream.accept() {
            Ok((stream, _)) => Some(Raw::new(stream)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("accept: {error}"),
        }
    }

    /// A client and an upstream that have exchanged one small message, so
    /// that both connections stand.
    pub(crate) fn pair(&self) -> (Raw, Raw) {
        let mut client = self.connect();
        client.send(format!("GET /first HTTP/1.1\r\nHost: {}\r\n\r\n", self.host()));
        let mut server = self.accept();
        server.head();
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        client.expect("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        (client, server)
    }

    /// The upstream's listener for servers that accept by themselves.
    pub(crate) fn listener(&self) -> TcpListener {
        self.upstream.try_clone().unwrap()
    }

    /// Whether these bytes were in anything that the sidecar exported so far.
    pub(crate) fn exported(&self, bytes: &[u8]) -> bool {
        self.sink.as_ref().unwrap().saw(bytes)
    }

    /// Stops the sidecar and returns when it has stopped.
    pub(crate) fn stop(&mut self) {
        self.sidecar.take().unwrap().stop();
    }

    /// Begins to stop the sidecar on another thread.
    pub(crate) fn stop_beside(&mut self) -> std::thread::JoinHandle<()> {
        let sidecar = self.sidecar.take().unwrap();
        std::thread::spawn(move || sidecar.stop())
    }
}

impl Drop for Mesh {
    /// The collector's port stays taken until nobody exports to it any more,
    /// or the upstream of another test might get it.
    fn drop(&mut self) {
        let (sidecar, sink) = (self.sidecar.take(), self.sink.take());
        std::thread::spawn(move || {
            sidecar.map(Sidecar::stop);
            drop(sink);
        });
    }
}

fn write_config(text: &str, unique: u16) -> PathBuf {
    let name = format!("limits-{}-{unique}.yaml", std::process::id());
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Asks again and again until there is an answer.
pub(crate) fn wait<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

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
