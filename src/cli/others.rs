//! The command lines of the commands that are about a sidecar and are none.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Action;
use super::proxy::ENVIRONMENT;
use crate::check::collector::Options;
use crate::config::{self, Config, Environment};
use crate::shim;

/// Trace an MCP server that speaks over its standard streams.
///
/// Put it in front of the server's command line: it runs the server and passes everything on, every
/// line as it is but for the context in params._meta, signals, and in the end the exit code. Standard
/// error is the server's own. Each request gets a SERVER span; its parent is what the message names,
/// else TRACEPARENT of the environment. The spans are sent before it ends.
#[derive(Debug, Args)]
#[command(after_long_help = ENVIRONMENT)]
pub(super) struct StdioArgs {
    /// Read the configuration file (YAML): spans, propagation, limits.
    ///
    /// [env: MESHTRACE_CONFIG] [default: none]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// The server's command line.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub(super) command: Vec<OsString>,
}

/// Wait until a sidecar is ready.
///
/// Asks /ready again and again, and returns 0 once it says so, or 1 with the last answer when the
/// time is over. Good in front of an agent's command line, for start order.
#[derive(Debug, Args)]
pub(super) struct WaitArgs {
    /// The admin address of the sidecar.
    ///
    /// [env: MESHTRACE_ADMIN] [default: 127.0.0.1:14020]
    #[arg(long, value_name = "ADDR")]
    pub(super) admin: Option<String>,

    /// How long to wait, such as 500ms, 30s or 5m.
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub(super) timeout: String,
}

impl WaitArgs {
    pub(super) fn action(&self, env: Environment<'_>) -> Result<Action, config::error::Error> {
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
pub(super) struct ShimArgs {
    #[command(subcommand)]
    pub(super) command: ShimCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum ShimCommand {
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
pub(super) struct CheckArgs {
    /// Say how the agent's calls found their parents since its sidecar started.
    ///
    /// ADMIN is the admin address of the sidecar, seen from its own pod: it answers loopback
    /// peers only. [env: MESHTRACE_ADMIN] [default: 127.0.0.1:14020]
    #[arg(long, value_name = "ADMIN", num_args = 0..=1, conflicts_with_all = ["config", "store"])]
    pub(super) agent: Option<Option<String>>,

    /// The configuration file to look at.
    ///
    /// [env: MESHTRACE_CONFIG] [default: none]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// Where traces are looked at, such as http://localhost:16686, to print a link to the test span.
    ///
    /// [default: none]
    #[arg(long, value_name = "URL")]
    pub(super) store: Option<String>,

    /// How long the collector may take, such as 500ms, 10s or 1m.
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub(super) timeout: String,
}

impl CheckArgs {
    pub(super) fn action(&self, env: Environment<'_>) -> Result<Action, config::error::Error> {
        let Some(agent) = &self.agent else {
            let timeout = config::flag_duration("--timeout", &self.timeout)?;
            let config = Box::new(Config::to_check(self.config.clone(), env)?);
            return Ok(Action::Check { config, options: Options { timeout, store: self.store.clone() } });
        };
        Ok(Action::CheckAgent { admin: config::admin_to_ask(agent.as_deref(), env)? })
    }
}
