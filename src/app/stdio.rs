//! Wires `meshtrace stdio` together: the child and its pipes on threads of
//! their own, the exporter on another, and signals passed on.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry as MetricsRegistry;
use signal_hook::consts::signal;
use signal_hook::iterator::Signals;

use tokio::sync::watch;

use super::{LAST_LINES, StartError, signals, tracer};
use crate::config::{Config, Environment};
use crate::export;
use crate::log::Outlet;
use crate::metrics::Metrics;
use crate::net::registry::Registry;
use crate::net::resolve::Resolver;
use crate::proxy::budget::Budget;
use crate::proxy::notices::Notices;
use crate::proxy::worker::{Settings, SpanPool, Worker};
use crate::stdio;
use crate::stdio::talk::Talk;
use crate::trace::context::TraceContext;
use crate::trace::links::Method;
use crate::w3c::traceparent::Traceparent;
use crate::w3c::tracestate::Tracestate;

/// How long the last spans may take to leave once the server has ended. Clients
/// that wait for the end do so for two seconds.
const FLUSH: Duration = Duration::from_millis(1_500);

/// The signals that are passed on to the server.
const PASSED_ON: [i32; 8] = [
    signal::SIGTERM,
    signal::SIGINT,
    signal::SIGHUP,
    signal::SIGQUIT,
    signal::SIGUSR1,
    signal::SIGUSR2,
    signal::SIGWINCH,
    signal::SIGCONT,
];

/// Runs a server behind its pipes until it ends, and sends its spans.
///
/// # Errors
/// When something that the spans need cannot be had, before the server runs,
/// or when the server cannot be started.
pub(crate) fn run(
    config: &Config,
    command: &[OsString],
    env: Environment<'_>,
    outlet: &Outlet,
) -> Result<ExitStatus, StartError> {
    // Before the server runs, so that none finds the default action.
    let signals = Signals::new(PASSED_ON).map_err(StartError::Thread)?;
    let mut registry = MetricsRegistry::default();
    let metrics = Metrics::register(&mut registry, &Method::ALL.map(Method::as_str));
    let (exporter, task) = export::build(&config.export, &config.resource, &metrics.export)?;
    let registry = Arc::new(registry);
    // What the server says has stdout for itself.
    let (sent, access_log, writer) =
        signals::Signals::new(config, &metrics, &registry, outlet, io::stderr())?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
    let (flush, asked) = tokio::sync::oneshot::channel();
    let recorder = exporter.worker();
    let enabled = exporter.is_enabled();
    let exporting = thread::spawn(move || {
        runtime.block_on(async {
            let export = task.map(|task| tokio::spawn(task.run()));
            let (stop, stopped) = watch::channel(());
            let mut sent = sent.spawn(&stopped, FLUSH);
            let _: Result<(), _> = asked.await;
            drop(stop);
            exporter.shutdown(FLUSH).await;
            if let Some(export) = export {
                let _ = export.await;
            }
            while sent.join_next().await.is_some() {}
        });
        runtime.shutdown_background();
    });
    let worker = Arc::new(Worker {
        settings: Arc::new(Settings {
            limits: config.limits.clone(),
            propagation: config.propagation.clone(),
            span_limits: config.export.span_limits,
            disabled: config.sdk_disabled || !enabled,
            ..Settings::default()
        }),
        tracer: Arc::new(tracer(config, &metrics, Notices::none())),
        recorder,
        access_log,
        operations: metrics.operations.lane(),
        registry: Arc::new(Registry::new(Arc::new(AtomicUsize::new(0)), 0)),
        metrics,
        spans: SpanPool::default(),
        resolver: Resolver::default(),
        connector: None,
        held: Budget::new(config.limits.held_bytes),
    });
    let talk = Arc::new(Talk::new(Arc::clone(&worker), environment(env)));
    let looks = Arc::clone(&worker);
    thread::spawn(move || {
        loop {
            thread::sleep(Duration::from_secs(1));
            looks.look_after_peers(Instant::now());
        }
    });
    let status =
        stdio::run(command, &talk, config.limits.max_body_bytes, |id| pass_on(signals, id)).map_err(
            |error| StartError::Command { command: command.first().cloned().unwrap_or_default(), error },
        )?;
    let _ = flush.send(());
    let _ = exporting.join();
    if let Some(writer) = writer {
        writer.close(LAST_LINES);
    }
    Ok(status)
}

/// Ends this process as the server ended: with its code, or by its signal.
pub fn ends_like(status: ExitStatus) -> u8 {
    if let Some(signal) = status.signal() {
        // Returns only where that signal does not end a process.
        let _ = signal_hook::low_level::emulate_default_handler(signal);
        return u8::try_from(128 + signal).unwrap_or(1);
    }
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Passes every signal on to the process of this id. One that a terminal sends
/// reaches the whole group by itself.
fn pass_on(mut signals: Signals, id: u32) {
    let Some(process) = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw) else { return };
    thread::spawn(move || {
        for number in signals.forever() {
            let from_terminal = matches!(number, signal::SIGINT | signal::SIGQUIT | signal::SIGWINCH);
            if from_terminal && io::IsTerminal::is_terminal(&io::stdin()) {
                continue;
            }
            if let Some(signal) = rustix::process::Signal::from_named_raw(number) {
                let _ = rustix::process::kill_process(process, signal);
            }
        }
    });
}

/// The context that the environment carries (OpenTelemetry, environment
/// variables as carriers).
fn environment(env: Environment<'_>) -> Option<TraceContext> {
    let parent = Traceparent::parse(env("TRACEPARENT")?.trim().as_bytes())?;
    let tracestate = env("TRACESTATE").and_then(|state| Tracestate::parse([state.trim().as_bytes()]));
    Some(TraceContext { parent, tracestate })
}
