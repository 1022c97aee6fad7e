//! Carries out what the command line asks for.

mod injection;
mod injector;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;

use tracing::level_filters::LevelFilter;

use crate::app::{self, StartError};
use crate::capture::{self, CaptureError, Rules, privileges};
use crate::check;
use crate::cli::{self, Action, CaptureTask};
use crate::config::{Config, Environment, Flags};
use crate::demo;
use crate::log::{self, Format, Outlet};
use crate::shim;

/// Runs the program and returns its exit code: 0 for success, 2 for wrong
/// usage or configuration, 1 for anything else.
pub fn run<I, T>(args: I, env: Environment<'_>) -> u8
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    match cli::parse(args, env) {
        Err(stop) => stop.report(),
        Ok(Action::Proxy(config)) => proxy(&config),
        Ok(Action::Capture(task)) => steer(&task),
        Ok(Action::Pause) => pause(),
        Ok(Action::Stdio { config, command }) => stdio(&config, &command, env),
        Ok(Action::Demo { once }) => demo(once),
        Ok(Action::Wait { admin, timeout }) => wait(admin, timeout),
        Ok(Action::InstallShim { dir }) => install_shim(&dir),
        Ok(Action::PrintShim { dir, format }) => print_shim(&dir, format, env),
        Ok(Action::Check { config, options }) => check_collector(&config, &options),
        Ok(Action::CheckAgent { admin }) => check_agent(admin),
        Ok(Action::Inject(job)) => injection::inject(&job),
        Ok(Action::Injector(config)) => injector::run(*config),
        Ok(Action::Install(install)) => injection::install(&install),
    }
}

fn proxy(config: &Config) -> u8 {
    let format = match config.log_json {
        true => Format::Json(config.resource.service_name().to_owned()),
        false => Format::Text,
    };
    let outlet = Outlet::default();
    let level = log::start(config.log_level, format, config.export.logs.is_some().then(|| outlet.clone()));
    // Whoever waits for us to be ready starts with them.
    if let Some(dir) = &config.install_shim
        && let Err(error) = shim::install(dir)
    {
        return complain(&error);
    }
    // While there is one thread: what it gives up, all others never have.
    if let Some(rules) = &config.capture
        && let Err(error) = take_over(rules)
    {
        return complain(&error);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error),
    };
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    for line in config.summary() {
        tracing::info!("{line}");
    }
    if config.redirected.is_some() && privileges::user() != config.uid {
        tracing::warn!(
            "running as user {}, while rules of capture spare user {}: unless they are other ones, connections of \
             the sidecar come back to it; start it as the user of --uid",
            privileges::user(),
            config.uid
        );
    }
    // Before anything serves, so that no signal finds the default action.
    let mut signals = match runtime.block_on(async { Signals::install() }) {
        Ok(signals) => signals,
        Err(error) => return complain(&error),
    };
    let sidecar = match app::start_with(config, level, &outlet) {
        Ok(sidecar) => sidecar,
        // What was configured cannot be used, however often it is tried.
        Err(error @ (StartError::Tls(_) | StartError::Loop(_))) => {
            complain(&error);
            return 2;
        }
        Err(error) => return complain(&error),
    };
    // With port 0 this is the only place that says the real ones.
    tracing::info!(
        inbound = ?sidecar.inbound,
        outbound = ?sidecar.outbound,
        redirected = ?sidecar.redirected,
        admin = ?sidecar.admin,
        "ready"
    );
    runtime.block_on(signals.next(|| sidecar.reload()));
    tracing::info!(
        "stopping: draining connections, then sending the last spans; a second signal ends at once"
    );
    let stopped = runtime.block_on(async {
        tokio::select! {
            _ = tokio::task::spawn_blocking(move || sidecar.stop()) => true,
            () = signals.next(|| ()) => false,
        }
    });
    // Its threads end with the process.
    runtime.shutdown_background();
    if !stopped {
        tracing::warn!("told to stop again: ending with connections and spans left");
        return 1;
    }
    0
}

/// Installs the rules and gives up what that took.
fn take_over(rules: &Rules) -> Result<(), CaptureError> {
    capture::install(rules)?;
    tracing::info!(
        "capture rules installed; they stay when this ends, `meshtrace capture remove` takes them away"
    );
    privileges::become_user(rules.uid)
}

fn steer(task: &CaptureTask) -> u8 {
    let result = match task {
        CaptureTask::Install(rules) => capture::install(rules),
        CaptureTask::Remove => capture::remove(),
        CaptureTask::Print(rules) => {
            // A reader that closed the pipe early has seen enough.
            let _ = io::stdout().write_all(capture::text::ruleset(rules).as_bytes());
            Ok(())
        }
    };
    result.map_or_else(|error| complain(&error), |()| 0)
}

/// Waits for the end, as a process that may be the first of its container: it
/// has no children, so nobody is left to be waited for.
fn pause() -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error),
    };
    let waited = runtime.block_on(async {
        let mut signals = Signals::install()?;
        eprintln!("meshtrace: holding the network namespace until a signal comes");
        signals.next(|| ()).await;
        Ok::<_, io::Error>(())
    });
    waited.map_or_else(|error| complain(&error), |()| 0)
}

/// The server's standard error is its own, so we say only what went wrong.
fn stdio(config: &Config, command: &[OsString], env: Environment<'_>) -> u8 {
    let level = config.log_level.min(LevelFilter::WARN);
    let outlet = Outlet::default();
    log::start(level, Format::Text, config.export.logs.is_some().then(|| outlet.clone()));
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    match app::stdio::run(config, command, env, &outlet) {
        Ok(status) => app::stdio::ends_like(status),
        Err(error @ StartError::Tls(_)) => {
            complain(&error);
            2
        }
        Err(error) => complain(&error),
    }
}

fn demo(once: bool) -> u8 {
    log::start(LevelFilter::WARN, Format::Text, None);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error),
    };
    let options = demo::Options { once, ..demo::Options::default() };
    let complete = runtime.block_on(async {
        let mut signals = Signals::install()?;
        let (mut out, mut say) = (io::stdout(), io::stderr());
        let complete =
            demo::run(options, async |plan| demo_sidecar(&plan), &mut out, &mut say, signals.next(|| ()))
                .await?;
        Ok::<_, demo::DemoError>(complete)
    });
    match complete {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(error) => complain(&error),
    }
}

/// A sidecar as `meshtrace proxy` would make it of flags and variables.
fn demo_sidecar(
    plan: &demo::SidecarPlan,
) -> Result<demo::RunningSidecar, Box<dyn std::error::Error + Send + Sync>> {
    let flags = Flags {
        inbound: plan.inbound.iter().map(|(listen, app)| format!("{listen}={app}")).collect(),
        outbound: plan.outbound.iter().map(|(listen, url)| format!("{listen}={url}")).collect(),
        admin: Some("off".to_owned()),
        workers: Some("1".to_owned()),
        ..Flags::default()
    };
    let config = Config::load(&flags, &|name| match name {
        "OTEL_SERVICE_NAME" => Some(plan.service_name.clone()),
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(plan.otlp_endpoint.clone()),
        "OTEL_BSP_SCHEDULE_DELAY" => Some(plan.export_delay.as_millis().to_string()),
        _ => None,
    })?;
    let sidecar = app::start(&config)?;
    Ok(demo::RunningSidecar {
        inbound: sidecar.inbound.clone(),
        outbound: sidecar.outbound.clone(),
        guard: Box::new(Stopped(Some(sidecar))),
    })
}

/// Stops a sidecar in order when it is dropped.
struct Stopped(Option<app::Sidecar>);

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(sidecar) = self.0.take() {
            sidecar.stop();
        }
    }
}

fn wait(admin: std::net::SocketAddr, timeout: std::time::Duration) -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error),
    };
    match runtime.block_on(crate::admin::wait(admin, timeout)) {
        Ok(()) => 0,
        Err(error) => complain(&error),
    }
}

fn install_shim(dir: &Path) -> u8 {
    match shim::install(dir) {
        Ok(written) if written.is_empty() => eprintln!("meshtrace: {} is up to date", dir.display()),
        Ok(written) => {
            for path in written {
                eprintln!("meshtrace: wrote {}", path.display());
            }
        }
        Err(error) => return complain(&error),
    }
    0
}

fn print_shim(dir: &Path, format: shim::Format, env: Environment<'_>) -> u8 {
    match shim::Environment::new(dir) {
        Ok(variables) => {
            // A reader that closed the pipe early has seen enough.
            let _ = io::stdout().write_all(variables.print(format, env).as_bytes());
            0
        }
        Err(error @ shim::Error::Unspeakable(_)) => {
            complain(&error);
            2
        }
        Err(error) => complain(&error),
    }
}

fn check_collector(config: &Config, options: &check::collector::Options) -> u8 {
    // What the exporter has to say of the collector goes to stderr.
    log::start(LevelFilter::WARN, Format::Text, None);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error),
    };
    let mut out = io::stdout();
    let file = config.file.as_ref().map(|file| file.path().display().to_string());
    let mut lines =
        vec![format!("configuration {}: can be used", file.as_deref().unwrap_or("without a file"))];
    lines.extend(config.warnings.iter().map(|warning| format!("warning: {warning}")));
    lines.extend(config.summary());
    // A reader that closed the pipe early has seen enough.
    let _ = writeln!(out, "{}", lines.join("\n"));
    match runtime.block_on(check::collector::send(&config.export, &config.resource, options, &mut out)) {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(error @ check::collector::CheckError::Tls(_)) => {
            complain(&error);
            2
        }
        Err(error) => complain(&error),
    }
}

fn check_agent(admin: std::net::SocketAddr) -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error),
    };
    match runtime.block_on(check::agent::report(admin)) {
        Ok(report) => {
            // A reader that closed the pipe early has seen enough.
            let _ = io::stdout().write_all(check::agent::describe(&report).as_bytes());
            0
        }
        Err(error) => complain(&error),
    }
}

fn complain(error: &dyn std::error::Error) -> u8 {
    eprintln!("meshtrace: {error}");
    1
}

/// The signals that ask a process to end, and the one that asks for a reload.
struct Signals {
    hangup: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn install() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self, on_hangup: impl Fn()) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => on_hangup(),
            }
        }
    }
}
