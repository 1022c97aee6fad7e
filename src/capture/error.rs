//! Why rules could not be put in place, said so that the reader knows what to
//! change: a right, a kernel module, or the caller.

use std::io;

use super::message::Step;
use super::plan::{Match, Verdict};
use super::reply::Malformed;

/// The kernel took no rules.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The right to change the network is missing.
    #[error(
        "not permitted to change the rules of this network namespace: the capability NET_ADMIN is needed \
         (docker: --cap-add NET_ADMIN; Kubernetes: securityContext.capabilities.add: [NET_ADMIN])"
    )]
    NotPermitted,
    /// The kernel was built without something, or may not load it.
    #[error("this kernel has no {what} ({module}): without it no traffic can be captured")]
    Missing {
        /// What is missing.
        what: &'static str,
        /// Where Linux keeps it.
        module: &'static str,
    },
    /// The kernel refused one of the messages.
    #[error("the kernel refused {what}: {error}")]
    Refused {
        /// What the message asked for.
        what: String,
        /// What it said.
        error: io::Error,
    },
    /// The kernel could not be asked.
    #[error("cannot talk to the kernel over netlink: {0}")]
    Socket(io::Error),
    /// The kernel did not answer.
    #[error("the kernel does not answer over netlink: {0}")]
    Unanswered(io::Error),
    /// The answer could not be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The rights of root could not be given up.
    #[error(
        "cannot become user {uid}: {error}; the capabilities SETUID and SETGID are needed to start as root \
         with --capture"
    )]
    Identity {
        /// The user.
        uid: u32,
        /// What the system said.
        error: io::Error,
    },
    /// Rights are left that should be gone.
    #[error("still holds privileges after giving them up: {0}")]
    Privileged(&'static str),
}

/// Errors of Linux.
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const EPROTONOSUPPORT: i32 = 93;
const EOPNOTSUPP: i32 = 95;
const EAFNOSUPPORT: i32 = 97;

impl CaptureError {
    /// What the refusal of this message means. A feature that the kernel
    /// lacks is for it something that does not exist.
    pub(super) fn refused(step: Option<&Step>, error: io::Error) -> Self {
        let missing = |(what, module)| CaptureError::Missing { what, module };
        match (error.raw_os_error(), step) {
            (Some(EPERM | EACCES), _) => CaptureError::NotPermitted,
            (Some(EOPNOTSUPP | EAFNOSUPPORT | ENOENT), None | Some(Step::Transaction)) => missing(NF_TABLES),
            (Some(EOPNOTSUPP | EAFNOSUPPORT), Some(Step::Table)) => missing(INET),
            (Some(EOPNOTSUPP | EAFNOSUPPORT | ENOENT), Some(Step::Chain(_))) => missing(NAT),
            (Some(EOPNOTSUPP | EAFNOSUPPORT | ENOENT), Some(Step::Rule(rule))) => {
                if rule.when.contains(&Match::NotLocal) {
                    missing(FIB)
                } else if matches!(rule.then, Verdict::Redirect(_)) {
                    missing(REDIRECT)
                } else {
                    CaptureError::Refused { what: format!("the rule {rule}"), error }
                }
            }
            (_, step) => CaptureError::Refused { what: name(step), error },
        }
    }

    /// What it means that there is no netlink socket to be had.
    pub(super) fn unreachable(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(EPERM | EACCES) => CaptureError::NotPermitted,
            Some(EPROTONOSUPPORT | EAFNOSUPPORT) => {
                CaptureError::Missing { what: NETLINK.0, module: NETLINK.1 }
            }
            _ => CaptureError::Socket(error),
        }
    }
}

type Feature = (&'static str, &'static str);

const NETLINK: Feature = ("netfilter netlink", "module nfnetlink, CONFIG_NETFILTER_NETLINK");
const NF_TABLES: Feature = ("nftables", "module nf_tables, CONFIG_NF_TABLES");
const INET: Feature = ("nftables for IPv4 and IPv6 together", "CONFIG_NF_TABLES_INET");
const NAT: Feature =
    ("nftables NAT for IPv4 and IPv6 together", "Linux 5.2 or later, module nft_chain_nat, CONFIG_NFT_NAT");
const FIB: Feature = ("nftables fib expression", "module nft_fib_inet, CONFIG_NFT_FIB_INET");
const REDIRECT: Feature = ("nftables redirect expression", "module nft_redir, CONFIG_NFT_REDIR");

fn name(step: Option<&Step>) -> String {
    match step {
        None | Some(Step::Transaction) => "the transaction".to_owned(),
        Some(Step::Table) => "the table".to_owned(),
        Some(Step::Chain(name)) => format!("the chain {name}"),
        Some(Step::Rule(rule)) => format!("the rule {rule}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::Rule;
    use super::*;

    #[test]
    fn every_refusal_says_what_is_missing() {
        let rule = |when: Vec<Match>, then| Step::Rule(Rule { when, then });
        let cases = [
            (Some(Step::Transaction), EPERM, "NET_ADMIN"),
            (Some(Step::Transaction), EOPNOTSUPP, "module nf_tables"),
            (None, EOPNOTSUPP, "module nf_tables"),
            (Some(Step::Table), EOPNOTSUPP, "CONFIG_NF_TABLES_INET"),
            (Some(Step::Table), EAFNOSUPPORT, "CONFIG_NF_TABLES_INET"),
            (Some(Step::Chain("inbound")), ENOENT, "nft_chain_nat"),
            (Some(rule(vec![Match::NotLocal], Verdict::Return)), ENOENT, "nft_fib_inet"),
            (Some(rule(vec![Match::Tcp], Verdict::Redirect(1))), ENOENT, "nft_redir"),
            (Some(rule(vec![Match::Uid(5)], Verdict::Return)), ENOENT, "the rule meta skuid 5 return"),
            (Some(Step::Chain("inbound")), 22, "the chain inbound: Invalid argument"),
        ];
        for (step, number, says) in cases {
            let error = CaptureError::refused(step.as_ref(), io::Error::from_raw_os_error(number));
            assert!(error.to_string().contains(says), "{step:?} {number}: {error}");
        }
        let gone = CaptureError::unreachable(io::Error::from_raw_os_error(EPROTONOSUPPORT));
        assert!(gone.to_string().contains("nfnetlink"), "{gone}");
    }
}
