//! What two sidecars say to each other about a trace that neither of them
//! records, so that both keep it when it turns out to be worth keeping: a mark
//! on the way there, a header field on the way back, and notices afterwards.
//!
//! All of it comes from the network, and nothing here trusts it: what is not
//! exactly of the form that is described is as if it were not there.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use opentelemetry::trace::{SpanId, TraceId};

/// Follows our span in our member of `tracestate` where the shim vouches for the context.
pub const SHIM_MARK: &str = ";s";

/// Follows our span there, with the port for notices, where the sidecar of the
/// caller wants to hear of a trace that is kept. Port 0 takes no notices.
pub const NOTICE_MARK: &str = ";n";

/// Follows that, with the address from which the sidecar of the caller sees
/// itself calling. What stands between the two may call from another one.
pub const ADDRESS_MARK: &str = ";a";

/// The longest text of both: a port, and an address of IPv6 that ends like one of IPv4.
const MAX_MARKS_BYTES: usize = NOTICE_MARK.len() + 5 + ADDRESS_MARK.len() + 45;

/// The field of a response in which a sidecar answers one that left that mark.
pub const FIELD: &str = "meshtrace-hop";

/// The longest value of [`FIELD`] that is read.
const MAX_FIELD_BYTES: usize = 96;

/// What our member of `tracestate` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The span of the sidecar that wrote it.
    pub span: SpanId,
    /// Whether our shim passed it on.
    pub shim: bool,
    /// Where the sidecar that wrote it takes notices.
    pub notices: Option<u16>,
    /// Its own address, as it says.
    pub address: Option<IpAddr>,
}

/// Where the sidecar of a caller says that it takes notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listens {
    /// The port; 0 takes none.
    pub port: u16,
    /// The address.
    pub address: Option<IpAddr>,
}

/// The marks that say so, in a buffer.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    bytes: [u8; MAX_MARKS_BYTES],
    length: usize,
}

impl Marks {
    /// Writes them.
    pub fn of(listens: Listens) -> Self {
        let mut bytes = [0; MAX_MARKS_BYTES];
        let mut rest = &mut bytes[..];
        let Listens { port, address } = listens;
        // Both fit.
        let _ = match address {
            Some(address) => write!(rest, "{NOTICE_MARK}{port}{ADDRESS_MARK}{address}"),
            None => write!(rest, "{NOTICE_MARK}{port}"),
        };
        let length = MAX_MARKS_BYTES - rest.len();
        Marks { bytes, length }
    }

    /// Their text.
    pub fn as_str(&self) -> &str {
        self.bytes.get(..self.length).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
    }
}

impl Member {
    /// Reads the value of our member: 16 lower-case hexadecimal digits, and
    /// after them each mark at most once. Another one is not ours.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, mut rest) = text.split_at_checked(16)?;
        // The parser of the id also takes signs, which no id has.
        let is_id = id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let span = SpanId::from_hex(id).ok().filter(|id| is_id && *id != SpanId::INVALID)?;
        let mut member = Member { span, shim: false, notices: None, address: None };
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix(SHIM_MARK).filter(|_| !member.shim) {
                member.shim = true;
                rest = after;
            } else if let Some(after) = rest.strip_prefix(ADDRESS_MARK).filter(|_| member.address.is_none()) {
                let end = after.find(';').unwrap_or(after.len());
                let (address, after) = after.split_at_checked(end)?;
                member.address = Some(address.parse().ok()?);
                rest = after;
            } else {
                let after = rest.strip_prefix(NOTICE_MARK).filter(|_| member.notices.is_none())?;
                let digits = after.bytes().take_while(u8::is_ascii_digit).count();
                let (port, after) = after.split_at_checked(digits)?;
                member.notices = Some(port.parse().ok()?);
                rest = after;
            }
        }
        Some(member)
    }

    /// Whether it says more than its span, which is between two hops only.
    pub fn is_marked(&self) -> bool {
        self.shim || self.notices.is_some() || self.address.is_some()
    }
}

/// What the sidecar of a server answers that of its caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Where it takes notices; the caller may have reached it through the
    /// address of a service.
    pub at: Option<SocketAddr>,
    /// Whether the trace of the request is kept.
    pub kept: bool,
}

impl Said {
    /// Reads a value of [`FIELD`]: an address or `-`, and after it, divided by
    /// `;`, what else there is to say. Words that are not known are left out.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok().filter(|text| text.len() <= MAX_FIELD_BYTES)?;
        let mut parts = text.split(';');
        let at = match parts.next()? {
            "-" => None,
            address => Some(address.parse().ok()?),
        };
        Some(Said { at, kept: parts.any(|word| word == "kept") })
    }

    /// Writes a value of [`FIELD`].
    pub fn encode(&self) -> String {
        let mut text = self.at.map_or_else(|| "-".to_owned(), |address| address.to_string());
        if self.kept {
            text.push_str(";kept");
        }
        text
    }
}

/// What a notice begins with: what it is, and its version.
const MAGIC: &[u8; 4] = b"mtk1";

/// The most traces that one notice names: it fits into any packet.
pub const MAX_TRACES: usize = 64;

/// The longest notice, in bytes.
pub const MAX_NOTICE_BYTES: usize = MAGIC.len() + 16 * MAX_TRACES;

/// Writes a notice that these traces are kept, of which only [`MAX_TRACES`] fit.
pub fn encode_notice(traces: &[TraceId]) -> Vec<u8> {
    let mut notice = MAGIC.to_vec();
    notice.extend(traces.iter().take(MAX_TRACES).flat_map(|trace| trace.to_bytes()));
    notice
}

/// Reads a notice: its beginning, and then nothing but whole ids that are valid.
pub fn parse_notice(bytes: &[u8]) -> Option<impl Iterator<Item = TraceId>> {
    let (ids, rest) = bytes.strip_prefix(MAGIC)?.as_chunks::<16>();
    let fits = rest.is_empty() && (1..=MAX_TRACES).contains(&ids.len());
    let valid = ids.iter().all(|id| TraceId::from_bytes(*id) != TraceId::INVALID);
    (fits && valid).then(|| ids.iter().map(|id| TraceId::from_bytes(*id)))
}

/// The address to which notices for somebody go whose own address is `ip`, as
/// the connection with them says, and who names `said` for it. What leads out
/// of the network or, from another machine, to this one is none.
pub fn neighbour(said: SocketAddr, peer: IpAddr, is_private: impl Fn(IpAddr) -> bool) -> Option<SocketAddr> {
    let (said_ip, peer) = (said.ip().to_canonical(), peer.to_canonical());
    let leads_here = said_ip.is_loopback() && !peer.is_loopback();
    let fits = said.port() != 0 && is_private(said_ip) && is_private(peer) && !leads_here;
    fits.then(|| SocketAddr::new(said_ip, said.port()))
}

/// Reads `data` in each of the ways that sidecars read what others say.
///
/// # Panics
///
/// When something that was understood is not understood the same once it is
/// written again, or is longer than it may be.
#[doc(hidden)]
pub fn fuzz_hop(data: &[u8]) {
    if let Some(traces) = parse_notice(data) {
        let traces: Vec<_> = traces.collect();
        assert!(traces.len() <= MAX_TRACES && data.len() <= MAX_NOTICE_BYTES);
        assert_eq!(encode_notice(&traces), data);
    }
    if let Some(said) = Said::parse(data) {
        assert_eq!(Said::parse(said.encode().as_bytes()), Some(said));
    }
    if let Some(member) = std::str::from_utf8(data).ok().and_then(Member::parse) {
        let mut text = member.span.to_string();
        match (member.notices, member.address) {
            (Some(port), address) => text.push_str(Marks::of(Listens { port, address }).as_str()),
            (None, Some(address)) => text.push_str(&format!("{ADDRESS_MARK}{address}")),
            (None, None) => {}
        }
        if member.shim {
            text.push_str(SHIM_MARK);
        }
        assert_eq!(Member::parse(&text), Some(member));
        assert!(member.is_marked() == (text.len() > 16));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00f067aa0ba902b7";

    #[test]
    fn a_member_is_a_span_and_known_marks() {
        let span = SpanId::from_hex(ID).unwrap();
        let member = |shim, notices| Some(Member { span, shim, notices, address: None });
        let at = |notices, address: &str| {
            Some(Member { span, shim: false, notices, address: address.parse().ok() })
        };
        let cases = [
            ("", member(false, None)),
            (";s", member(true, None)),
            (";n14020", member(false, Some(14020))),
            (";n0", member(false, Some(0))),
            (";n14020;s", member(true, Some(14020))),
            (";s;n1", member(true, Some(1))),
            (";n14020;a10.0.0.7", at(Some(14020), "10.0.0.7")),
            (";n14020;afd00::1", at(Some(14020), "fd00::1")),
            (";a10.0.0.7;n1", at(Some(1), "10.0.0.7")),
            (";a10.0.0.7", at(None, "10.0.0.7")),
            (";a", None),
            (";a10.0.0", None),
            (";a10.0.0.7:1", None),
            (";a10.0.0.7;a10.0.0.7", None),
            (";apod", None),
            (";t", None),
            (";", None),
            (";s;s", None),
            (";n", None),
            (";n1;n2", None),
            (";n65536", None),
            (";n+1", None),
            (";n1x", None),
        ];
        for (marks, expected) in cases {
            assert_eq!(Member::parse(&format!("{ID}{marks}")), expected, "{marks}");
        }
        for text in ["", "1", "+0f067aa0ba902b7", "0000000000000000", "00F067AA0BA902B7", "00f067aa0ba902b"] {
            assert_eq!(Member::parse(text), None, "{text}");
        }
    }

    #[test]
    fn marks_have_room_for_any_address() {
        for address in [None, "10.0.0.7".parse().ok(), "1111:2222:3333:4444:5555:6666:7777:8888".parse().ok()]
        {
            let listens = Listens { port: 65_535, address };
            let member = Member::parse(&format!("{ID}{}", Marks::of(listens).as_str())).unwrap();
            assert_eq!((member.notices, member.address), (Some(65_535), address));
        }
        // With its key the member is far from the length at which others may drop it first.
        assert!("mt=".len() + ID.len() + MAX_MARKS_BYTES + SHIM_MARK.len() < 128);
    }

    #[test]
    fn what_is_said_back_is_an_address_and_words() {
        let at = |text: &str| text.parse().ok();
        let cases: [(&str, Option<Said>); 9] = [
            ("10.0.0.7:14020", Some(Said { at: at("10.0.0.7:14020"), kept: false })),
            ("[fd00::1]:14020;kept", Some(Said { at: at("[fd00::1]:14020"), kept: true })),
            ("-;kept", Some(Said { at: None, kept: true })),
            ("-", Some(Said::default())),
            ("-;later;kept", Some(Said { at: None, kept: true })),
            ("", None),
            ("kept", None),
            ("10.0.0.7", None),
            ("name:14020;kept", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Said::parse(text.as_bytes()), expected, "{text}");
        }
        let long = format!("-;{}", "x".repeat(MAX_FIELD_BYTES));
        assert_eq!(Said::parse(long.as_bytes()), None);
    }

    #[test]
    fn a_notice_is_whole_or_nothing() {
        let traces: Vec<_> = (1..=100).map(|n| TraceId::from_bytes([n; 16])).collect();
        let notice = encode_notice(&traces);
        assert_eq!(notice.len(), MAX_NOTICE_BYTES);
        assert!(parse_notice(&notice).unwrap().eq(traces[..MAX_TRACES].iter().copied()));
        let wrong = [
            notice[..notice.len() - 1].to_vec(),
            notice[1..].to_vec(),
            [&notice[..], &[1; 16]].concat(),
            MAGIC.to_vec(),
            [&MAGIC[..], &[0; 16]].concat(),
            Vec::new(),
        ];
        assert!(wrong.iter().all(|bytes| parse_notice(bytes).is_none()));
    }

    #[test]
    fn notices_stay_in_the_network() {
        let private = |ip: IpAddr| matches!(ip, IpAddr::V4(v4) if v4.is_private() || v4.is_loopback());
        let to = |said: &str, peer: &str| neighbour(said.parse().unwrap(), peer.parse().unwrap(), private);
        assert_eq!(to("10.0.0.7:1", "10.96.0.1"), "10.0.0.7:1".parse().ok());
        assert_eq!(to("[::ffff:10.0.0.7]:1", "::ffff:10.0.0.7"), "10.0.0.7:1".parse().ok());
        assert_eq!(to("127.0.0.1:1", "127.0.0.1"), "127.0.0.1:1".parse().ok());
        for (said, peer) in [
            ("10.0.0.7:0", "10.0.0.7"),
            ("127.0.0.1:1", "10.0.0.7"),
            ("8.8.8.8:53", "10.0.0.7"),
            ("10.0.0.7:1", "8.8.8.8"),
        ] {
            assert_eq!(to(said, peer), None, "{said} of {peer}");
        }
    }

    #[test]
    fn mutated_sayings_are_understood_or_not_at_all() {
        let mut state = 0x5eed_u32;
        let mut roll = |sides: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % sides
        };
        let seeds: [Vec<u8>; 4] = [
            encode_notice(&[TraceId::from_bytes([7; 16]), TraceId::from_bytes([9; 16])]),
            format!("{ID};n14020;a10.0.0.7;s").into_bytes(),
            b"10.0.0.7:14020;kept".to_vec(),
            b"[fd00::1]:14020;more;kept".to_vec(),
        ];
        for _ in 0..20_000 {
            let mut data = seeds[roll(seeds.len())].clone();
            for _ in 0..1 + roll(3) {
                let at = roll(data.len());
                match roll(4) {
                    0 => data[at] = roll(256) as u8,
                    1 => data[at] ^= 1 << roll(8),
                    2 => data.truncate(at + 1),
                    _ => data.insert(at, b";n0s:kept-a."[roll(12)]),
                }
            }
            fuzz_hop(&data);
        }
    }
}
