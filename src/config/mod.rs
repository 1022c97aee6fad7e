//! Reads flags, environment and file once, at start, into the plain settings
//! of each part. A flag beats a variable, a variable beats the file, the file
//! beats the default.
//!
//! Only this room knows the names of variables and file keys. It is handed the
//! environment as a function, so nothing below `main` asks the process for it.

mod attributes;
pub mod error;
pub mod injection;

mod capture;
pub(crate) mod env;
pub(crate) mod file;
mod file_shape;
pub(crate) mod listeners;
pub(crate) mod probes;
pub mod reload;
mod sampling;
mod summary;
pub(crate) mod tls;
pub(crate) mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tracing::level_filters::LevelFilter;

use self::error::{Error, Origin};
use self::file::Settings;
use self::listeners::Listeners;
use crate::capture::Rules;
use crate::export::config::ExportConfig;
use crate::export::resource::{self, Resource};
use crate::net::probe::TcpProbe;
use crate::proxy::settings::{Attributes, Inbound, Limits, Outbound, Propagation, Redirected, SpanRules};
use crate::trace::ids::Ids;
use crate::trace::sampler_config::SamplingConfig;

pub use self::capture::{CaptureFlags, refuse_host_network};
pub use self::file::MAX_FILE_BYTES;
pub use self::listeners::DEFAULT_ADMIN;
pub use self::reload::FileInForce;
pub use self::tls::Tls;

/// Looks a variable up; `None` where it is not set.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The most worker threads by default, and the most that can be asked for.
const WORKERS: (usize, usize) = (4, 64);

/// The values of the flags of `meshtrace proxy`, as they were typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--inbound LISTEN=APP`, any number of times.
    pub inbound: Vec<String>,
    /// `--outbound LISTEN[=URL]`, any number of times.
    pub outbound: Vec<String>,
    /// `--redirected`.
    pub redirected: bool,
    /// `--capture`.
    pub capture: bool,
    /// `--opaque-ports PORTS`.
    pub opaque_ports: Option<String>,
    /// `--inbound-tls CERTIFICATE,KEY[,CLIENT_CA]`.
    pub inbound_tls: Option<String>,
    /// `--tls-originate HOST[:PORT]`, any number of times.
    pub tls_originate: Vec<String>,
    /// `--tls-ca FILE`.
    pub tls_ca: Option<String>,
    /// `--tls-client CERTIFICATE,KEY`.
    pub tls_client: Option<String>,
    /// `--install-shim DIR`.
    pub install_shim: Option<String>,
    /// `--stop-after PORT|ADDRESS`, any number of times.
    pub stop_after: Vec<String>,
    /// `--drain-timeout TIME`.
    pub drain_timeout: Option<String>,
    /// `--flush-timeout TIME`.
    pub flush_timeout: Option<String>,
    /// `--admin LISTEN` or `--admin off`.
    pub admin: Option<String>,
    /// `--config FILE`.
    pub config: Option<PathBuf>,
    /// `--workers N`.
    pub workers: Option<String>,
    /// What is captured, and where it is redirected to.
    pub rules: CaptureFlags,
    /// `--access-log off` or `--access-log json`.
    pub access_log: Option<String>,
    /// `--log-format text` or `--log-format json`.
    pub log_format: Option<String>,
}

/// Everything that `meshtrace proxy` was told, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Listeners towards the local application; with `outbound`, at least one.
    pub inbound: Vec<Inbound>,
    /// Listeners for what the local application sends.
    pub outbound: Vec<Outbound>,
    /// What is spoken in TLS, and with which files.
    pub tls: Tls,
    /// What the kernel redirects, if it does.
    pub redirected: Option<Redirected>,
    /// The rules to install before serving, where that is asked for.
    pub capture: Option<Rules>,
    /// The user that the rules spare, which is to be ours.
    pub uid: u32,
    /// Where health and metrics are served, if anywhere.
    pub admin: Option<SocketAddr>,
    /// Where to write the shim's files before serving, if anywhere.
    pub install_shim: Option<PathBuf>,
    /// Where the application is that has to go before we do.
    pub stop_after: Vec<SocketAddr>,
    /// The probes of the containers beside us, by `<container>/<probe>`.
    pub app_probes: BTreeMap<String, TcpProbe>,
    /// Worker threads, each with its own sockets and event loop; at least 1.
    pub workers: usize,
    /// The bounds of the data path.
    pub limits: Limits,
    /// How context is read and written.
    pub propagation: Propagation,
    /// Which exchanges get a span.
    pub spans: SpanRules,
    /// Which traces are recorded.
    pub sampling: SamplingConfig,
    /// What spans say beyond the conventions.
    pub attributes: Attributes,
    /// `OTEL_SDK_DISABLED`: no spans at all, while context still passes.
    pub sdk_disabled: bool,
    /// How much we say on stderr.
    pub log_level: LevelFilter,
    /// Whether each line on stderr is a JSON object.
    pub log_json: bool,
    /// Whether stdout gets a JSON line for each request.
    pub access_log: bool,
    /// Where spans are sent.
    pub export: ExportConfig,
    /// Who the spans are from.
    pub resource: Resource,
    /// The configuration file as it was read, to be looked at again; none
    /// without one.
    pub file: Option<FileInForce>,
    /// What was ignored and why, one line each, to be logged at start.
    pub warnings: Vec<String>,
}

impl Config {
    /// Assembles the configuration and reads the file that it names, if any.
    ///
    /// # Errors
    /// The first setting that cannot be used, in one line that says where it
    /// stands and what is allowed. Values of `OTEL_*` variables that are not
    /// understood are not errors: they end up in `warnings`.
    pub fn load(flags: &Flags, env: Environment<'_>) -> Result<Self, Error> {
        env::refuse_unsupported(env)?;
        let listeners = listeners::load(flags, env)?;
        let workers = workers(flags, env)?;
        Config::assemble(listeners, workers, flags, env)
    }

    /// The same for `meshtrace stdio`, which listens nowhere.
    ///
    /// # Errors
    /// As for [`Config::load`], and where the spans would be printed on the
    /// stdout that belongs to the server.
    pub fn for_stdio(file: Option<PathBuf>, env: Environment<'_>) -> Result<Self, Error> {
        env::refuse_unsupported(env)?;
        let exporter = env("OTEL_TRACES_EXPORTER").unwrap_or_default();
        if exporter.trim().eq_ignore_ascii_case("console") {
            let problem =
                "OTEL_TRACES_EXPORTER=console: expected otlp or none, since stdout belongs to the server";
            return Err(Error::new(Origin::Whole, problem));
        }
        let capture = capture::OfProxy { redirected: None, install: None, uid: 0 };
        let listeners = Listeners { inbound: Vec::new(), outbound: Vec::new(), admin: None, capture };
        let flags = Flags { config: file, ..Flags::default() };
        Config::assemble(listeners, 1, &flags, env)
    }

    /// The same for one who only looks at it and serves nothing.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn to_check(file: Option<PathBuf>, env: Environment<'_>) -> Result<Self, Error> {
        env::refuse_unsupported(env)?;
        let capture = capture::OfProxy { redirected: None, install: None, uid: 0 };
        let listeners = Listeners { inbound: Vec::new(), outbound: Vec::new(), admin: None, capture };
        let flags = Flags { config: file, ..Flags::default() };
        Config::assemble(listeners, 1, &flags, env)
    }

    fn assemble(
        listeners: Listeners,
        workers: usize,
        flags: &Flags,
        env: Environment<'_>,
    ) -> Result<Self, Error> {
        let mut warnings = Vec::new();
        let (export, resource) = telemetry(env, &mut warnings)?;
        let file = match file_path(flags, env) {
            Some(path) => Some(FileInForce::open(path, resource.service_name())?),
            None => None,
        };
        let Settings { spans, attributes, sampling, mut propagation, tls, mut limits, opaque_ports } =
            match &file {
                Some(file) => file.settings.clone(),
                None => Settings::for_service(resource.service_name()),
            };
        propagation.formats = env::propagators(env, &mut warnings)?;
        stop_times(flags, env, &mut limits)?;
        let tls = tls::load(flags, env, tls, &listeners)?;
        let Listeners { inbound, outbound, admin, capture } = listeners;
        let mut redirected = capture.redirected;
        if let Some(redirected) = &mut redirected {
            redirected.opaque_ports = capture::opaque_ports(flags, env)?.unwrap_or(opaque_ports);
        }
        Ok(Config {
            inbound,
            outbound,
            tls,
            redirected,
            capture: capture.install,
            uid: capture.uid,
            admin,
            install_shim: tls::given(
                "--install-shim",
                flags.install_shim.as_deref(),
                "MESHTRACE_INSTALL_SHIM",
                env,
            )
            .filter(|(_, dir)| !dir.is_empty())
            .map(|(_, dir)| PathBuf::from(dir)),
            stop_after: listeners::stop_after(flags, env)?,
            app_probes: probes::load(env)?,
            workers,
            limits,
            propagation,
            spans,
            attributes,
            sampling: sampling.under(env::sampler(env, &mut warnings)),
            sdk_disabled: env::sdk_disabled(env),
            log_level: env::log_level(env, &mut warnings),
            log_json: choice(
                ("--log-format", flags.log_format.as_deref()),
                "MESHTRACE_LOG_FORMAT",
                env,
                ["text", "json"],
            )?,
            access_log: choice(
                ("--access-log", flags.access_log.as_deref()),
                "MESHTRACE_ACCESS_LOG",
                env,
                ["off", "json"],
            )?,
            export,
            resource,
            file,
            warnings,
        })
    }
}

/// The rules that the flags and variables of `meshtrace capture` ask for.
///
/// # Errors
/// The first setting that cannot be used.
pub fn capture_rules(
    flags: &CaptureFlags,
    admin: Option<&str>,
    env: Environment<'_>,
) -> Result<Rules, Error> {
    let admin = listeners::admin(admin, env)?;
    capture::rules(flags, admin.map(|admin| admin.port()), env)
}

/// Where to ask a sidecar on this machine that was started with this flag or in
/// this environment: a wildcard address becomes loopback.
///
/// # Errors
/// When it is not an address, or `off`, because then nobody could answer.
pub fn admin_to_ask(flag: Option<&str>, env: Environment<'_>) -> Result<SocketAddr, Error> {
    let Some(admin) = listeners::admin(flag, env)? else {
        let problem = "the admin port is off, so there is nobody to ask: give --admin ADDR";
        return Err(Error::new(Origin::Whole, problem));
    };
    Ok(match admin.ip() {
        // A dual-stack listener answers on IPv4 too, which is there even where
        // IPv6 is switched off.
        ip if ip.is_unspecified() => SocketAddr::from(([127, 0, 0, 1], admin.port())),
        _ => admin,
    })
}

/// A time with its unit from a flag, between zero and a day.
///
/// # Errors
/// When it is not such a time.
pub fn flag_duration(name: &'static str, text: &str) -> Result<std::time::Duration, Error> {
    let day = std::time::Duration::from_secs(86_400);
    value::duration(text.trim(), std::time::Duration::ZERO..=day)
        .map_err(|expected| Error::value(Origin::Flag(name), text, &expected))
}

/// The settings of the export room, which parses its own variables.
fn telemetry(env: Environment<'_>, warnings: &mut Vec<String>) -> Result<(ExportConfig, Resource), Error> {
    let (export, ignored) =
        ExportConfig::from_env(env).map_err(|error| Error::new(Origin::Whole, error.to_string()))?;
    warnings.extend(ignored.iter().map(ToString::to_string));
    let (resource, ignored) = resource::from_env(env, Ids::new().random());
    warnings.extend(ignored.iter().map(ToString::to_string));
    Ok((export, resource))
}

fn file_path(flags: &Flags, env: Environment<'_>) -> Option<PathBuf> {
    let variable = || env("MESHTRACE_CONFIG").filter(|text| !text.trim().is_empty());
    flags.config.clone().or_else(|| variable().map(|text| Path::new(text.trim()).to_owned()))
}

/// How long stopping may take, where a flag or a variable says so: the file is
/// often shared by pods that are given different times.
fn stop_times(flags: &Flags, env: Environment<'_>, limits: &mut Limits) -> Result<(), Error> {
    let hour = std::time::Duration::from_secs(3_600);
    let time = |text: &str| value::duration(text, std::time::Duration::ZERO..=hour);
    let drain = tls::given("--drain-timeout", flags.drain_timeout.as_deref(), "MESHTRACE_DRAIN_TIMEOUT", env);
    let flush = tls::given("--flush-timeout", flags.flush_timeout.as_deref(), "MESHTRACE_FLUSH_TIMEOUT", env);
    for (given, into) in [(drain, &mut limits.drain_timeout), (flush, &mut limits.flush_timeout)] {
        if let Some((origin, text)) = given {
            *into = time(&text).map_err(|expected| Error::value(origin, &text, &expected))?;
        }
    }
    Ok(())
}

/// Whether the second of two words was chosen, by flag or by variable.
fn choice(
    flag: (&'static str, Option<&str>),
    variable: &'static str,
    env: Environment<'_>,
    [first, second]: [&str; 2],
) -> Result<bool, Error> {
    let set = env(variable).filter(|text| !text.trim().is_empty());
    let (origin, text) = match (flag.1, &set) {
        (Some(text), _) => (Origin::Flag(flag.0), text),
        (None, Some(text)) => (Origin::Variable(variable), text.as_str()),
        (None, None) => return Ok(false),
    };
    match text.trim() {
        text if text.eq_ignore_ascii_case(first) => Ok(false),
        text if text.eq_ignore_ascii_case(second) => Ok(true),
        text => Err(Error::value(origin, text, &format!("{first} or {second}").into())),
    }
}

/// The number of worker threads: what was asked for, or the CPUs that
/// affinity and cgroup grant, at most four.
fn workers(flags: &Flags, env: Environment<'_>) -> Result<usize, Error> {
    let (most_by_default, most) = WORKERS;
    let variable = env("MESHTRACE_WORKERS").filter(|text| !text.trim().is_empty());
    let (origin, text) = match (&flags.workers, &variable) {
        (Some(text), _) => (Origin::Flag("--workers"), text),
        (None, Some(text)) => (Origin::Variable("MESHTRACE_WORKERS"), text),
        (None, None) => {
            let granted = std::thread::available_parallelism().map_or(1, usize::from);
            return Ok(granted.min(most_by_default));
        }
    };
    value::count(text.trim(), 1..=most).map_err(|expected| Error::value(origin, text, &expected))
}
