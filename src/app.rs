//! Wires a sidecar together: sockets first, then the worker threads, then the
//! thread that exports spans and answers on the admin port.

mod bind;
mod pages;
mod signals;
pub mod stdio;
mod stop;
mod threads;
mod tls;

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::registry::Registry as MetricsRegistry;
use tokio::sync::{Notify, watch};

use self::bind::bind;
use self::pages::{config_page, links_page, pending_page};
use self::signals::Signals;
use self::threads::{Control, thread, work};
use self::tls::Tls;

use crate::admin::{Admin, AppProbes, Level, Readiness};
use crate::config::Config;
use crate::export::lines;
use crate::export::{self, Exporter};
use crate::log::Outlet;
use crate::metrics::Metrics;
use crate::net::registry::Registry;
use crate::net::resolve::Resolver;
use crate::net::tls::TlsError;
use crate::proxy::accept::Door;
use crate::proxy::budget::Budget;
use crate::proxy::held::HeldSpans;
use crate::proxy::notices::{Notices, Post};
use crate::proxy::peers::Peers;
use crate::proxy::policy::InForce;
use crate::proxy::worker::{Settings, SpanPool, Tracer, Worker};
use crate::reload::{self, Reload};
use crate::trace::ids::Ids;
use crate::trace::links::Method;
use crate::trace::places::{Background, Stuck};
use crate::trace::server_spans::ServerSpans;
use crate::trace::tally::Tally;

/// Requests in flight that can be remembered as parents, and as many that have ended.
const SERVER_SPANS: usize = 65_536;

/// How long the last lines of the access log may take when nobody reads them.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Why a sidecar could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be bound.
    #[error("cannot listen on {address} ({flag}): {error}{hint}", hint = hint(.error, .flag))]
    Bind {
        /// The flag that named the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The application is the listener itself.
    #[error("--inbound {0} leads to itself: the application has to listen on another port")]
    Loop(SocketAddr),
    /// A TLS file cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The command of a server could not be started.
    #[error("{}: cannot be started: {error}", command.display())]
    Command {
        /// The program.
        command: OsString,
        /// What the system said.
        error: io::Error,
    },
    /// A thread or its event loop could not be made.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

fn hint(error: &io::Error, flag: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("; give {flag} another port, or stop what listens there"),
        io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege".to_owned(),
        _ => String::new(),
    }
}

/// A sidecar that serves. Dropping it stops it without care; see [`Sidecar::stop`].
#[derive(Debug)]
pub struct Sidecar {
    /// Where the inbound listeners are, in the order of the configuration.
    pub inbound: Vec<SocketAddr>,
    /// Where the outbound listeners are, in the order of the configuration.
    pub outbound: Vec<SocketAddr>,
    /// Where redirected connections are taken, first those from outside.
    pub redirected: Vec<SocketAddr>,
    /// Where the admin port is, if anywhere.
    pub admin: Option<SocketAddr>,
    /// The counters of this sidecar.
    pub metrics: Metrics,
    reload: Arc<Notify>,
    phase: watch::Sender<Phase>,
    workers: Vec<JoinHandle<()>>,
    control: Option<JoinHandle<()>>,
    open: Arc<AtomicUsize>,
    stop_after: Vec<SocketAddr>,
    drain_timeout: Duration,
    access_log: Option<lines::Writer>,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Told to stop, and serving on until the application is gone.
    Leaving,
    /// Nobody new gets in, and what is in flight ends by then.
    Draining(Instant),
    Flushing,
}

impl Phase {
    fn accepts(self) -> bool {
        matches!(self, Phase::Serving | Phase::Leaving)
    }
}

/// Binds every listener and starts every thread.
///
/// # Errors
/// The first thing that cannot be had. Nothing is left running then.
pub fn start(config: &Config) -> Result<Sidecar, StartError> {
    start_with(config, Level::fixed(config.log_level), &Outlet::default())
}

/// The same, with a handle on the level of our own diagnostics, which the
/// admin port may change, and the outlet by which they become log records.
///
/// # Errors
/// As [`start`].
pub(crate) fn start_with(config: &Config, level: Level, outlet: &Outlet) -> Result<Sidecar, StartError> {
    let tls = Tls::new(config)?;
    let mut bound = bind(config, &tls)?;
    let mut registry = MetricsRegistry::default();
    let metrics = Metrics::register(&mut registry, &Method::ALL.map(Method::as_str));
    let (exporter, task) = export::build(&config.export, &config.resource, &metrics.export)?;
    let readiness = Readiness::new();
    let (phase, phases) = watch::channel(Phase::Serving);

    let mut sidecar = Sidecar {
        inbound: bound.addresses(|door| matches!(door, Door::Explicit(route) if !route.is_outbound())),
        outbound: bound.addresses(|door| matches!(door, Door::Explicit(route) if route.is_outbound())),
        redirected: bound.addresses(|door| matches!(door, Door::Redirected(_))),
        admin: bound.admin.as_ref().and_then(|listener| listener.local_addr().ok()),
        metrics: metrics.clone(),
        reload: Arc::default(),
        phase,
        workers: Vec::new(),
        control: None,
        open: Arc::default(),
        stop_after: config.stop_after.clone(),
        drain_timeout: config.limits.drain_timeout,
        access_log: None,
    };
    let service = config.resource.service_name().to_owned();
    let settings = Arc::new(settings(config, &sidecar, &exporter));
    let (notices, waiting) = bound.notices(&metrics);
    let tracer = Arc::new(tracer(config, &metrics, notices));
    let post = waiting.map(|(socket, waiting)| Post {
        socket,
        waiting,
        tracer: Arc::clone(&tracer),
        recorder: exporter.worker(),
        metrics: metrics.notices.clone(),
    });
    let registry = Arc::new(registry);
    let (signals, access_log, writer) = Signals::new(config, &metrics, &registry, outlet, io::stdout())?;
    sidecar.access_log = writer;
    let effective = Arc::new(Mutex::new(config.clone()));
    let admin = Admin {
        readiness: readiness.clone(),
        level,
        operations: metrics.operations.clone(),
        agent: config.resource.service_name().to_owned(),
        registry,
        probes: AppProbes::new(
            config.app_probes.clone(),
            Resolver::default(),
            metrics.app_probes_refused.clone(),
        ),
        closed: metrics.admin_closed.clone(),
        pages: Arc::new([
            links_page(config, &tracer, &metrics),
            config_page(&effective),
            pending_page(&tracer),
        ]),
    };
    let resolver = Resolver::default();
    let (started, starts) = sync_channel(config.workers + 1);
    let held = Budget::new(config.limits.held_bytes);
    for index in 0..config.workers {
        let worker = Worker {
            settings: Arc::clone(&settings),
            tracer: Arc::clone(&tracer),
            recorder: exporter.worker(),
            resolver: resolver.clone(),
            connector: tls.connector.clone(),
            registry: Arc::new(Registry::new(Arc::clone(&sidecar.open), config.limits.max_connections)),
            held: Arc::clone(&held),
            metrics: metrics.clone(),
            access_log: access_log.clone(),
            operations: metrics.operations.lane(),
            spans: SpanPool::default(),
        };
        let listeners = bound.of_worker(index)?;
        let run = work(Arc::new(worker), listeners, started.clone(), phases.clone(), index == 0);
        sidecar.workers.push(thread(format!("worker-{index}"), run)?);
    }
    let reload = Reload {
        file: config.file.clone(),
        service,
        effective,
        tracer,
        metrics: metrics.reload.clone(),
        asked: Arc::clone(&sidecar.reload),
    };
    let control = Control {
        listener: bound.admin,
        admin,
        reload,
        post,
        signals,
        exporter,
        task,
        flush_timeout: config.limits.flush_timeout,
    };
    let control = control.run(tls.watch(metrics.proxy.clone()), started, phases);
    sidecar.control = Some(thread("control".to_owned(), control)?);
    // Each thread says once whether it serves; one that died says nothing.
    while let Ok(started) = starts.recv() {
        started.map_err(StartError::Thread)?;
    }
    readiness.set_ready();
    Ok(sidecar)
}

fn tracer(config: &Config, metrics: &Metrics, notices: Notices) -> Tracer {
    let service = config.resource.service_name();
    let (spans, attributes) = (config.spans.clone(), config.attributes.clone());
    Tracer {
        began: Instant::now(),
        policy: InForce::new(reload::policy(spans, attributes, &config.sampling, service)),
        ids: Ids::new(),
        server_spans: ServerSpans::new(SERVER_SPANS),
        background: Background::default(),
        stuck: Stuck::default(),
        tally: Tally::default(),
        peers: Peers::new(config.limits.pending, config.limits.pending_timeout),
        held: HeldSpans::new(metrics.held_evicted.clone(), metrics.held_forgotten.clone()),
        notices,
    }
}

impl Sidecar {
    /// Looks at the configuration file now, as a SIGHUP asks for.
    pub fn reload(&self) {
        self.reload.notify_one();
    }

    /// Serves on until the application is gone, where there is one to wait
    /// for, then stops accepting and lets what is in flight finish, all of it
    /// within the drain timeout; sends the last spans, and returns when all is
    /// done.
    pub fn stop(mut self) {
        let deadline = Instant::now() + self.drain_timeout;
        if !self.stop_after.is_empty() {
            let _ = self.phase.send(Phase::Leaving);
            stop::wait_for(&self.stop_after, &self.open, deadline);
        }
        let _ = self.phase.send(Phase::Draining(deadline));
        for worker in self.workers.drain(..) {
            // A worker that panicked has said so; the others still drain.
            let _ = worker.join();
        }
        let _ = self.phase.send(Phase::Flushing);
        if let Some(control) = self.control.take() {
            let _ = control.join();
        }
        if let Some(writer) = self.access_log.take() {
            writer.close(LAST_LINES);
        }
    }
}

fn settings(config: &Config, sidecar: &Sidecar, exporter: &Exporter) -> Settings {
    let forward = config.outbound.iter().zip(&sidecar.outbound);
    Settings {
        limits: config.limits.clone(),
        propagation: config.propagation.clone(),
        span_limits: config.export.span_limits,
        originate: config.tls.originate.clone(),
        disabled: config.sdk_disabled || !exporter.is_enabled(),
        listening: forward
            .filter(|(o, _)| o.target.is_none())
            .map(|(_, at)| *at)
            .chain(sidecar.redirected.iter().copied())
            .collect(),
    }
}
