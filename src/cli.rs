//! The command line: what can be typed, what it means, and the help.
//!
//! Parsing ends in an [`Action`]; carrying it out belongs to `app`. A wrong
//! command line or configuration is exit code 2, success is 0 and anything
//! else is 1.

mod capture;
mod injection;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use self::capture::{CaptureArgs, RuleArgs};
pub use self::injection::{InjectJob, Input};
use crate::check::collector::Options;
use crate::config::{self, Config, Environment, Flags};
use crate::shim;

pub use self::capture::Task as CaptureTask;

/// What the command line asks for.
#[derive(Debug)]
pub enum Action {
    /// Run the sidecar.
    Proxy(Box<Config>),
    /// Install, print or remove the rules of capture.
    Capture(CaptureTask),
    /// Hold a network namespace until told to end.
    Pause,
    /// Run a server behind its standard streams.
    Stdio {
        /// What it was told.
        config: Box<Config>,
        /// The server's command line.
        command: Vec<OsString>,
    },
    /// Run the demonstration.
    Demo {
        /// End after the scripted calls.
        once: bool,
    },
    /// Wait until a sidecar is ready.
    Wait {
        /// Its admin address, which can be connected to.
        admin: SocketAddr,
        /// How long to wait.
        timeout: Duration,
    },
    /// Write the files that let agents hand context on.
    InstallShim {
        /// Where to.
        dir: PathBuf,
    },
    /// Print the variables that make an agent load them.
    PrintShim {
        /// Where they are.
        dir: PathBuf,
        /// How to print.
        format: shim::Format,
    },
    /// Look at a configuration and send a test span.
    Check {
        /// What a sidecar would be started with, but for where it listens.
        config: Box<Config>,
        /// What is asked for.
        options: Options,
    },
    /// Say how the calls of a running agent found their parents.
    CheckAgent {
        /// The admin address of its sidecar, which can be connected to.
        admin: SocketAddr,
    },
    /// Add the sidecar to the pods of manifests, or take it out.
    Inject(Box<InjectJob>),
    /// Run the admission webhook.
    Injector(Box<config::injection::Injector>),
    /// Print the manifests of an installation.
    Install(Box<crate::admission::install::Install>),
}

/// A command line that leads to no action.
#[derive(Debug)]
pub enum Stop {
    /// Help or version was asked for, or the usage was wrong; clap has the
    /// text, the stream and the exit code.
    Usage(clap::Error),
    /// The configuration cannot be used.
    Config(config::error::Error),
}

impl Stop {
    /// Writes the text where it belongs, help to stdout and complaints to
    /// stderr, and returns the exit code.
    pub fn report(&self) -> u8 {
        match self {
            Stop::Usage(error) => {
                // A reader that closed the pipe early has seen enough.
                let _ = error.print();
                u8::try_from(error.exit_code()).unwrap_or(2)
            }
            Stop::Config(error) => {
                eprintln!("meshtrace: {error}");
                2
            }
        }
    }
}

/// Turns arguments, the program's name first, and environment into an action.
///
/// # Errors
/// [`Stop`], also where help or version was asked for.
pub fn parse<I, T>(args: I, env: Environment<'_>) -> Result<Action, Stop>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    match Cli::try_parse_from(args).map_err(Stop::Usage)?.command {
        Command::Proxy(args) => {
            let config = Config::load(&args.flags(), env).map_err(Stop::Config)?;
            Ok(Action::Proxy(Box::new(config)))
        }
        Command::Capture(args) => args.action(env).map_err(Stop::Config),
        Command::Pause(PauseArgs {}) => Ok(Action::Pause),
        Command::Stdio(args) => {
            let config = Config::for_stdio(args.config, env).map_err(Stop::Config)?;
            Ok(Action::Stdio { config: Box::new(config), command: args.command })
        }
        Command::Demo(args) => Ok(Action::Demo { once: args.once }),
        Command::Wait(args) => args.action(env).map_err(Stop::Config),
        Command::Shim(ShimArgs { command: ShimCommand::Install { dir } }) => Ok(Action::InstallShim { dir }),
        Command::Shim(ShimArgs { command: ShimCommand::Env { dir, format } }) => {
            Ok(Action::PrintShim { dir, format })
        }
        Command::Check(args) => args.action(env).map_err(Stop::Config),
        Command::Inject(args) => args.action(env).map_err(Stop::Config),
        Command::Injector(args) => args.action(env).map_err(Stop::Config),
        Command::Install(args) => args.action(env).map_err(Stop::Config),
    }
}

/// Traces the MCP and HTTP traffic of an agent without changing the agent.
///
/// Exit codes: 0 success, 2 wrong usage or configuration, 1 anything else.
#[derive(Debug, Parser)]
#[command(name = "meshtrace", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Proxy(Box<ProxyArgs>),
    Capture(Box<CaptureArgs>),
    Pause(PauseArgs),
    Stdio(StdioArgs),
    Demo(DemoArgs),
    Shim(ShimArgs),
    Wait(WaitArgs),
    Check(CheckArgs),
    Inject(injection::InjectArgs),
    Injector(injection::InjectorArgs),
    Install(injection::InstallArgs),
}

/// Run the sidecar.
///
/// Stands in front of an agent (inbound) and behind it (outbound), passes everything on and sends a
/// span for each request to an OpenTelemetry collector. SIGTERM and Ctrl-C drain and stop it; a second
/// one ends it at once.
///
/// A flag beats its variable, a variable beats the configuration file, the file beats the default.
#[derive(Debug, Args)]
#[command(after_long_help = ENVIRONMENT)]
struct ProxyArgs {
    /// Accept on LISTEN what is meant for the agent, and forward it to APP.
    ///
    /// For example 0.0.0.0:8000=127.0.0.1:8080, or https://0.0.0.0:8443=127.0.0.1:8080 for clients
    /// that speak TLS (see --inbound-tls). May be repeated.
    /// [env: MESHTRACE_INBOUND, with commas between several] [default: none]
    #[arg(long, value_name = "LISTEN=APP")]
    inbound: Vec<String>,

    /// Accept on LISTEN what the agent sends, and forward it.
    ///
    /// LISTEN alone, such as 127.0.0.1:8001, is a forward proxy for clients with HTTP_PROXY set; it
    /// takes CONNECT too, and requests that are routed by their Host. LISTEN=URL sends everything to
    /// one base URL, http:// or https://. May be repeated.
    /// [env: MESHTRACE_OUTBOUND, with commas between several] [default: none]
    #[arg(long, value_name = "LISTEN[=URL]")]
    outbound: Vec<String>,

    /// Serve what the kernel redirects, with the rules of `meshtrace capture install` in place.
    ///
    /// Listens on [::]:14006 for inbound connections and on 127.0.0.1:14001 and [::1]:14001 for outbound
    /// ones; each is passed on to where it was meant to go, traced if it is HTTP and unread if not.
    /// [env: MESHTRACE_REDIRECTED] [default: off]
    #[arg(long)]
    redirected: bool,

    /// Install those rules first, then serve as --redirected does.
    ///
    /// For starting as root with the capabilities NET_ADMIN, SETUID and SETGID; it becomes the user of --uid,
    /// without any capability, before it serves. The rules stay when it ends, so that nothing slips by while
    /// it restarts; `meshtrace capture remove` takes them away.
    /// [env: MESHTRACE_CAPTURE] [default: off]
    #[arg(long)]
    capture: bool,

    /// Pass redirected connections to these ports on unread: 5432,6000-6010.
    ///
    /// [env: MESHTRACE_OPAQUE_PORTS] [file: opaque_ports] [default: none]
    #[arg(long, value_name = "PORTS")]
    opaque_ports: Option<String>,
    /// The certificate chain and key (PEM) of the inbound listeners that are written https://LISTEN.
    ///
    /// With CLIENT_CA, clients need a certificate of that authority. A change of the files is taken
    /// up without a restart.
    /// [env: MESHTRACE_INBOUND_TLS] [default: none]
    #[arg(long, value_name = "CERTIFICATE,KEY[,CLIENT_CA]")]
    inbound_tls: Option<String>,

    /// Speak TLS to HOST where the agent says http://HOST, on port 443 or PORT.
    ///
    /// For example api.example.com or *.example.com:8443. May be repeated.
    /// [env: MESHTRACE_TLS_ORIGINATE, with commas between several] [default: none]
    #[arg(long, value_name = "HOST[:PORT]")]
    tls_originate: Vec<String>,

    /// Trust the authorities in FILE (PEM) too, beside those of the system.
    ///
    /// For the servers that the agent calls; the collector has OTEL_EXPORTER_OTLP_CERTIFICATE.
    /// [env: MESHTRACE_TLS_CA] [default: none]
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<String>,

    /// The certificate chain and key (PEM) to show to servers that ask for one.
    ///
    /// [env: MESHTRACE_TLS_CLIENT] [default: none]
    #[arg(long, value_name = "CERTIFICATE,KEY")]
    tls_client: Option<String>,

    /// Write the files of `meshtrace shim install` into DIR before being ready.
    ///
    /// For an agent that starts when the sidecar is ready and shares the directory with it.
    /// [env: MESHTRACE_INSTALL_SHIM] [default: none]
    #[arg(long, value_name = "DIR")]
    install_shim: Option<String>,

    /// After SIGTERM serve on, new connections too, until nobody accepts on this port of the pod.
    ///
    /// For a sidecar that is told to stop at the same time as the application. PORT is one at the
    /// pod's address (POD_IP) or at loopback; an address such as 127.0.0.1:8080 is taken too. May
    /// be repeated.
    /// [env: MESHTRACE_STOP_AFTER, with commas between several] [default: none]
    #[arg(long, value_name = "PORT")]
    stop_after: Vec<String>,

    /// The longest time, after SIGTERM, for the application to go and for what is in flight.
    ///
    /// [env: MESHTRACE_DRAIN_TIMEOUT] [default: 20s]
    #[arg(long, value_name = "TIME")]
    drain_timeout: Option<String>,

    /// The longest time after that for the last spans to leave.
    ///
    /// [env: MESHTRACE_FLUSH_TIMEOUT] [default: 5s]
    #[arg(long, value_name = "TIME")]
    flush_timeout: Option<String>,

    /// Serve /live, /ready and /metrics on LISTEN, or nowhere: off.
    ///
    /// /app-probe/CONTAINER/PROBE is there too, for the probes that the injector took over
    /// (MESHTRACE_APP_PROBES). Everything else there answers loopback peers only.
    /// [env: MESHTRACE_ADMIN] [default: [::]:14020]
    #[arg(long, value_name = "LISTEN")]
    admin: Option<String>,

    /// Read the configuration file (YAML): spans, propagation, tls, attributes, sampling, limits.
    ///
    /// Changes of spans and sampling take over while it runs, within two seconds or at once on SIGHUP.
    /// [env: MESHTRACE_CONFIG] [default: none]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Worker threads, each with its own sockets and event loop, 1 to 64.
    ///
    /// [env: MESHTRACE_WORKERS] [default: the CPUs that are granted, at most 4]
    #[arg(long, value_name = "N")]
    workers: Option<String>,

    #[command(flatten)]
    rules: RuleArgs,
    /// Write one JSON line for each request to stdout: off or json.
    ///
    /// [env: MESHTRACE_ACCESS_LOG] [default: off]
    #[arg(long, value_name = "FORMAT")]
    access_log: Option<String>,

    /// Write our own diagnostics on stderr as text or as JSON lines: text or json.
    ///
    /// [env: MESHTRACE_LOG_FORMAT] [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

const ENVIRONMENT: &str = "\
OpenTelemetry variables (the specification says what they mean):
  OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES  who the spans are from
  OTEL_EXPORTER_OTLP_ENDPOINT and the rest of OTEL_EXPORTER_OTLP_*
                                               where they go [default: http://localhost:4318]
  OTEL_TRACES_EXPORTER                         otlp, console or none [default: otlp]
  OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG which traces are recorded
                                               [default: parentbased_always_on]
  OTEL_PROPAGATORS                             tracecontext, baggage, b3, b3multi, or none
                                               [default: tracecontext,baggage]
  OTEL_BSP_*                                   the queue and the batches
  OTEL_LOG_LEVEL                               off, error, warn, info, debug or trace
                                               [default: info]
  OTEL_SDK_DISABLED                            true: no spans, context still passes
Variables that the injector writes:
  MESHTRACE_APP_PROBES                         JSON: the TCP probes that /app-probe carries out
  POD_IP                                       where they and --stop-after find the pod
Refused: OTEL_CONFIG_FILE, the jaeger, ottrace and xray propagators, the zipkin exporter.";

impl ProxyArgs {
    fn flags(self) -> Flags {
        let ProxyArgs {
            inbound,
            outbound,
            redirected,
            capture,
            opaque_ports,
            inbound_tls,
            tls_originate,
            tls_ca,
            tls_client,
            install_shim,
            stop_after,
            drain_timeout,
            flush_timeout,
            admin,
            config,
            workers,
            rules,
            access_log,
            log_format,
        } = self;
        let rules = rules.flags();
        Flags {
            inbound,
            outbound,
            redirected,
            capture,
            opaque_ports,
            inbound_tls,
            tls_originate,
            tls_ca,
            tls_client,
            install_shim,
            stop_after,
            drain_timeout,
            flush_timeout,
            admin,
            config,
            workers,
            rules,
            access_log,
            log_format,
        }
    }
}

/// Hold a network namespace for other containers, until SIGTERM or Ctrl-C.
///
/// Does nothing else. In docker-compose the container that owns the network should be one that is never
/// restarted, because restarting it takes the rules of capture away.
#[derive(Debug, Args)]
struct PauseArgs {}

/// Trace an MCP server that speaks over its standard streams.
///
/// Put it in front of the server's command line: it runs the server and passes everything on, every
/// line as it is but for the context in params._meta, signals, and in the end the exit code. Standard
/// error is the server's own. Each request gets a SERVER span; its parent is what the message names,
/// else TRACEPARENT of the environment. The spans are sent before it ends.
#[derive(Debug, Args)]
#[command(after_long_help = ENVIRONMENT)]
struct StdioArgs {
    /// Read the configuration file (YAML): spans, propagation, limits.
    ///
    /// [env: MESHTRACE_CONFIG] [default: none]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The server's command line.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Show it: two small agents, a sidecar each and a collector, in one process.
///
/// Sends a few calls through the sidecars, prints the traces that arrive as trees, then prints a
/// request to try by hand and serves until Ctrl-C. Everything listens on free loopback ports.
#[derive(Debug, Args)]
struct DemoArgs {
    /// End after the calls instead of serving on; exit 1 if a trace is not complete.
    #[arg(long)]
    once: bool,
}

/// Wait until a sidecar is ready.
///
/// Asks /ready again and again, and returns 0 once it says so, or 1 with the last answer when the
/// time is over. Good in front of an agent's command line, for start order.
#[derive(Debug, Args)]
struct WaitArgs {
    /// The admin address of the sidecar.
    ///
    /// [env: MESHTRACE_ADMIN] [default: 127.0.0.1:14020]
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,

    /// How long to wait, such as 500ms, 30s or 5m.
    #[arg(long, value_name = "TIME", default_value = "60s")]
    timeout: String,
}

impl WaitArgs {
    fn action(&self, env: Environment<'_>) -> Result<Action, config::error::Error> {
        let admin = config::admin_to_ask(self.admin.as_deref(), env)?;
        let timeout = config::flag_duration("--timeout", &self.timeout)?;
        Ok(Action::Wait { admin, timeout })
    }
}

/// Let Python and Node agents hand trace context on.
///
/// Two small files, loaded into the agent by its environment, copy traceparent, tracestate and baggage
/// from the request that is being handled to the calls that are made for it. They make no spans and
/// change nothing else. MESHTRACE_SHIM=off in the agent's environment switches them off,
/// MESHTRACE_SHIM=debug lets them say on stderr what they do.
///
///   meshtrace shim install /opt/meshtrace && eval "$(meshtrace shim env /opt/meshtrace)" && exec my-agent
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct ShimArgs {
    #[command(subcommand)]
    command: ShimCommand,
}

#[derive(Debug, Subcommand)]
enum ShimCommand {
    /// Write the two files into DIR.
    ///
    /// DIR is made if need be. Files of an older version are replaced in one step; a file of the same
    /// name that is not the shim's is left alone, and that ends with exit code 1.
    Install {
        /// The directory, best one of its own.
        dir: PathBuf,
    },
    /// Print the environment that makes an agent load the files in DIR.
    ///
    /// Values that are there already are kept: DIR comes first in PYTHONPATH, --require last in
    /// NODE_OPTIONS, and the three header names last in MCP_MESH_PROPAGATE_HEADERS. The files must be
    /// there before a Node agent starts.
    Env {
        /// The directory as the agent sees it.
        dir: PathBuf,

        /// How to print: `shell` to be evaluated, `json`, or `dotenv`.
        ///
        /// The last two hold the values of this command's own environment.
        #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
        format: shim::Format,
    },
}

/// Look at a configuration, or at a running sidecar, and say what to do.
///
/// Without --agent: reads the configuration as `meshtrace proxy` would, says in words what is sampled, sends one test span
/// to the collector, and says what became of it and how to find it. Starts nothing. Prints to stdout.
/// Exit code 0 if all is well, 2 if the configuration cannot be used, 1 if the collector did not take the span, or
/// nothing answers for --agent.
#[derive(Debug, Args)]
struct CheckArgs {
    /// Say how the agent's calls found their parents since its sidecar started.
    ///
    /// ADMIN is the admin address of the sidecar, seen from its own pod: it answers loopback
    /// peers only. [env: MESHTRACE_ADMIN] [default: 127.0.0.1:14020]
    #[arg(long, value_name = "ADMIN", num_args = 0..=1, conflicts_with_all = ["config", "store"])]
    agent: Option<Option<String>>,

    /// The configuration file to look at.
    ///
    /// [env: MESHTRACE_CONFIG] [default: none]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where traces are looked at, such as http://localhost:16686, to print a link to the test span.
    ///
    /// [default: none]
    #[arg(long, value_name = "URL")]
    store: Option<String>,

    /// How long the collector may take, such as 500ms, 10s or 1m.
    #[arg(long, value_name = "TIME", default_value = "10s")]
    timeout: String,
}

impl CheckArgs {
    fn action(&self, env: Environment<'_>) -> Result<Action, config::error::Error> {
        let Some(agent) = &self.agent else {
            let timeout = config::flag_duration("--timeout", &self.timeout)?;
            let config = Box::new(Config::to_check(self.config.clone(), env)?);
            return Ok(Action::Check { config, options: Options { timeout, store: self.store.clone() } });
        };
        Ok(Action::CheckAgent { admin: config::admin_to_ask(agent.as_deref(), env)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn run(line: &str, variables: &[(&str, &str)]) -> Result<Action, Stop> {
        parse(line.split(' '), &|name: &str| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn proxy_takes_its_flags_any_number_of_times() {
        let line = "meshtrace proxy --inbound 0.0.0.0:1=a:1 --inbound 0.0.0.0:2=b:2 \
                    --outbound 127.0.0.1:3 --admin off --workers 2";
        let Ok(Action::Proxy(config)) = run(line, &[]) else { panic!("{line}") };
        assert_eq!((config.inbound.len(), config.outbound.len()), (2, 1));
        assert_eq!((config.admin, config.workers), (None, 2));
    }

    #[test]
    fn wait_asks_where_the_sidecar_listens() {
        let cases = [
            ("meshtrace wait", "", "127.0.0.1:14020", 60),
            ("meshtrace wait --timeout 5s", "0.0.0.0:9", "127.0.0.1:9", 5),
            ("meshtrace wait --admin 10.0.0.1:7 --timeout 2m", "off", "10.0.0.1:7", 120),
        ];
        for (line, variable, expect, seconds) in cases {
            let action = run(line, &[("MESHTRACE_ADMIN", variable)]);
            let Ok(Action::Wait { admin, timeout }) = action else { panic!("{action:?}") };
            assert_eq!((admin.to_string().as_str(), timeout.as_secs()), (expect, seconds), "{line}");
        }
        let Err(Stop::Config(error)) = run("meshtrace wait --admin off", &[]) else { panic!() };
        assert!(error.to_string().contains("--admin ADDR"), "{error}");
        let Err(Stop::Config(error)) = run("meshtrace wait --timeout soon", &[]) else { panic!() };
        assert!(error.to_string().starts_with("--timeout \"soon\": expected a time"), "{error}");
    }

    #[test]
    fn the_shim_is_installed_and_printed() {
        let Ok(Action::InstallShim { dir }) = run("meshtrace shim install /x", &[]) else { panic!() };
        assert_eq!(dir.to_str(), Some("/x"));
        for (line, expect) in [
            ("meshtrace shim env /x", shim::Format::Shell),
            ("meshtrace shim env --format json /x", shim::Format::Json),
            ("meshtrace shim env /x --format dotenv", shim::Format::Dotenv),
        ] {
            let Ok(Action::PrintShim { format, .. }) = run(line, &[]) else { panic!("{line}") };
            assert_eq!(format, expect, "{line}");
        }
    }

    #[test]
    fn check_asks_where_the_sidecar_listens() {
        for (line, expect) in
            [("meshtrace check --agent", "127.0.0.1:9"), ("meshtrace check --agent 10.0.0.1:7", "10.0.0.1:7")]
        {
            let action = run(line, &[("MESHTRACE_ADMIN", "0.0.0.0:9")]);
            let Ok(Action::CheckAgent { admin }) = action else { panic!("{action:?}") };
            assert_eq!(admin.to_string(), expect, "{line}");
        }
    }

    #[test]
    fn stdio_takes_a_command_line_as_it_is() {
        let line = "meshtrace stdio -- npx -y server --config x -- y";
        let Ok(Action::Stdio { command, .. }) = run(line, &[]) else { panic!("{line}") };
        assert_eq!(command, ["npx", "-y", "server", "--config", "x", "--", "y"]);
        let Err(Stop::Config(error)) = run("meshtrace stdio -- x", &[("OTEL_TRACES_EXPORTER", "console")])
        else {
            panic!("stdout is the server's")
        };
        assert!(error.to_string().contains("stdout"), "{error}");
    }

    #[test]
    fn wrong_usage_is_2_and_help_is_0() {
        let code = |line| match run(line, &[]) {
            Err(Stop::Usage(error)) => error.exit_code(),
            other => panic!("{line}: {other:?}"),
        };
        for line in [
            "meshtrace",
            "meshtrace stdio",
            "meshtrace nonsense",
            "meshtrace proxy --inbund x",
            "meshtrace demo x",
            "meshtrace shim",
            "meshtrace shim env /x --format xml",
        ] {
            assert_eq!(code(line), 2, "{line}");
        }
        for line in [
            "meshtrace --version",
            "meshtrace --help",
            "meshtrace proxy --help",
            "meshtrace wait -h",
            "meshtrace shim --help",
        ] {
            assert_eq!(code(line), 0, "{line}");
        }
        let Err(Stop::Config(error)) = run("meshtrace proxy", &[]) else { panic!() };
        let text = error.to_string();
        assert!(text.contains("--inbound LISTEN=APP") && text.contains("--outbound LISTEN"), "{text}");
    }

    #[test]
    fn the_help_of_every_flag_names_its_variable_and_default() {
        let mut cli = Cli::command();
        for name in ["proxy", "wait", "check"] {
            let command = cli.find_subcommand_mut(name).unwrap();
            for argument in command.get_arguments() {
                let help = argument.get_long_help().map(ToString::to_string).unwrap_or_default();
                let stated = help.contains("[default: ") || !argument.get_default_values().is_empty();
                assert!(stated, "{name} --{}: {help}", argument.get_id());
                let flag = argument.get_id().as_str();
                let variable = format!("MESHTRACE_{}", flag.to_uppercase().replace('-', "_"));
                let admin = flag == "agent" && help.contains("MESHTRACE_ADMIN");
                let own = admin || ["timeout", "store"].contains(&flag);
                assert!(own || help.contains(&variable), "{name} --{flag}: {help}");
            }
        }
    }
}
