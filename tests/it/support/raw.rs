//! Byte-exact peers on loopback sockets: a sidecar between a client and an
//! upstream that both follow a script, one step after the other.
//!
//! Nothing here sleeps to let something happen: every wait ends when the
//! bytes are there, and gives up after [`PATIENCE`].

pub(crate) mod frames;
pub(crate) mod h2;
mod peer;
pub(crate) mod sink;
pub(crate) mod strict;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use meshtrace::app::{self, Sidecar};
use meshtrace::config::{Config, Flags};

pub(crate) use self::peer::{End, Raw, field, find, is_break, text, without_trace};
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

    /// The same, with the head read, which begins like this: a sidecar of another test may
    /// still ask for a peer that had this port before.
    fn accept_from(&self, start: &str) -> Raw {
        for _ in 0..10 {
            let mut server = self.accept();
            let head = server.head();
            if head.starts_with(start) {
                return server;
            }
            eprintln!("not for this test: {head}");
        }
        panic!("nobody asked for {start:?}");
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
        let mut server = self.accept_from("GET /first ");
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
            if let Some(sidecar) = sidecar {
                sidecar.stop();
            }
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
