//! What holds of the spelling of any bytes. For the fuzz target and the
//! mutation test.

use super::{Heads, Respelled};

/// Reads arbitrary bytes as requests and as a response, whole and byte by
/// byte, and has them respelled with whatever was found.
///
/// # Panics
/// When the pieces make a difference, or when more changes than the case of
/// letters in the names of one head.
pub fn check(bytes: &[u8]) {
    for kind in [Heads::of_requests, Heads::of_responses] {
        let (mut whole, mut pieces) = (kind(256), kind(256));
        whole.expect();
        pieces.expect();
        whole.saw(bytes);
        bytes.chunks(1).for_each(|byte| pieces.saw(byte));
        for _ in 0..bytes.len() / 8 + 1 {
            assert_eq!(whole.take(), pieces.take(), "pieces make a difference");
        }
        whole.expect();
        whole.saw(bytes);
        let mut lower = bytes.to_vec();
        lower_names(&mut lower);
        if let Some(head) = Respelled::of(whole.take(), &lower) {
            let head = head.rest();
            let was = &lower[..head.len()];
            assert!(head.eq_ignore_ascii_case(was), "more than case changed");
            for (at, _) in head.iter().zip(was).enumerate().filter(|(_, (new, old))| new != old) {
                let line = was[..at].iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
                assert!(line > 0 && !was[line..at].contains(&b':'), "byte {at} is in no name");
            }
        }
    }
}

fn lower_names(bytes: &mut [u8]) {
    for line in bytes.split_mut(|byte| *byte == b'\n').skip(1) {
        let name = line.iter().position(|byte| *byte == b':').unwrap_or(0);
        line[..name].make_ascii_lowercase();
    }
}
