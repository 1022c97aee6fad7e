//! Wires a sidecar together: sockets first, then the worker threads, then the
//! thread that exports spans and answers on the admin port.

mod signals;
pub mod stdio;
mod stop;
mod tls;

use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry as MetricsRegistry;
use tokio::sync::{Notify, watch};

use self::signals::Signals;
use self::tls::Tls;

use crate::admin::{Admin, AppProbes, Level, Page, Readiness};
use crate::check;
use crate::config::Config;
use crate::export::lines;
use crate::export::{self, Exporter, Task};
use crate::metrics::Metrics;
use crate::net::listen;
use crate::net::registry::Registry;
use crate::net::resolve::Resolver;
use crate::net::tls::TlsError;
use crate::proxy::accept::{self, Door};
use crate::proxy::budget::Budget;
use crate::proxy::held::HeldSpans;
use crate::proxy::notices::{self, Notices, Post};
use crate::proxy::peers::Peers;
use crate::proxy::policy::InForce;
use crate::proxy::redirected::Redirection;
use crate::proxy::route::Route;
use crate::proxy::settings::Redirected;
use crate::proxy::worker::{Settings, SpanPool, Tracer, Worker};
use crate::reload::{self, Reload};
use crate::trace::ids::Ids;
use crate::trace::links::Method;
use crate::trace::places::{Background, Stuck};
use crate::trace::server_spans::ServerSpans;
use crate::trace::tally::{self, Report, Tally};

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
    start_with(config, Level::fixed(config.log_level))
}

/// The same, with a handle on the level of our own diagnostics, which the
/// admin port may change.
///
/// # Errors
/// As [`start`].
pub fn start_with(config: &Config, level: Level) -> Result<Sidecar, StartError> {
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
    let (signals, access_log, writer) = Signals::new(config, &metrics, &registry, io::stdout())?;
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

struct Bound {
    listeners: Vec<(Door, Vec<TcpListener>)>,
    admin: Option<TcpListener>,
    /// Where other sidecars say that a trace is kept: beside the admin port.
    notices: Option<UdpSocket>,
}

fn bind(config: &Config, tls: &Tls) -> Result<Bound, StartError> {
    let count = config.workers;
    let mut listeners = Vec::new();
    for inbound in &config.inbound {
        let sockets = bind_one("--inbound", inbound.listen, count)?;
        let at = sockets.first().and_then(|s| s.local_addr().ok()).unwrap_or(inbound.listen);
        if inbound.app.ip().is_some_and(|ip| {
            at.port() == inbound.app.port && (at.ip() == ip || (at.ip().is_unspecified() && ip.is_loopback()))
        }) {
            return Err(StartError::Loop(at));
        }
        listeners.push((Door::Explicit(Arc::new(Route::inbound(inbound, tls.acceptor.as_ref()))), sockets));
    }
    for outbound in &config.outbound {
        let sockets = bind_one("--outbound", outbound.listen, count)?;
        listeners.push((Door::Explicit(Arc::new(Route::outbound(outbound))), sockets));
    }
    if let Some(redirected) = &config.redirected {
        listeners.extend(bind_redirected(redirected, count)?);
    }
    let admin = match config.admin {
        Some(address) => bind_one("--admin", address, 1)?.pop(),
        None => None,
    };
    let packets = |address| {
        listen::bind_packets(address).map_err(|error| StartError::Bind { flag: "--admin", address, error })
    };
    let notices = config.admin.map(packets).transpose()?;
    Ok(Bound { listeners, admin, notices })
}

/// The listeners for redirected connections; where the machine has no IPv6,
/// those for IPv4 suffice.
fn bind_redirected(ports: &Redirected, count: usize) -> Result<Vec<(Door, Vec<TcpListener>)>, StartError> {
    let door = |outbound| Door::Redirected(Arc::new(Redirection::new(outbound, ports.clone())));
    let [inbound, outbound_v4, outbound_v6] = ports.addresses();
    let (from_outside, from_inside) = (door(false), door(true));
    let mut listeners = vec![
        (from_outside, bind_one("--redirected-inbound", inbound, count)?),
        (from_inside.clone(), bind_one("--redirected-outbound", outbound_v4, count)?),
    ];
    match bind_one("--redirected-outbound", outbound_v6, count) {
        Ok(sockets) => listeners.push((from_inside, sockets)),
        Err(StartError::Bind { error, .. }) if listen::is_absent(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(listeners)
}

fn bind_one(flag: &'static str, address: SocketAddr, count: usize) -> Result<Vec<TcpListener>, StartError> {
    listen::bind_dual(address, count).map_err(|error| StartError::Bind { flag, address, error })
}

impl Bound {
    fn addresses(&self, wanted: impl Fn(&Door) -> bool) -> Vec<SocketAddr> {
        let wanted = self.listeners.iter().filter(|(door, _)| wanted(door));
        wanted.filter_map(|(_, sockets)| sockets.first()?.local_addr().ok()).collect()
    }

    /// The way of notices out, and what it needs in order to lead anywhere.
    fn notices(&mut self, metrics: &Metrics) -> (Notices, Option<(UdpSocket, notices::Waiting)>) {
        let at = self.notices.take().and_then(|socket| Some((socket.local_addr().ok()?.port(), socket)));
        let Some((port, socket)) = at else { return (Notices::none(), None) };
        let (notices, waiting) = Notices::at(port, metrics.notices.clone());
        (notices, Some((socket, waiting)))
    }

    fn of_worker(&self, index: usize) -> Result<Vec<(Door, TcpListener)>, StartError> {
        let sockets = self.listeners.iter().filter_map(|(door, sockets)| Some((door, sockets.get(index)?)));
        let cloned = sockets.map(|(door, socket)| Ok((door.clone(), socket.try_clone()?)));
        cloned.collect::<io::Result<_>>().map_err(StartError::Thread)
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

/// What is in force, without secrets.
fn config_page(effective: &Arc<Mutex<Config>>) -> Page {
    let effective = Arc::clone(effective);
    let render = move || effective.lock().unwrap_or_else(PoisonError::into_inner).effective();
    Page { path: "/config", render: Box::new(render) }
}

/// The most pending requests that are shown.
const SHOWN_PENDING: usize = 100;

/// What is being worked on, and some of the requests that wait for an answer
/// which may come on another connection.
fn pending_page(tracer: &Arc<Tracer>) -> Page {
    let tracer = Arc::clone(tracer);
    let render = move || {
        let some = tracer.peers.some(SHOWN_PENDING).into_iter();
        let mut pending: Vec<(String, Duration)> =
            some.flat_map(|exchange| exchange.lock().describe()).take(SHOWN_PENDING).collect();
        pending.sort_by_key(|(_, age)| std::cmp::Reverse(*age));
        let age = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let pending: Vec<_> = pending
            .into_iter()
            .map(|(name, waited)| serde_json::json!({"span": name, "age_ms": age(waited)}))
            .collect();
        let in_flight = tracer.server_spans.in_flight();
        format!("{:#}\n", serde_json::json!({"in_flight": in_flight, "pending": pending}))
    };
    Page { path: "/debug/pending", render: Box::new(render) }
}

/// How calls found their parents, for `meshtrace check --agent`.
fn links_page(config: &Config, tracer: &Arc<Tracer>, metrics: &Metrics) -> Page {
    let service = config.resource.service_name().to_owned();
    let (tracer, metrics) = (Arc::clone(tracer), metrics.clone());
    let render = move || {
        let (unproved, others) = tracer.tally.destinations();
        let report = Report {
            service: service.clone(),
            in_flight: tracer.server_spans.in_flight(),
            methods: tally::by_method(|method| metrics.proxy.parents(method.index())),
            conflicts: metrics.proxy.parent_conflicts.get(),
            unproved,
            others,
        };
        serde_json::to_string(&report).unwrap_or_default()
    };
    Page { path: check::agent::PATH, render: Box::new(render) }
}

fn thread(
    name: String,
    run: impl Future<Output = ()> + Send + 'static,
) -> Result<JoinHandle<()>, StartError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
    let thread = std::thread::Builder::new().name(name);
    let run = move || {
        runtime.block_on(run);
        // Drops the tasks like any drop, but waits for no name resolution.
        runtime.shutdown_background();
    };
    thread.spawn(run).map_err(StartError::Thread)
}

/// One worker: accepts on its sockets, and looks after its connections.
async fn work(
    worker: Arc<Worker>,
    listeners: Vec<(Door, TcpListener)>,
    started: SyncSender<io::Result<()>>,
    mut phases: watch::Receiver<Phase>,
    looks_after_peers: bool,
) {
    let mut accepting = tokio::task::JoinSet::new();
    let mut serves = Ok(());
    for (door, listener) in listeners {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => drop(accepting.spawn(accept::run(listener, door, Arc::clone(&worker)))),
            Err(error) => serves = Err(error),
        }
    }
    say(started, serves);
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    while phases.borrow().accepts() {
        tokio::select! {
            _ = ticks.tick() => {
                worker.registry.tick();
                if looks_after_peers {
                    worker.look_after_peers(Instant::now());
                }
            }
            changed = phases.changed() => if changed.is_err() { break },
        }
    }
    accepting.shutdown().await;
    worker.registry.drain();
    let deadline = match *phases.borrow() {
        Phase::Draining(deadline) => deadline,
        _ => Instant::now(),
    };
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    while worker.registry.open() > 0 && Instant::now() < deadline {
        looks.tick().await;
        worker.registry.tick();
    }
    let left = worker.registry.open();
    if left > 0 {
        tracing::warn!(connections = left, "closed connections that were still busy");
    }
    worker.forget_peers();
    // Dropping the runtime now drops the connections, whose spans end with them.
}

/// Says whether a thread serves. Dropping the sender says that it is the last word.
fn say(started: SyncSender<io::Result<()>>, serves: io::Result<()>) {
    // Whoever started us has given up on another thread.
    let _ = started.send(serves);
}

/// The thread beside the request path: exports, and answers the operator.
struct Control {
    listener: Option<TcpListener>,
    admin: Admin,
    reload: Reload,
    post: Option<Post>,
    signals: Signals,
    exporter: Exporter,
    task: Option<Task>,
    flush_timeout: Duration,
}

impl Control {
    async fn run(
        self,
        watch: impl Future<Output = ()> + Send + 'static,
        started: SyncSender<io::Result<()>>,
        mut phases: watch::Receiver<Phase>,
    ) {
        let readiness = self.admin.readiness.clone();
        tokio::spawn(watch);
        tokio::spawn(self.reload.run());
        let (stop, stopped) = watch::channel(());
        let mut signals = self.signals.spawn(&stopped, self.flush_timeout);
        let mut told = stopped.clone();
        let until_told = async move { while told.changed().await.is_ok() {} };
        let post = self.post.map(|post| tokio::spawn(post.run(until_told)));
        let export = self.task.map(|task| tokio::spawn(task.run()));
        let listener = self.listener.map(tokio::net::TcpListener::from_std).transpose();
        match listener {
            Ok(listener) => {
                drop(listener.map(|listener| tokio::spawn(self.admin.serve(listener))));
                say(started, Ok(()));
            }
            Err(error) => say(started, Err(error)),
        }
        while *phases.borrow() != Phase::Flushing {
            if *phases.borrow() != Phase::Serving {
                readiness.set_draining();
            }
            if phases.changed().await.is_err() {
                break;
            }
        }
        drop(stop);
        if let Some(post) = post {
            let _ = post.await;
        }
        let lost = self.exporter.shutdown(self.flush_timeout).await;
        if lost > 0 {
            tracing::warn!(spans = lost, "the last spans could not be sent in time");
        }
        if let Some(export) = export {
            let _ = export.await;
        }
        while signals.join_next().await.is_some() {}
    }
}
