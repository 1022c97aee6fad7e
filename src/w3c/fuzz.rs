//! One function that feeds bytes to every codec of this module and checks what must hold for any
//! input. It is driven by the fuzz target and by the seeded test below; nothing else calls it.

use super::b3::{self, B3Context};
use super::baggage::{self, Baggage};
use super::ot::{self, OtelState};
use super::traceparent::Traceparent;
use super::tracestate::{self, Tracestate, compose};

/// Reads `data` as every kind of value, with its lines as the values of repeated headers, and
/// panics if an invariant does not hold.
#[doc(hidden)]
pub fn fuzz_w3c(data: &[u8]) {
    let lines = || data.split(|byte| *byte == b'\n');
    for line in lines() {
        check_traceparent(line);
        check_b3_single(line);
    }
    check_b3_multi(lines());
    check_ot(data);
    check_tracestate(lines());
    check_baggage(lines());
}

fn check_traceparent(value: &[u8]) {
    let Some(parsed) = Traceparent::parse(value) else {
        return;
    };
    let encoded = parsed.encode();
    assert_eq!(Traceparent::parse(&encoded), Some(parsed));
    assert_eq!(encoded[2..53], value[2..53]);
}

fn check_b3_single(value: &[u8]) {
    let Some(parsed) = b3::extract_single(value) else {
        return;
    };
    assert_eq!(parsed.trace_id.is_some(), parsed.span_id.is_some());
    let mut encoded = Vec::new();
    parsed.encode_single(&mut encoded);
    assert!(encoded.len() <= b3::MAX_SINGLE_BYTES);
    assert_eq!(b3::extract_single(&encoded), Some(parsed));
    check_b3_as_multi(parsed);
}

fn check_b3_multi<'a>(mut lines: impl Iterator<Item = &'a [u8]>) {
    // An empty line stands for a header that is missing.
    let mut next = || lines.next().filter(|line| !line.is_empty());
    let (trace_id, span_id, sampled, flags) = (next(), next(), next(), next());
    if let Some(parsed) = b3::extract_multi(trace_id, span_id, sampled, flags) {
        check_b3_as_multi(parsed);
    }
}

fn check_b3_as_multi(parsed: B3Context) {
    let headers = parsed.encode_multi();
    let again = b3::extract_multi(
        headers.trace_id.as_ref().map(<[u8; 32]>::as_slice),
        headers.span_id.as_ref().map(<[u8; 16]>::as_slice),
        headers.sampled.as_ref().map(<[u8; 1]>::as_slice),
        headers.flags.as_ref().map(<[u8; 1]>::as_slice),
    );
    assert_eq!(again, Some(parsed));
}

fn check_ot(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Some(mut state) = OtelState::parse(text) else {
        return;
    };
    let encoded = state.encode();
    assert!(encoded.len() <= ot::MAX_BYTES);
    if !encoded.is_empty() {
        assert_eq!(OtelState::parse(&encoded).as_ref(), Some(&state));
    }
    state.threshold = Some(ot::RANGE - 1);
    state.random = Some(0);
    let grown = state.encode();
    assert!(grown.len() <= ot::MAX_BYTES && OtelState::parse(&grown).is_some());
}

fn check_tracestate<'a>(lines: impl Iterator<Item = &'a [u8]>) {
    let Some(parsed) = Tracestate::parse(lines) else {
        return check_composed(&[("mt", "1")], None);
    };
    let text = parsed.as_str();
    assert_eq!(Tracestate::parse([text.as_bytes()]).as_ref(), Some(&parsed));
    assert!((1..=tracestate::MAX_MEMBERS).contains(&parsed.members().count()));
    assert_eq!(
        parsed.members().map(|(key, value)| key.len() + value.len() + 2).sum::<usize>(),
        text.len() + 1
    );
    for (key, value) in parsed.members() {
        assert_eq!(parsed.get(key), Some(value));
    }
    check_composed(&[], Some(&parsed));
    check_composed(&[("mt", "0123456789abcdef"), ("ot", "th:c")], Some(&parsed));
    if let Some((key, value)) = parsed.members().last() {
        check_composed(&[(key, value)], Some(&parsed));
        check_composed(&[(key, "")], Some(&parsed));
    }
}

fn check_composed(own: &[(&str, &str)], rest: Option<&Tracestate>) {
    let mut out = b"before".to_vec();
    compose(own, rest, &mut out);
    let written = &out["before".len()..];
    assert!(written.len() <= tracestate::MAX_BYTES);
    let parsed = Tracestate::parse([written]);
    assert_eq!(parsed.as_ref().map_or("", Tracestate::as_str).as_bytes(), written);

    for (erased, _) in own.iter().filter(|(_, value)| value.is_empty()) {
        assert_eq!(parsed.as_ref().and_then(|list| list.get(erased)), None);
    }
    // What was written is a subsequence of what was given, own members first.
    let received = rest.into_iter().flat_map(Tracestate::members);
    let mut given = own.iter().copied().chain(received).filter(|(_, value)| !value.is_empty());
    for member in parsed.iter().flat_map(Tracestate::members) {
        assert!(given.any(|candidate| candidate == member));
    }
}

fn check_baggage<'a>(lines: impl Iterator<Item = &'a [u8]> + Clone) {
    let given = lines.clone().map(<[u8]>::len).sum::<usize>() + lines.clone().count();
    let Some(mut parsed) = Baggage::parse(lines) else {
        return;
    };
    assert!(parsed.as_str().len() <= baggage::MAX_BYTES.min(given));
    assert!((1..=baggage::MAX_MEMBERS).contains(&parsed.members().count()));
    assert_eq!(Baggage::parse([parsed.as_str().as_bytes()]).as_ref(), Some(&parsed));
    for member in parsed.members() {
        assert!(parsed.get(member.key).is_some());
        assert!(member.decoded().len() <= 3 * member.value.len());
        assert!(member.properties().all(|(key, _)| !key.is_empty()));
    }

    let before = parsed.clone();
    let value = before.members().map(|member| member.decoded()).collect::<String>();
    let key = before.members().last().map_or("k", |member| member.key);
    if parsed.set(key, &value) {
        assert_eq!(parsed.get(key).as_deref(), Some(value.as_str()));
        assert_eq!(Baggage::parse([parsed.as_str().as_bytes()]).as_ref(), Some(&parsed));
    } else {
        assert_eq!(parsed, before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that reach deep into each codec; the test spoils them step by step.
    const SEEDS: &[&[u8]] = &[
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03",
        b"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-later",
        b"80f198ee56343ba864fe8b2a57d3eff7-05e3ac9a4f6e3b90-1-e457b5a2e4d86bd1",
        b"64fe8b2a57d3eff7-05e3ac9a4f6e3b90-d",
        b"80f198ee56343ba864fe8b2a57d3eff7\n05e3ac9a4f6e3b90\n1\n1",
        b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE, ot=th:fd70a4;rv:6e6d1a75832a2f",
        b"foo=1 , bar= 2,\n,foo=3\nvendor@tenant*/_-=~!",
        b"th:c;rv:6e6d1a75832a2f;p:8;r:62",
        b"userId=alice,serverNode = DF%2028 ; p ; q=%C3%A9, isProduction=false\nuserId=bob",
        b"k=%ff%zz%,k2=dGVzdA==;;,k3=\"x\"",
    ];

    /// Bytes that mean something to at least one grammar.
    const TOKENS: &[u8] = b"0123456789abcdfghovrt-=,;:% \t\n@~dZ\x00\x7f\xff";

    /// A xorshift generator: the same cases on every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as usize % limit.max(1)
        }

        fn mutate(&mut self, data: &mut Vec<u8>) {
            let at = self.below(data.len());
            let token = TOKENS[self.below(TOKENS.len())];
            match self.below(6) {
                0 => data.insert(at, token),
                1 if !data.is_empty() => drop(data.remove(at)),
                2 if !data.is_empty() => data[at] ^= 1 << self.below(8),
                3 => data.truncate(at),
                4 => {
                    // Repeating a part is what reaches the limits.
                    let end = at + self.below(data.len() - at);
                    let part = data[at..end].to_vec();
                    data.splice(at..at, part);
                }
                _ if !data.is_empty() => data[at] = token,
                _ => {}
            }
        }
    }

    #[test]
    fn seeds_and_their_mutations_hold_the_invariants() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for seed in SEEDS {
            fuzz_w3c(seed);
            for _ in 0..1_000 {
                let mut data = seed.to_vec();
                for _ in 0..=random.below(8) {
                    random.mutate(&mut data);
                    fuzz_w3c(&data);
                }
            }
        }
    }

    #[test]
    fn random_lists_hold_the_limits() {
        let mut random = Random(0x1234_5678_9abc_def1);
        for _ in 0..500 {
            let mut list = Vec::new();
            for index in 0..random.below(70) {
                let length = [3, 20, 120, 130, 250][random.below(5)] + random.below(8);
                list.extend_from_slice(format!("k{}={},", index % 60, "v".repeat(length)).as_bytes());
            }
            fuzz_w3c(&list);
        }
    }
}
