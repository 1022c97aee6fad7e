//! A small mesh for a test: sidecars made as `meshtrace proxy` would make
//! them, an OTLP receiver that they send to, and the spans that arrived.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod agent;
mod client;
mod mcp;
mod seen;
mod server;
mod wire;

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use meshtrace::app;
use meshtrace::config::{Config, Flags};
use meshtrace::metrics::Metrics;
use meshtrace::store::{Capacity, Limits, Receiver};
use meshtrace::trace::ids::Ids;

pub use agent::{Agent, Copies};
pub use client::{Call, Reply};
pub use mcp::{Era, error, is_error, legacy_call, modern_call, notification, request, result};
pub use seen::{Link, Span, all as all_spans, expected, merge, network, tree};
pub use server::{Answer, Asked, Server, event};

/// The longest that a test waits for something that is sure to come on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One side of a sidecar, by the kind of the spans that it makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// In front of the application.
    Server,
    /// Behind it.
    Client,
}

/// Both sides.
pub const SIDES: [Side; 2] = [Side::Server, Side::Client];

impl Side {
    /// The kind of its spans.
    pub fn kind(self) -> &'static str {
        match self {
            Side::Server => "SERVER",
            Side::Client => "CLIENT",
        }
    }
}

/// A collector and the sidecars that send to it.
pub struct Mesh {
    collector: Receiver,
    running: Mutex<Vec<app::Sidecar>>,
}

impl Mesh {
    /// A collector without sidecars.
    pub async fn start() -> Self {
        Mesh::at(tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// The same on a listener that is there already.
    pub fn at(listener: tokio::net::TcpListener) -> Self {
        let store = Capacity { traces: 50_000, spans: 100_000, bytes: 64 << 20 };
        let limits = Limits { store, ..Limits::default() };
        let collector = Receiver::serve(listener, limits).unwrap();
        Mesh { collector, running: Mutex::default() }
    }

    /// Where the collector is.
    pub fn endpoint(&self) -> String {
        self.collector.endpoint()
    }

    /// A sidecar to be described and started.
    pub fn sidecar(&self) -> Plan<'_> {
        Plan { mesh: self, flags: Flags::default(), env: Vec::new(), yaml: None }
    }

    /// Waits for at least `count` spans while everything goes on running.
    pub async fn wait_for(&self, count: usize) -> Vec<Span> {
        let enough = |store: &meshtrace::store::SpanStore| {
            let spans = seen::all(store);
            (spans.len() >= count).then_some(spans)
        };
        let found = self.collector.store().wait_until(PATIENCE, enough).await;
        found.unwrap_or_else(|| {
            panic!("{count} spans awaited, there are {:#?}", seen::all(self.collector.store()))
        })
    }

    /// Changes the file of the sidecar that was started first, asks for a reload, and waits until it was read.
    pub async fn reload(&self, sidecar: &Running, text: &str) {
        let metrics = self.metrics().reload;
        let count = || metrics.applied.get() + metrics.refused.get();
        let before = count();
        sidecar.file().rewrite(text);
        self.running.lock().unwrap_or_else(PoisonError::into_inner)[0].reload();
        let read = async {
            while count() == before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("read in time");
    }

    /// The counters of the sidecar that was started first.
    pub fn metrics(&self) -> Metrics {
        self.metrics_of(0)
    }

    /// The counters of the sidecar that was started as this one.
    pub fn metrics_of(&self, index: usize) -> Metrics {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)[index].metrics.clone()
    }

    /// All spans that have arrived until now.
    pub fn spans(&self) -> Vec<Span> {
        seen::all(self.collector.store())
    }

    /// Stops every sidecar in order, and gives all the spans there ever were,
    /// sorted by their start. Nothing can come after them.
    pub async fn stop(self) -> Vec<Span> {
        let running = std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        let stop = || running.into_iter().for_each(app::Sidecar::stop);
        tokio::task::spawn_blocking(stop).await.unwrap();
        seen::all(self.collector.store())
    }

    /// Like [`Mesh::stop`], where there has to be exactly one span.
    pub async fn only_span(self) -> Span {
        let mut spans = self.stop().await;
        assert_eq!(spans.len(), 1, "{spans:#?}");
        spans.remove(0)
    }
}

/// A sidecar that is not started yet.
pub struct Plan<'m> {
    mesh: &'m Mesh,
    flags: Flags,
    env: Vec<(String, String)>,
    yaml: Option<String>,
}

impl Plan<'_> {
    /// Listens in front of this application.
    pub fn inbound(mut self, app: SocketAddr) -> Self {
        self.flags.inbound.push(format!("127.0.0.1:0={app}"));
        self
    }

    /// Listens for calls to this server.
    pub fn outbound(mut self, server: SocketAddr) -> Self {
        self.flags.outbound.push(format!("127.0.0.1:0=http://{server}"));
        self
    }

    /// Listens in TLS in front of this application, with these files.
    pub fn inbound_secure(mut self, app: SocketAddr, files: &[&std::path::Path]) -> Self {
        self.flags.inbound.push(format!("https://127.0.0.1:0={app}"));
        let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        self.flags.inbound_tls = Some(files.join(","));
        self
    }

    /// Listens for calls to this base URL.
    pub fn outbound_url(mut self, url: &str) -> Self {
        self.flags.outbound.push(format!("127.0.0.1:0={url}"));
        self
    }

    /// Listens for calls to wherever they say.
    pub fn forward(mut self) -> Self {
        self.flags.outbound.push("127.0.0.1:0".to_owned());
        self
    }

    /// Stands on both sides of one server, so that each side can be tried.
    pub fn around(self, server: SocketAddr) -> Self {
        self.inbound(server).outbound(server)
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With an admin port, and so one for the notices of other sidecars.
    pub fn admin(mut self) -> Self {
        self.flags.admin = Some("127.0.0.1:0".to_owned());
        self
    }

    /// The name of the service.
    pub fn named(self, service: &str) -> Self {
        self.env("OTEL_SERVICE_NAME", service)
    }

    /// The text of the configuration file.
    pub fn yaml(mut self, text: &str) -> Self {
        self.yaml = Some(text.to_owned());
        self
    }

    /// Starts it.
    pub fn start(mut self) -> Running {
        self.flags.admin.get_or_insert_with(|| "off".to_owned());
        self.flags.workers = Some("1".to_owned());
        let file = self.yaml.as_deref().map(Scratch::new);
        self.flags.config = file.as_ref().map(|file| file.0.clone());
        let config = Config::load(&self.flags, &|name| self.variable(name)).unwrap();
        let sidecar = app::start(&config).unwrap();
        let running = Running {
            inbound: sidecar.inbound.clone(),
            outbound: sidecar.outbound.clone(),
            warnings: config.warnings,
            file,
        };
        self.mesh.running.lock().unwrap_or_else(PoisonError::into_inner).push(sidecar);
        running
    }

    fn variable(&self, name: &str) -> Option<String> {
        let set = self.env.iter().rev().find(|(n, _)| n == name);
        set.map(|(_, value)| value.clone()).or_else(|| match name {
            "OTEL_SERVICE_NAME" => Some("agent".to_owned()),
            "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(self.mesh.collector.endpoint()),
            "OTEL_BSP_SCHEDULE_DELAY" => Some("20".to_owned()),
            _ => None,
        })
    }
}

/// A file that goes when it is dropped.
pub struct Scratch(pub std::path::PathBuf);

impl Scratch {
    /// A new file with this text.
    pub fn new(text: &str) -> Self {
        let name = format!("meshtrace-it-{:032x}.yaml", Ids::new().random());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Scratch(path)
    }
}

impl Scratch {
    /// Puts another text in its place, at once, as an exchanged ConfigMap does.
    pub fn rewrite(&self, text: &str) {
        let next = Scratch::new(text);
        std::fs::rename(&next.0, &self.0).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Where a started sidecar is.
pub struct Running {
    inbound: Vec<SocketAddr>,
    outbound: Vec<SocketAddr>,
    /// What the configuration complained of.
    pub warnings: Vec<String>,
    /// The configuration file.
    file: Option<Scratch>,
}

impl Running {
    /// The configuration file.
    pub fn file(&self) -> &Scratch {
        self.file.as_ref().expect("a file")
    }

    /// The first inbound listener.
    pub fn inbound(&self) -> SocketAddr {
        self.inbound[0]
    }

    /// The first outbound listener.
    pub fn outbound(&self) -> SocketAddr {
        self.outbound[0]
    }

    /// The outbound listener of this number.
    pub fn outbound_at(&self, index: usize) -> SocketAddr {
        self.outbound[index]
    }

    /// The first listener of this side.
    pub fn at(&self, side: Side) -> SocketAddr {
        match side {
            Side::Server => self.inbound(),
            Side::Client => self.outbound(),
        }
    }
}
