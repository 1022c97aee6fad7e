//! The rules as nftables text, which `nft -f` takes.

use std::fmt::{self, Display, Write};
use std::net::IpAddr;

use super::plan::{Chain, Hook, LOOPBACK, Match, Rule, TABLE, Verdict, chains};
use super::rules::Rules;

/// The whole change as one file: `nft` carries it out in one transaction, and
/// a second time without effect.
pub fn ruleset(rules: &Rules) -> String {
    let mut text = format!("table inet {TABLE} {{\n}}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n");
    for chain in chains(rules) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{chain}");
    }
    text.push_str("}\n");
    text
}

impl Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hook = match self.hook {
            Hook::Prerouting => "prerouting",
            Hook::Output => "output",
        };
        writeln!(f, "\tchain {} {{", self.name)?;
        writeln!(f, "\t\ttype nat hook {hook} priority {}; policy accept;", self.priority)?;
        for rule in &self.rules {
            writeln!(f, "\t\t{rule}")?;
        }
        writeln!(f, "\t}}")
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for condition in &self.when {
            write!(f, "{condition} ")?;
        }
        match self.then {
            Verdict::Return => f.write_str("return"),
            Verdict::Redirect(port) => write!(f, "redirect to :{port}"),
        }
    }
}

impl Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Match::FromLoopback => write!(f, "iifname \"{LOOPBACK}\""),
            Match::ToLoopback => write!(f, "oifname \"{LOOPBACK}\""),
            Match::Tcp => f.write_str("meta l4proto tcp"),
            Match::NotTcp => f.write_str("meta l4proto != tcp"),
            Match::Port(ports) if ports.start() == ports.end() => write!(f, "tcp dport {}", ports.start()),
            Match::Port(ports) => write!(f, "tcp dport {}-{}", ports.start(), ports.end()),
            Match::NotLocal => f.write_str("fib daddr type != local"),
            Match::To(network) => match network.address() {
                IpAddr::V4(_) => write!(f, "ip daddr {network}"),
                IpAddr::V6(_) => write!(f, "ip6 daddr {network}"),
            },
            Match::Uid(uid) => write!(f, "meta skuid {uid}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::rules::Network;

    #[test]
    fn the_default_rules() {
        let text = ruleset(&Rules::default());
        let expected = "table inet meshtrace {
}
delete table inet meshtrace
table inet meshtrace {
\tchain inbound {
\t\ttype nat hook prerouting priority -90; policy accept;
\t\tiifname \"lo\" return
\t\tmeta l4proto != tcp return
\t\ttcp dport 14001 return
\t\ttcp dport 14006 return
\t\ttcp dport 14020 return
\t\tfib daddr type != local return
\t\tmeta l4proto tcp redirect to :14006
\t}
\tchain outbound {
\t\ttype nat hook output priority -110; policy accept;
\t\tmeta l4proto != tcp return
\t\tmeta skuid 14100 return
\t\toifname \"lo\" return
\t\ttcp dport 25 return
";
        assert!(text.starts_with(expected), "{text}");
        assert!(
            text.ends_with("\t\ttcp dport 11211 return\n\t\tmeta l4proto tcp redirect to :14001\n\t}\n}\n")
        );
    }

    #[test]
    fn everything_that_can_be_asked_for() {
        let network = |text: &str, prefix| Network::new(text.parse().unwrap(), prefix).unwrap();
        let text = ruleset(&Rules {
            inbound_ports: Some(vec![8080..=8080, 9000..=9010]),
            skip_inbound_ports: vec![9005..=9005],
            skip_outbound_ports: vec![],
            outbound_cidrs: Some(vec![network("10.0.0.0", 8), network("fd00::", 8)]),
            skip_outbound_cidrs: vec![network("10.9.0.0", 16)],
            capture_loopback_ports: vec![8081..=8081],
            mesh_uid: Some(1337),
            admin: None,
            ..Rules::default()
        });
        let rules: Vec<&str> = text.lines().filter(|l| l.starts_with("\t\t")).map(str::trim).collect();
        let expected = [
            "type nat hook prerouting priority -90; policy accept;",
            "iifname \"lo\" return",
            "meta l4proto != tcp return",
            "tcp dport 14001 return",
            "tcp dport 14006 return",
            "tcp dport 9005 return",
            "fib daddr type != local return",
            "tcp dport 8080 redirect to :14006",
            "tcp dport 9000-9010 redirect to :14006",
            "type nat hook output priority -110; policy accept;",
            "meta l4proto != tcp return",
            "meta skuid 14100 return",
            "meta skuid 1337 oifname \"lo\" ip daddr 127.0.0.0/8 return",
            "meta skuid 1337 oifname \"lo\" ip6 daddr ::1 return",
            "meta skuid 1337 oifname \"lo\" tcp dport 14001 return",
            "meta skuid 1337 oifname \"lo\" tcp dport 14006 return",
            "meta skuid 1337 oifname \"lo\" tcp dport 9005 return",
            "meta skuid 1337 oifname \"lo\" tcp dport 8080 redirect to :14006",
            "meta skuid 1337 oifname \"lo\" tcp dport 9000-9010 redirect to :14006",
            "meta skuid 1337 return",
            "oifname \"lo\" tcp dport 8081 redirect to :14001",
            "oifname \"lo\" return",
            "ip daddr 10.9.0.0/16 return",
            "ip daddr 10.0.0.0/8 meta l4proto tcp redirect to :14001",
            "ip6 daddr fd00::/8 meta l4proto tcp redirect to :14001",
        ];
        assert_eq!(rules, expected);
    }
}
