//! From what is captured to the chains of the table, in the order in which
//! the kernel goes through them for the first packet of each connection.

use std::ops::RangeInclusive;

use super::rules::{Network, Rules};

/// The one table of ours, in the family that knows both IPv4 and IPv6.
pub const TABLE: &str = "meshtrace";

/// The loopback interface.
pub const LOOPBACK: &str = "lo";

/// A chain that begins at a hook of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// Where it hooks in.
    pub hook: Hook,
    /// When, among the chains of the same hook: smaller is earlier.
    pub priority: i32,
    /// Its rules; the first that matches decides.
    pub rules: Vec<Rule>,
}

/// The hooks that redirecting needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// What comes from outside, before it is routed.
    Prerouting,
    /// What processes of this namespace send.
    Output,
}

/// All conditions, and what happens when they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Every one has to hold.
    pub when: Vec<Match>,
    /// What happens then.
    pub then: Verdict,
}

/// A condition of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// It came in over the loopback interface.
    FromLoopback,
    /// It leaves over the loopback interface.
    ToLoopback,
    /// It is TCP.
    Tcp,
    /// It is something else.
    NotTcp,
    /// Its destination port is one of these; only TCP has one here.
    Port(RangeInclusive<u16>),
    /// Its destination is no address of this namespace: it is only passing.
    NotLocal,
    /// It goes to this network.
    To(Network),
    /// The sending process runs as this user.
    Uid(u32),
}

/// What a rule decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Leave it alone.
    Return,
    /// Hand it to this port of the namespace.
    Redirect(u16),
}

/// Both sides of a mesh's own redirection, which by custom are at priority
/// -100: what it brings in passes it before us, what the application sends
/// passes us before it.
const INBOUND_PRIORITY: i32 = -90;
const OUTBOUND_PRIORITY: i32 = -110;

/// The chains for these rules.
pub fn chains(rules: &Rules) -> [Chain; 2] {
    [
        Chain { name: "inbound", hook: Hook::Prerouting, priority: INBOUND_PRIORITY, rules: inbound(rules) },
        Chain { name: "outbound", hook: Hook::Output, priority: OUTBOUND_PRIORITY, rules: outbound(rules) },
    ]
}

fn inbound(rules: &Rules) -> Vec<Rule> {
    let mut chain = vec![Rule::leave([Match::FromLoopback]), Rule::leave([Match::NotTcp])];
    let own = [Some(rules.redirected_outbound), Some(rules.redirected_inbound), rules.admin];
    chain.extend(own.into_iter().flatten().map(|port| Rule::leave([Match::Port(port..=port)])));
    chain.extend(rules.skip_inbound_ports.iter().map(|ports| Rule::leave([Match::Port(ports.clone())])));
    // What a router or a virtual machine in the pod passes on is not the pod's.
    chain.push(Rule::leave([Match::NotLocal]));
    let to = Verdict::Redirect(rules.redirected_inbound);
    chain.extend(wanted(rules.inbound_ports.as_deref(), &[], to));
    chain
}

fn outbound(rules: &Rules) -> Vec<Rule> {
    let mut chain = vec![Rule::leave([Match::NotTcp]), Rule::leave([Match::Uid(rules.uid)])];
    if let Some(uid) = rules.mesh_uid {
        chain.extend(brought_in(uid, rules));
        chain.push(Rule::leave([Match::Uid(uid)]));
    }
    let to = Verdict::Redirect(rules.redirected_outbound);
    chain.extend(wanted(Some(&rules.capture_loopback_ports), &[Match::ToLoopback], to));
    chain.push(Rule::leave([Match::ToLoopback]));
    chain.extend(rules.skip_outbound_ports.iter().map(|ports| Rule::leave([Match::Port(ports.clone())])));
    chain.extend(rules.skip_outbound_cidrs.iter().map(|network| Rule::leave([Match::To(*network)])));
    match &rules.outbound_cidrs {
        None => chain.push(Rule { when: vec![Match::Tcp], then: to }),
        Some(networks) => {
            let each = |network: &Network| Rule { when: vec![Match::To(*network), Match::Tcp], then: to };
            chain.extend(networks.iter().map(each));
        }
    }
    chain
}

/// A mesh's proxy hands what came in to the application at the address of the
/// pod, over the loopback interface; there it passes the sidecar. What it
/// sends to 127.0.0.1 and ::1 is its own business.
fn brought_in(uid: u32, rules: &Rules) -> Vec<Rule> {
    let from_mesh = [Match::Uid(uid), Match::ToLoopback];
    let leave = |more: Match| Rule::leave(from_mesh.iter().cloned().chain([more]));
    let own = [rules.redirected_outbound, rules.redirected_inbound].into_iter().chain(rules.admin);
    let own = own.map(|port| leave(Match::Port(port..=port)));
    let skipped = rules.skip_inbound_ports.iter().map(|ports| leave(Match::Port(ports.clone())));
    let private = loopback_networks().into_iter().map(|network| leave(Match::To(network)));
    let to = Verdict::Redirect(rules.redirected_inbound);
    private.chain(own).chain(skipped).chain(wanted(rules.inbound_ports.as_deref(), &from_mesh, to)).collect()
}

fn loopback_networks() -> Vec<Network> {
    let v4 = Network::new([127, 0, 0, 0].into(), 8);
    let v6 = Network::new(std::net::Ipv6Addr::LOCALHOST.into(), 128);
    v4.into_iter().chain(v6).collect()
}

/// One rule for each of these ports, or one for all TCP.
fn wanted(ports: Option<&[RangeInclusive<u16>]>, before: &[Match], then: Verdict) -> Vec<Rule> {
    let rule = |last: Match| Rule { when: before.iter().cloned().chain([last]).collect(), then };
    match ports {
        None => vec![rule(Match::Tcp)],
        Some(ports) => ports.iter().map(|ports| rule(Match::Port(ports.clone()))).collect(),
    }
}

impl Rule {
    fn leave(when: impl IntoIterator<Item = Match>) -> Self {
        Rule { when: when.into_iter().collect(), then: Verdict::Return }
    }
}
