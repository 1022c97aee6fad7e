//! The `ot` member of `tracestate`, in which samplers tell each other how likely a trace was to be
//! kept (OpenTelemetry "TraceState Handling" and "TraceState: Probability Sampling", both in
//! development).
//!
//! The value is a list of sub-keys such as `th:fd70a4;rv:6e6d1a75832a2f`. A threshold says which
//! part of the 56-bit range is rejected, a random value replaces the low 56 bits of the trace id in
//! that comparison.

use opentelemetry::trace::TraceId;

use super::{encode_hex, read_hex};

/// The key of the member in `tracestate`.
pub const KEY: &str = "ot";

/// The longest value of the member, in bytes.
pub const MAX_BYTES: usize = 256;

/// The number of different thresholds and random values, 2^56.
pub const RANGE: u64 = 1 << 56;

/// The hexadecimal digits of a 56-bit number.
const DIGITS: usize = 14;

/// What the `ot` member says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OtelState {
    /// `th`: the trace is kept where its randomness is not below this. 0 keeps all; values from
    /// [`RANGE`] up cannot be written and are left out. `None` means that the probability is not
    /// known.
    pub threshold: Option<u64>,
    /// `rv`: the randomness that all samplers of this trace use, below [`RANGE`]. Once set it must
    /// not be changed.
    pub random: Option<u64>,
    /// All other sub-keys in the order in which they came, joined by semicolons.
    other: Box<str>,
}

impl OtelState {
    /// Reads the value of the `ot` member.
    ///
    /// `None` means that it is not a list of distinct sub-keys of at most 256 bytes. A `th` that is
    /// not 1 to 14 hexadecimal digits or an `rv` that is not 14 lower-case ones is dropped and the
    /// rest is kept: the probability is then unknown, which is the safe reading.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        if value.len() > MAX_BYTES {
            return None;
        }
        let mut state = Self::default();
        let mut other = String::new();
        for (index, part) in value.split(';').enumerate() {
            let (key, text) = part.split_once(':')?;
            if !valid_key(key) || !valid_value(text) || keys(value).take(index).any(|before| before == key) {
                return None;
            }
            match key {
                "th" => state.threshold = read_threshold(text),
                "rv" => state.random = read_random(text),
                _ => push_part(&mut other, part),
            }
        }
        state.other = other.into_boxed_str();
        Some(state)
    }

    /// The 56 bits to compare with a threshold: `rv` if there is one, else the low bits of the
    /// trace id.
    #[must_use]
    pub fn randomness(&self, trace_id: TraceId) -> u64 {
        let low_bits = u128::from_be_bytes(trace_id.to_bytes()) as u64;
        self.random.unwrap_or(low_bits) % RANGE
    }

    /// The value to write, empty if there is nothing to say. See
    /// [`encode_into`](Self::encode_into).
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::new();
        self.encode_into(&mut out);
        out
    }

    /// Appends the value to write: `th`, `rv`, then the other sub-keys as they came.
    ///
    /// The result has at most 256 bytes. Where a sub-key that was set after reading does not fit
    /// beside the unknown ones, the unknown ones stay and `th` is left out, then `rv`: a missing
    /// threshold is honest, a cut list is not.
    pub fn encode_into(&self, out: &mut String) {
        let mut buffer = [0; DIGITS];
        let threshold = self.threshold.and_then(|number| digits(number, &mut buffer)).map(trim_zeros);
        let mut buffer = [0; DIGITS];
        let random = self.random.and_then(|number| digits(number, &mut buffer));

        let mut room = MAX_BYTES.saturating_sub(self.other.len());
        let random = random.filter(|text| fits("rv", text, &mut room));
        let threshold = threshold.filter(|text| fits("th", text, &mut room));

        let start = out.len();
        for (key, text) in [("th:", threshold), ("rv:", random), ("", Some(&*self.other))] {
            let Some(text) = text.filter(|text| !text.is_empty()) else {
                continue;
            };
            if out.len() > start {
                out.push(';');
            }
            out.push_str(key);
            out.push_str(text);
        }
    }
}

fn keys(value: &str) -> impl Iterator<Item = &str> {
    value.split(';').filter_map(|part| Some(part.split_once(':')?.0))
}

fn valid_key(key: &str) -> bool {
    key.starts_with(|first: char| first.is_ascii_lowercase())
        && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn valid_value(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Reads a threshold, whose missing digits on the right are zeros. Unlike `rv` it may be in upper
/// case.
fn read_threshold(text: &str) -> Option<u64> {
    let mut padded = [b'0'; DIGITS];
    padded.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
    padded.make_ascii_lowercase();
    read_hex(&padded).filter(|_| !text.is_empty())
}

fn read_random(text: &str) -> Option<u64> {
    read_hex(text.as_bytes()).filter(|_| text.len() == DIGITS)
}

fn push_part(list: &mut String, part: &str) {
    if !list.is_empty() {
        list.push(';');
    }
    list.push_str(part);
}

/// The 14 digits of a number below [`RANGE`].
fn digits(number: u64, buffer: &mut [u8; DIGITS]) -> Option<&str> {
    encode_hex(&number.to_be_bytes()[1..], buffer);
    std::str::from_utf8(buffer).ok().filter(|_| number < RANGE)
}

/// Removes the zeros on the right that a reader puts back, but leaves one digit.
fn trim_zeros(text: &str) -> &str {
    let trimmed = text.trim_end_matches('0');
    if trimmed.is_empty() { "0" } else { trimmed }
}

/// Takes the room that `key:text` and a semicolon need, if there is enough.
fn fits(key: &str, text: &str, room: &mut usize) -> bool {
    let needed = key.len() + 1 + text.len() + 1;
    let left = room.checked_sub(needed);
    *room = left.unwrap_or(*room);
    left.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(value: &str) -> Option<(Option<u64>, Option<u64>, Box<str>)> {
        OtelState::parse(value).map(|state| (state.threshold, state.random, state.other))
    }

    #[test]
    fn reads_thresholds_random_values_and_the_rest() {
        for (value, threshold, random, other) in [
            ("th:0", Some(0), None, ""),
            ("th:00000000000000", Some(0), None, ""),
            ("th:c", Some(0xc0_0000_0000_0000), None, ""),
            ("th:C", Some(0xc0_0000_0000_0000), None, ""),
            ("th:fd70a4", Some(0xfd_70a4_0000_0000), None, ""),
            ("th:ffffffffffffff", Some(RANGE - 1), None, ""),
            ("rv:6e6d1a75832a2f", None, Some(0x6e_6d1a_7583_2a2f), ""),
            ("rv:00000000000000;th:8", Some(0x80_0000_0000_0000), Some(0), ""),
            ("p:8;r:62", None, None, "p:8;r:62"),
            (
                "x1:A.b_c-;th:8;y:;rv:6e6d1a75832a2f;z:1",
                Some(1 << 55),
                Some(0x6e_6d1a_7583_2a2f),
                "x1:A.b_c-;y:;z:1",
            ),
        ] {
            assert_eq!(parsed(value), Some((threshold, random, other.into())), "{value}");
        }
    }

    #[test]
    fn drops_a_bad_threshold_or_random_value_alone() {
        for bad in [
            "th:",
            "th:g",
            "th:-1",
            "th:123456789012345",
            "rv:",
            "rv:6e6d1a75832a2",
            "rv:6e6d1a75832a2f0",
            "rv:6E6D1A75832A2F",
        ] {
            assert_eq!(parsed(&format!("a:1;{bad}")), Some((None, None, "a:1".into())), "{bad}");
        }
    }

    #[test]
    fn refuses_what_is_no_list_of_distinct_sub_keys() {
        for bad in [
            "",
            ";",
            "th",
            "th:0;",
            ";th:0",
            "th:0;;rv:6e6d1a75832a2f",
            "th=0",
            "th:0:0",
            "TH:0",
            "1a:0",
            ":0",
            "t-h:0",
            "a: 1",
            " a:1",
            "a:\u{e9}",
            "th:0;th:0",
            "th:z;th:0",
            "a:1;b:2;a:1",
        ] {
            assert_eq!(parsed(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn writes_the_shortest_form() {
        for (given, wanted) in [
            ("th:00", "th:0"),
            ("th:C000", "th:c"),
            ("th:fd70a40", "th:fd70a4"),
            ("th:0000000000000f", "th:0000000000000f"),
            ("p:8;rv:6e6d1a75832a2f;r:62;th:80", "th:8;rv:6e6d1a75832a2f;p:8;r:62"),
            ("th:z", ""),
        ] {
            let state = OtelState::parse(given).unwrap();
            assert_eq!(state.encode(), wanted, "{given}");
        }
        assert_eq!(OtelState::default().encode(), "");
        let beyond = OtelState { threshold: Some(RANGE), random: Some(u64::MAX), ..OtelState::default() };
        assert_eq!(beyond.encode(), "");
        let mut out = String::from("ot=");
        OtelState { threshold: Some(0), ..beyond }.encode_into(&mut out);
        assert_eq!(out, "ot=th:0");
    }

    #[test]
    fn a_value_has_256_bytes_at_most() {
        let most = format!("a:{}", "1".repeat(MAX_BYTES - 2));
        let mut state = OtelState::parse(&most).unwrap();
        assert_eq!(OtelState::parse(&format!("{most}1")), None);
        assert_eq!(state.encode(), most);

        // Nothing fits beside it, so what is unknown to us stays alone.
        (state.threshold, state.random) = (Some(1), Some(1));
        assert_eq!(state.encode(), most);

        // Room for `;rv:` and 14 digits, but for nothing else.
        let mut state = OtelState::parse(&format!("a:{}", "1".repeat(MAX_BYTES - 2 - 18))).unwrap();
        (state.threshold, state.random) = (Some(1), Some(1));
        assert!(state.encode().starts_with("rv:00000000000001;a:1"));
        assert_eq!(state.encode().len(), MAX_BYTES);

        // One byte less.
        let crowded = format!("a:{}", "1".repeat(MAX_BYTES - 2 - 17));
        let mut state = OtelState::parse(&crowded).unwrap();
        state.random = Some(1);
        assert_eq!(state.encode(), crowded);
    }

    #[test]
    fn randomness_is_rv_or_the_low_bits_of_the_trace_id() {
        let trace_id = TraceId::from(0x1234_5678_9012_3456_7890_1234_5678_9012);
        assert_eq!(OtelState::default().randomness(trace_id), 0x90_1234_5678_9012);
        let explicit = OtelState { random: Some(7), ..OtelState::default() };
        assert_eq!(explicit.randomness(trace_id), 7);
        assert!(OtelState { random: Some(u64::MAX), ..explicit }.randomness(trace_id) < RANGE);
    }
}
