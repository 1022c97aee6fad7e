//! The command line of `capture`, and the flags about capture that `proxy`
//! shares with it.

use clap::{Args, Subcommand};

use super::Action;
use crate::capture::Rules;
use crate::config::{self, CaptureFlags, Environment};

/// What `capture` is asked to do.
#[derive(Debug)]
pub enum Task {
    /// Put the rules in place.
    Install(Rules),
    /// Write them down.
    Print(Rules),
    /// Take them away.
    Remove,
}

/// Steer the traffic of this network namespace into the sidecar.
///
/// The rules are an nftables table of their own, "meshtrace", for IPv4 and IPv6, written by the kernel's own
/// interface: neither nft nor iptables is needed. It needs the capability NET_ADMIN and nothing else.
/// `meshtrace proxy --redirected` then serves what is steered; it has to run as the user that the rules spare.
///
/// Inside a pod, a container or a network namespace only: on a machine itself it would capture everything there.
#[derive(Debug, Args)]
pub(super) struct CaptureArgs {
    #[command(subcommand)]
    command: CaptureCommand,
}

#[derive(Debug, Subcommand)]
enum CaptureCommand {
    Install(InstallArgs),
    Print(PrintArgs),
    Remove(RemoveArgs),
}

/// Put the rules in place, in one transaction, instead of those that were there.
///
/// May be repeated. Connections that are open already are not touched. It is refused where POD_IP and HOST_IP are
/// set and the same, because such a pod is on the network of its node.
#[derive(Debug, Args)]
struct InstallArgs {
    #[command(flatten)]
    rules: RuleArgs,
    #[command(flatten)]
    admin: AdminArg,
}

/// Print the rules that install would put in place, as text for `nft -f`.
///
/// Needs no privilege and changes nothing.
#[derive(Debug, Args)]
struct PrintArgs {
    #[command(flatten)]
    rules: RuleArgs,
    #[command(flatten)]
    admin: AdminArg,
}

/// Take the rules away, if there are any.
///
/// Connections that were captured go on until they end.
#[derive(Debug, Args)]
struct RemoveArgs {}

#[derive(Debug, Args)]
struct AdminArg {
    /// Where the sidecar serves /live and /ready, or off; the port is not captured.
    ///
    /// [env: MESHTRACE_ADMIN] [default: [::]:14020]
    #[arg(long, value_name = "LISTEN")]
    admin: Option<String>,
}

/// What is captured. PORTS are ports and ranges, with commas between them.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Rules of capture")]
pub(super) struct RuleArgs {
    /// Capture inbound connections to these ports: 8080,9000-9010, * for all, or none.
    ///
    /// [env: MESHTRACE_INBOUND_PORTS] [default: *]
    #[arg(long, value_name = "PORTS")]
    inbound_ports: Option<String>,

    /// Do not capture inbound connections to these ports.
    ///
    /// [env: MESHTRACE_SKIP_INBOUND_PORTS] [default: none]
    #[arg(long, value_name = "PORTS")]
    skip_inbound_ports: Option<String>,

    /// Do not capture outbound connections to these ports; none skips no port.
    ///
    /// The default leaves alone the collector and what could not be traced: TLS, mail, databases and caches.
    /// [env: MESHTRACE_SKIP_OUTBOUND_PORTS]
    /// [default: 25,443,587,3306,4317,4318,4444,5432,6379,6443,9300,11211]
    #[arg(long, value_name = "PORTS")]
    skip_outbound_ports: Option<String>,

    /// Capture outbound connections to these networks: 10.0.0.0/8,fd00::/8, * for all, or none.
    ///
    /// [env: MESHTRACE_OUTBOUND_CIDRS] [default: *]
    #[arg(long, value_name = "CIDRS")]
    outbound_cidrs: Option<String>,

    /// Do not capture outbound connections to these networks.
    ///
    /// [env: MESHTRACE_SKIP_OUTBOUND_CIDRS] [default: none]
    #[arg(long, value_name = "CIDRS")]
    skip_outbound_cidrs: Option<String>,

    /// Capture calls to these ports over the loopback interface too, such as to an MCP server in
    /// another container of the pod.
    ///
    /// [env: MESHTRACE_CAPTURE_LOOPBACK_PORTS] [default: none]
    #[arg(long, value_name = "PORTS")]
    capture_loopback_ports: Option<String>,

    /// The user of a service mesh's proxy in the same pod: 1337 for Istio, 2102 for linkerd.
    ///
    /// What it hands to the agent passes the sidecar; what it sends out is not captured again.
    /// [env: MESHTRACE_MESH_UID] [default: none]
    #[arg(long, value_name = "UID")]
    mesh_uid: Option<String>,

    /// The user of the sidecar, whose own connections are not captured.
    ///
    /// [env: MESHTRACE_UID] [default: 14100]
    #[arg(long, value_name = "UID")]
    uid: Option<String>,

    /// The port at which the sidecar takes redirected inbound connections, on all addresses.
    ///
    /// [env: MESHTRACE_REDIRECTED_INBOUND] [default: 14006]
    #[arg(long, value_name = "PORT")]
    redirected_inbound: Option<String>,

    /// The port at which the sidecar takes redirected outbound connections, on 127.0.0.1 and ::1.
    ///
    /// [env: MESHTRACE_REDIRECTED_OUTBOUND] [default: 14001]
    #[arg(long, value_name = "PORT")]
    redirected_outbound: Option<String>,
}

impl CaptureArgs {
    pub(super) fn action(self, env: Environment<'_>) -> Result<Action, config::error::Error> {
        Ok(Action::Capture(match self.command {
            CaptureCommand::Install(args) => {
                config::refuse_host_network(env)?;
                Task::Install(args.rules.rules(&args.admin, env)?)
            }
            CaptureCommand::Print(args) => Task::Print(args.rules.rules(&args.admin, env)?),
            CaptureCommand::Remove(RemoveArgs {}) => Task::Remove,
        }))
    }
}

impl RuleArgs {
    fn rules(self, admin: &AdminArg, env: Environment<'_>) -> Result<Rules, config::error::Error> {
        config::capture_rules(&self.flags(), admin.admin.as_deref(), env)
    }

    pub(super) fn flags(self) -> CaptureFlags {
        let RuleArgs {
            inbound_ports,
            skip_inbound_ports,
            skip_outbound_ports,
            outbound_cidrs,
            skip_outbound_cidrs,
            capture_loopback_ports,
            mesh_uid,
            uid,
            redirected_inbound,
            redirected_outbound,
        } = self;
        CaptureFlags {
            inbound_ports,
            skip_inbound_ports,
            skip_outbound_ports,
            outbound_cidrs,
            skip_outbound_cidrs,
            capture_loopback_ports,
            mesh_uid,
            uid,
            redirected_inbound,
            redirected_outbound,
        }
    }
}
