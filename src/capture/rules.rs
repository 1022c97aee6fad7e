//! What is captured, as plain data. `Default` is what a pod gets whose owner
//! sets nothing.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// Ports and ranges of ports.
pub type Ports = Vec<RangeInclusive<u16>>;

/// The most ports and ranges, or networks, that one list may hold: each is a
/// rule that the kernel compares with every new connection.
pub const MAX_LIST: usize = 64;

/// The user that the sidecar runs as, whose traffic is not captured.
pub const UID: u32 = 14100;

/// What outbound capture leaves alone unless asked: the collector, and what
/// is encrypted or speaks no HTTP, so that nothing could be seen of it.
pub const SKIPPED_OUTBOUND: [u16; 12] = [25, 443, 587, 3306, 4317, 4318, 4444, 5432, 6379, 6443, 9300, 11211];

/// The rules of one network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The ports of the pod whose inbound connections are captured; `None`
    /// is all of them.
    pub inbound_ports: Option<Ports>,
    /// Inbound ports that are not captured even so.
    pub skip_inbound_ports: Ports,
    /// Destination ports of outbound connections that are not captured.
    pub skip_outbound_ports: Ports,
    /// The destinations of outbound connections that are captured; `None` is
    /// all of them.
    pub outbound_cidrs: Option<Vec<Network>>,
    /// Destinations of outbound connections that are not captured even so.
    pub skip_outbound_cidrs: Vec<Network>,
    /// Ports whose calls over the loopback interface are captured too, such
    /// as those of another container of the pod.
    pub capture_loopback_ports: Ports,
    /// The user of another redirecting proxy in the pod: what it brings in
    /// passes the sidecar, what it sends out does not.
    pub mesh_uid: Option<u32>,
    /// The user of the sidecar, whose connections are never captured.
    pub uid: u32,
    /// Where the sidecar takes inbound connections.
    pub redirected_inbound: u16,
    /// Where the sidecar takes outbound connections.
    pub redirected_outbound: u16,
    /// The admin port of the sidecar, if it has one; probes go there directly.
    pub admin: Option<u16>,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            inbound_ports: None,
            skip_inbound_ports: Vec::new(),
            skip_outbound_ports: SKIPPED_OUTBOUND.map(|port| port..=port).to_vec(),
            outbound_cidrs: None,
            skip_outbound_cidrs: Vec::new(),
            capture_loopback_ports: Vec::new(),
            mesh_uid: None,
            uid: UID,
            redirected_inbound: 14006,
            redirected_outbound: 14001,
            admin: Some(14020),
        }
    }
}

/// An address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// The network around an address; what lies beyond the prefix is cut off.
    /// `None` when the prefix is longer than the address.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32_u32.checked_sub(prefix.into())?).unwrap_or(0);
                IpAddr::V4((v4.to_bits() & mask).into())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128_u32.checked_sub(prefix.into())?).unwrap_or(0);
                IpAddr::V6((v6.to_bits() & mask).into())
            }
        };
        Some(Network { address, prefix })
    }

    /// The first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits count.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }
}

impl fmt::Display for Network {
    /// Writes it as nftables does: a single address without its prefix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = if self.address.is_ipv4() { 32 } else { 128 };
        match self.prefix {
            prefix if prefix == whole => write!(f, "{}", self.address),
            prefix => write!(f, "{}/{prefix}", self.address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_ends_at_its_prefix() {
        let show = |address: &str, prefix| {
            Network::new(address.parse().unwrap(), prefix).map(|network| network.to_string())
        };
        assert_eq!(show("10.1.2.3", 8).as_deref(), Some("10.0.0.0/8"));
        assert_eq!(show("10.1.2.3", 32).as_deref(), Some("10.1.2.3"));
        assert_eq!(show("10.1.2.3", 0).as_deref(), Some("0.0.0.0/0"));
        assert_eq!(show("fd00::ffff:1", 112).as_deref(), Some("fd00::ffff:0/112"));
        assert_eq!(show("fd00::1", 0).as_deref(), Some("::/0"));
        assert_eq!(show("::1", 128).as_deref(), Some("::1"));
        assert_eq!(show("10.0.0.0", 33), None);
        assert_eq!(show("::", 129), None);
    }
}
