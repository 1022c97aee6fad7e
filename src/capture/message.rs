//! The rules as messages of nfnetlink, in the binary form of Linux'
//! `nfnetlink.h` and `nf_tables.h`: headers in host byte order, attributes of
//! a length and a type, aligned to four bytes, numbers in network byte order.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::plan::{Chain, Hook, LOOPBACK, Match, Rule, TABLE, Verdict, chains};
use super::rules::{Network, Rules};

/// `NFNL_SUBSYS_NFTABLES`, and the brackets around a transaction.
const NFTABLES: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

/// `NFPROTO_UNSPEC`, and `NFPROTO_INET`: IPv4 and IPv6 in one table.
const FAMILY_NONE: u8 = 0;
const FAMILY_INET: u8 = 1;

const NEWTABLE: u16 = 0;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const NEWRULE: u16 = 6;

/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_CREATE`, `NLM_F_APPEND`.
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

/// The bit in the type of an attribute that holds others.
const NESTED: u16 = 0x8000;

/// The length of a netlink header.
const HEADER: usize = 16;

/// The register that values are loaded into, and the one that holds the verdict.
const REGISTER: u32 = 1;
const VERDICT: u32 = 0;

/// A transaction, and what each of its messages asks for.
#[derive(Debug)]
pub(super) struct Batch {
    /// What is sent, in one piece.
    pub(super) bytes: Vec<u8>,
    /// What the messages are for, in the order of their numbers from 0.
    pub(super) steps: Vec<Step>,
}

/// What one message of a transaction asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The transaction itself.
    Transaction,
    /// The table, made or taken away.
    Table,
    /// A chain, and so the whole kind of it.
    Chain(&'static str),
    /// A rule.
    Rule(Rule),
}

/// The transaction that makes the table anew, whatever there was before.
pub(super) fn install(rules: &Rules) -> Batch {
    let mut batch = Batch::begin();
    batch.clear_table();
    batch.table(NEWTABLE, CREATE);
    for chain in chains(rules) {
        batch.chain(&chain);
        for rule in chain.rules {
            batch.rule(chain.name, rule);
        }
    }
    batch.end()
}

/// The transaction that leaves no table, whether there was one or not.
pub(super) fn remove() -> Batch {
    let mut batch = Batch::begin();
    batch.clear_table();
    batch.end()
}

impl Batch {
    fn begin() -> Self {
        let mut batch = Batch { bytes: Vec::with_capacity(8192), steps: Vec::new() };
        batch.message(BATCH_BEGIN, 0, (FAMILY_NONE, NFTABLES), Step::Transaction, |_| {});
        batch
    }

    fn end(mut self) -> Self {
        // The kernel answers for what fails anyway; for all else one answer will do.
        self.acknowledge_last();
        self.message(BATCH_END, 0, (FAMILY_NONE, NFTABLES), Step::Transaction, |_| {});
        self
    }

    /// The number of the message whose acknowledgement stands for all.
    pub(super) fn last(&self) -> u32 {
        u32::try_from(self.steps.len().saturating_sub(2)).unwrap_or(u32::MAX)
    }

    /// Deleting what does not exist is an error, so it is made first.
    fn clear_table(&mut self) {
        self.table(NEWTABLE, CREATE);
        self.table(DELTABLE, 0);
    }

    fn table(&mut self, operation: u16, flags: u16) {
        self.request(operation, flags, Step::Table, |a| a.text(1, TABLE));
    }

    fn chain(&mut self, chain: &Chain) {
        self.request(NEWCHAIN, CREATE, Step::Chain(chain.name), |a| {
            a.text(1, TABLE);
            a.text(3, chain.name);
            a.nest(4, |hook| {
                hook.number(1, if chain.hook == Hook::Prerouting { 0 } else { 3 });
                hook.number(2, chain.priority.cast_unsigned());
            });
            // The policy NF_ACCEPT.
            a.number(5, 1);
            a.text(7, "nat");
        });
    }

    fn rule(&mut self, chain: &str, rule: Rule) {
        let conditions = rule.when.clone();
        let then = rule.then;
        self.request(NEWRULE, CREATE | APPEND, Step::Rule(rule), |a| {
            a.text(1, TABLE);
            a.text(2, chain);
            a.nest(4, |list| {
                for condition in &conditions {
                    list.condition(condition);
                }
                list.verdict(then);
            });
        });
    }

    fn request(&mut self, operation: u16, flags: u16, step: Step, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.message((NFTABLES << 8) | operation, flags, (FAMILY_INET, 0), step, fill);
    }

    /// A header of netlink, one of nfnetlink, and attributes.
    fn message(
        &mut self,
        kind: u16,
        flags: u16,
        (family, resource): (u8, u16),
        step: Step,
        fill: impl FnOnce(&mut Attributes<'_>),
    ) {
        let start = self.bytes.len();
        let number = u32::try_from(self.steps.len()).unwrap_or(u32::MAX);
        self.steps.push(step);
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
        self.bytes.extend_from_slice(&number.to_ne_bytes());
        self.bytes.extend_from_slice(&0_u32.to_ne_bytes());
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        fill(&mut Attributes(&mut self.bytes));
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    fn acknowledge_last(&mut self) {
        let mut at = 0;
        // Every length was written above and leads to the next message.
        while let Some(length) = self.bytes.get(at..at + 4) {
            let length = u32::from_ne_bytes(length.try_into().unwrap_or_default()) as usize;
            if at + length.max(HEADER) >= self.bytes.len() {
                let flags = &mut self.bytes[at + 6..at + 8];
                let with = u16::from_ne_bytes([flags[0], flags[1]]) | ACK;
                flags.copy_from_slice(&with.to_ne_bytes());
            }
            at += length.max(HEADER);
        }
    }
}

/// Attributes at the end of a message under construction.
struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes);
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.0.len();
        self.bytes(kind | NESTED, &[]);
        fill(&mut Attributes(self.0));
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// An element of a rule's list: the name of an expression and its parameters.
    fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.nest(1, |element| {
            element.text(1, name);
            element.nest(2, fill);
        });
    }

    fn condition(&mut self, condition: &Match) {
        // The keys of `meta`: IIFNAME 6, OIFNAME 7, SKUID 10, L4PROTO 16.
        match condition {
            Match::FromLoopback => self.interface(6),
            Match::ToLoopback => self.interface(7),
            Match::Tcp => self.tcp(true),
            Match::NotTcp => self.tcp(false),
            Match::Port(ports) => self.port(ports),
            Match::NotLocal => {
                // The type of the destination address; RTN_LOCAL is 2.
                self.expression("fib", |fib| {
                    fib.number(1, REGISTER);
                    fib.number(2, 3);
                    fib.number(3, 2);
                });
                self.compare(false, &2_u32.to_ne_bytes());
            }
            Match::To(network) => self.destination(network),
            Match::Uid(uid) => {
                self.meta(10);
                self.compare(true, &uid.to_ne_bytes());
            }
        }
    }

    fn meta(&mut self, key: u32) {
        self.expression("meta", |meta| {
            meta.number(2, key);
            meta.number(1, REGISTER);
        });
    }

    fn compare(&mut self, equal: bool, value: &[u8]) {
        self.expression("cmp", |cmp| {
            cmp.number(1, REGISTER);
            cmp.number(2, u32::from(!equal));
            cmp.nest(3, |data| data.bytes(1, value));
        });
    }

    fn interface(&mut self, key: u32) {
        let mut name = [0; 16];
        name[..LOOPBACK.len()].copy_from_slice(LOOPBACK.as_bytes());
        self.meta(key);
        self.compare(true, &name);
    }

    fn tcp(&mut self, is: bool) {
        self.meta(16);
        self.compare(is, &[6]);
    }

    /// Loads bytes of the packet: of the network header (1) or the transport header (2).
    fn payload(&mut self, header: u32, offset: u32, length: u32) {
        self.expression("payload", |payload| {
            payload.number(1, REGISTER);
            payload.number(2, header);
            payload.number(3, offset);
            payload.number(4, length);
        });
    }

    fn port(&mut self, ports: &RangeInclusive<u16>) {
        self.tcp(true);
        self.payload(2, 2, 2);
        let (from, to) = (ports.start().to_be_bytes(), ports.end().to_be_bytes());
        if from == to {
            return self.compare(true, &from);
        }
        self.expression("range", |range| {
            range.number(1, REGISTER);
            range.number(2, 0);
            range.nest(3, |data| data.bytes(1, &from));
            range.nest(4, |data| data.bytes(1, &to));
        });
    }

    fn destination(&mut self, network: &Network) {
        // The key NFPROTO of `meta` is 15; a rule of this table sees both families.
        self.meta(15);
        match network.address() {
            IpAddr::V4(address) => {
                self.compare(true, &[2]);
                self.payload(1, 16, 4);
                let mask = u32::MAX.checked_shl(32 - u32::from(network.prefix())).unwrap_or(0);
                self.masked(&address.octets(), &mask.to_be_bytes());
            }
            IpAddr::V6(address) => {
                self.compare(true, &[10]);
                self.payload(1, 24, 16);
                let mask = u128::MAX.checked_shl(128 - u32::from(network.prefix())).unwrap_or(0);
                self.masked(&address.octets(), &mask.to_be_bytes());
            }
        }
    }

    fn masked(&mut self, address: &[u8], mask: &[u8]) {
        if mask.iter().any(|byte| *byte != 0xff) {
            self.expression("bitwise", |bitwise| {
                bitwise.number(1, REGISTER);
                bitwise.number(2, REGISTER);
                bitwise.number(3, u32::try_from(mask.len()).unwrap_or(0));
                bitwise.nest(4, |data| data.bytes(1, mask));
                bitwise.nest(5, |data| data.bytes(1, &vec![0; mask.len()]));
            });
        }
        self.compare(true, address);
    }

    fn verdict(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Return => self.expression("immediate", |immediate| {
                immediate.number(1, VERDICT);
                // NFT_RETURN
                immediate.nest(2, |data| data.nest(2, |code| code.number(1, (-5_i32).cast_unsigned())));
            }),
            Verdict::Redirect(port) => {
                self.expression("immediate", |immediate| {
                    immediate.number(1, REGISTER);
                    immediate.nest(2, |data| data.bytes(1, &port.to_be_bytes()));
                });
                self.expression("redir", |redir| {
                    redir.number(1, REGISTER);
                    // NF_NAT_RANGE_PROTO_SPECIFIED
                    redir.number(3, 2);
                });
            }
        }
    }
}
