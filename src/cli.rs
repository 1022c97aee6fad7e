//! The command line: what can be typed, what it means, and the help.
//!
//! Parsing ends in an [`Action`]; carrying it out belongs to `app`. A wrong
//! command line or configuration is exit code 2, success is 0 and anything
//! else is 1.

mod capture;
mod injection;
mod others;
mod proxy;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use self::capture::CaptureArgs;
pub use self::injection::{InjectJob, Input};
use self::others::{CheckArgs, ShimArgs, ShimCommand, StdioArgs, WaitArgs};
use self::proxy::ProxyArgs;
use crate::check::collector::Options;
use crate::config::{self, Config, Environment};
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

/// Hold a network namespace for other containers, until SIGTERM or Ctrl-C.
///
/// Does nothing else. In docker-compose the container that owns the network should be one that is never
/// restarted, because restarting it takes the rules of capture away.
#[derive(Debug, Args)]
struct PauseArgs {}

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

#[cfg(test)]
mod tests;
