//! Looks at 64 bytes at once with the widest vectors that the processor has.
//!
//! x86-64 alone has much wider ones than its oldest processors do (AVX2), so there they are asked
//! for at run time; the crate `fearless_simd` hands out the proof that they are there, and lets
//! code run that is compiled for them. Everywhere else vectors of 16 bytes do.

use super::block::{self, BLOCK, Block};

/// Two blocks, which are looked at together where nothing is expected in them.
pub(super) const PAIR: usize = 2 * BLOCK;

/// A way to look at blocks. Its functions are inlined, so that all that is done with one is
/// compiled for it.
pub(super) trait Lanes: Copy {
    /// The bytes that are `wanted` once the bits `set` are set in them.
    fn equal_with(self, block: &Block, set: u8, wanted: u8) -> u64;

    /// The bytes that are `wanted`.
    #[inline(always)]
    fn equal(self, block: &Block, wanted: u8) -> u64 {
        self.equal_with(block, 0, wanted)
    }

    /// Whether any byte is `one`, or `other` once the bits `set` are set in it.
    fn has_either(self, block: &Block, one: u8, set: u8, other: u8) -> bool;

    /// Whether any byte of two blocks is `wanted`.
    fn has(self, pair: &[u8; PAIR], wanted: u8) -> bool;
}

/// The vectors that every processor of its kind has.
#[derive(Clone, Copy)]
pub(super) struct Plain;

impl Lanes for Plain {
    #[inline(always)]
    fn equal_with(self, block: &Block, set: u8, wanted: u8) -> u64 {
        block::equal_with(block, set, wanted)
    }

    #[inline(always)]
    fn has_either(self, block: &Block, one: u8, set: u8, other: u8) -> bool {
        (block::equal_with(block, 0, one) | block::equal_with(block, set, other)) != 0
    }

    #[inline(always)]
    fn has(self, pair: &[u8; PAIR], wanted: u8) -> bool {
        pair.as_chunks::<BLOCK>().0.iter().fold(0, |found, block| found | block::equal_with(block, 0, wanted))
            != 0
    }
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use fearless_simd::prelude::*;
    use fearless_simd::x86::Avx2;
    use fearless_simd::{mask8x32, u8x32};

    use super::{BLOCK, Block, Lanes, PAIR};

    /// How many bytes a vector has.
    const LANE: usize = BLOCK / 2;

    #[inline(always)]
    fn are(proof: Avx2, bytes: &[u8; LANE], set: u8, wanted: u8) -> mask8x32<Avx2> {
        let (set, wanted) = (u8x32::splat(proof, set), u8x32::splat(proof, wanted));
        (u8x32::simd_from(proof, *bytes) | set).simd_eq(wanted)
    }

    impl Lanes for Avx2 {
        #[inline(always)]
        fn equal_with(self, block: &Block, set: u8, wanted: u8) -> u64 {
            let mut bits = 0;
            for (index, bytes) in block.as_chunks::<LANE>().0.iter().enumerate() {
                bits |= are(self, bytes, set, wanted).to_bitmask() << (LANE * index);
            }
            bits
        }

        // Not by a closure, which would not be compiled for these vectors where it is not inlined.
        #[inline(always)]
        fn has_either(self, block: &Block, one: u8, set: u8, other: u8) -> bool {
            let mut found = mask8x32::splat(self, false);
            for bytes in block.as_chunks::<LANE>().0 {
                found |= are(self, bytes, 0, one) | are(self, bytes, set, other);
            }
            found.any_true()
        }

        #[inline(always)]
        fn has(self, pair: &[u8; PAIR], wanted: u8) -> bool {
            let mut found = mask8x32::splat(self, false);
            for bytes in pair.as_chunks::<LANE>().0 {
                found |= are(self, bytes, 0, wanted);
            }
            found.any_true()
        }
    }
}

/// Calls a function with the widest lanes that there are, compiled for them.
macro_rules! with_lanes {
    ($lanes:ident => $call:expr) => {{
        #[cfg(target_arch = "x86_64")]
        if let Some($lanes) = fearless_simd::Level::new().as_avx2() {
            return fearless_simd::Simd::vectorize(
                $lanes,
                #[inline(always)]
                || $call,
            );
        }
        let $lanes = $crate::mcp::lanes::Plain;
        $call
    }};
}

pub(super) use with_lanes;

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(lanes: impl Lanes, pair: &[u8; PAIR]) -> (u64, bool, bool) {
        let block = pair.first_chunk().unwrap();
        let equal = lanes.equal_with(block, 0x0c, b'/');
        (equal, lanes.has_either(block, b'\\', 0x20, b'{'), lanes.has(pair, b'"'))
    }

    fn widest(pair: &[u8; PAIR]) -> (u64, bool, bool) {
        with_lanes!(lanes => looks(lanes, pair))
    }

    #[test]
    fn the_widest_lanes_see_what_the_plain_ones_see() {
        let mut seed = 0x5eed_0009_u64;
        for _ in 0..4_000 {
            let mut pair = [b'a'; PAIR];
            for _ in 0..4 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                pair[(seed >> 8) as usize % PAIR] = b"\"\\{[/'+\xff"[(seed >> 20) as usize % 8];
            }
            assert_eq!(widest(&pair), looks(Plain, &pair));
        }
    }
}
