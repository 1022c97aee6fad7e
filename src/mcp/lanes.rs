//! Looks at 64 bytes at once with the widest vectors that the processor has.
//!
//! x86-64 alone has much wider ones than its oldest processors do (AVX2), so there they are asked
//! for at run time; the crate `fearless_simd` hands out the proof that they are there, and lets
//! code run that is compiled for them. Everywhere else vectors of 16 bytes do.

use ::wide::u8x16;

use super::block::{self, BLOCK, Block};

/// Four blocks, which are looked at together where nothing is expected in them.
pub(super) const GROUP: usize = 4 * BLOCK;

/// Four blocks.
pub(super) type Group = [u8; GROUP];

/// How many bytes after a group are needed to tell what begins in it.
pub(super) const AFTER: usize = 4;

/// Four blocks and what comes after them.
pub(super) type Followed = [u8; GROUP + AFTER];

/// A way to look at blocks. Its functions are inlined, so that all that is done with one is
/// compiled for it.
pub(super) trait Lanes: Copy {
    /// The bits of all bytes that were shown to it, or-ed together lane by lane.
    type Seen: Copy;

    /// Nothing shown.
    fn nothing(self) -> Self::Seen;

    /// Shows it the bytes of a block.
    fn see(self, seen: Self::Seen, block: &Block) -> Self::Seen;

    /// Whether all that was shown is ASCII.
    fn is_ascii(self, seen: Self::Seen) -> bool;

    /// The bytes that are `wanted` once the bits `set` are set in them.
    fn equal_with(self, block: &Block, set: u8, wanted: u8) -> u64;

    /// The bytes that are `wanted`.
    #[inline(always)]
    fn equal(self, block: &Block, wanted: u8) -> u64 {
        self.equal_with(block, 0, wanted)
    }

    /// The bytes that are a backslash, a number sign, an apostrophe or a slash.
    fn signs(self, block: &Block) -> u64;

    /// Whether any byte is such a sign.
    fn has_sign(self, group: &Group) -> bool;

    /// Whether any byte is `wanted`.
    fn has(self, group: &Group, wanted: u8) -> bool;

    /// Whether any byte is a quote or not ASCII.
    fn has_quote_or_more(self, group: &Group) -> bool;

    /// Whether any byte is an `E` or a backslash: no spelling of `isError` in JSON does without.
    fn has_mark(self, group: &Group) -> bool;

    /// Whether any byte of the group is an `E`, or begins a `\u`: none does without these either.
    fn has_hint(self, group: &Followed) -> bool;

    /// Whether the group has an `Er`, an `E\`, or an escape of a letter that `isError` has: none
    /// does without these, and little else has them.
    fn has_spelling(self, group: &Followed) -> bool;

    /// Whether any `}` of the group has neither `]` nor `}` nor `,{` after it.
    fn may_end(self, group: &Followed) -> bool;

    /// [`between`](block::between) for each of four blocks.
    fn between(self, bits: [u64; 4]) -> [u64; 4];
}

/// What comes `after` bytes after each byte of the group, in blocks or halves of them.
#[inline(always)]
fn parts<const N: usize>(group: &Followed, after: usize) -> &[[u8; N]] {
    group.get(after..after + GROUP).unwrap_or_default().as_chunks().0
}

/// The vectors that every processor of its kind has.
#[derive(Clone, Copy)]
pub(super) struct Plain;

impl Lanes for Plain {
    type Seen = u8x16;

    #[inline(always)]
    fn nothing(self) -> u8x16 {
        u8x16::ZERO
    }

    #[inline(always)]
    fn see(self, seen: u8x16, block: &Block) -> u8x16 {
        block.as_chunks().0.iter().fold(seen, |seen, bytes| seen | u8x16::new(*bytes))
    }

    #[inline(always)]
    fn is_ascii(self, seen: u8x16) -> bool {
        // The mask of a comparison has the top bit of each byte, and so has this.
        seen.to_bitmask() == 0
    }

    #[inline(always)]
    fn equal_with(self, block: &Block, set: u8, wanted: u8) -> u64 {
        block::equal_with(block, set, wanted)
    }

    #[inline(always)]
    fn signs(self, block: &Block) -> u64 {
        // A number sign, an apostrophe, a slash, and a plus, which numbers have.
        let four = block::equal_with(block, 0x0c, b'/') & !block::equal_with(block, 0, b'+');
        four | block::equal_with(block, 0, b'\\')
    }

    #[inline(always)]
    fn has_sign(self, group: &Group) -> bool {
        group.as_chunks().0.iter().fold(0, |found, block| found | self.signs(block)) != 0
    }

    #[inline(always)]
    fn has(self, group: &Group, wanted: u8) -> bool {
        group.as_chunks().0.iter().fold(0, |found, block| found | self.equal(block, wanted)) != 0
    }

    #[inline(always)]
    fn has_quote_or_more(self, group: &Group) -> bool {
        let seen = group.as_chunks().0.iter().fold(self.nothing(), |seen, block| self.see(seen, block));
        self.has(group, b'"') || !self.is_ascii(seen)
    }

    #[inline(always)]
    fn has_mark(self, group: &Group) -> bool {
        self.has(group, b'E') || self.has(group, b'\\')
    }

    #[inline(always)]
    fn has_hint(self, group: &Followed) -> bool {
        let [here, next] = [0, 1].map(|after| parts(group, after));
        let mut found = 0;
        for (here, next) in here.iter().zip(next) {
            found |= self.equal(here, b'E') | self.equal(here, b'\\') & self.equal(next, b'u');
        }
        found != 0
    }

    #[inline(always)]
    fn has_spelling(self, group: &Followed) -> bool {
        let all = [0, 1, 2, 3, 4].map(|after| parts(group, after));
        (0..GROUP / BLOCK).any(|index| {
            let [here, next, third, fourth, fifth] =
                all.map(|blocks| blocks.get(index).copied().unwrap_or([0; BLOCK]));
            let plain = self.equal(&here, b'E') & (self.equal(&next, b'r') | self.equal(&next, b'\\'));
            let zeros = self.equal(&third, b'0') & self.equal(&fourth, b'0');
            // From 4 to 7.
            let digit = self.equal_with(&fifth, 3, b'7');
            plain | self.equal(&here, b'\\') & self.equal(&next, b'u') & zeros & digit != 0
        })
    }

    #[inline(always)]
    fn may_end(self, group: &Followed) -> bool {
        let [here, next, third] = [0, 1, 2].map(|after| parts(group, after));
        let mut found = 0;
        for (here, (next, third)) in here.iter().zip(next.iter().zip(third)) {
            let row = self.equal(next, b',') & self.equal(third, b'{');
            found |= self.equal(here, b'}') & !(row | self.equal_with(next, b']' ^ b'}', b'}'));
        }
        found != 0
    }

    #[inline(always)]
    fn between(self, bits: [u64; 4]) -> [u64; 4] {
        bits.map(block::between)
    }
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use fearless_simd::prelude::*;
    use fearless_simd::x86::Avx2;
    use fearless_simd::{i8x32, mask8x32, u8x32, u64x4};

    use super::{BLOCK, Block, Followed, Group, Lanes, parts};

    /// How many bytes a vector has.
    const LANE: usize = BLOCK / 2;

    /// Each of a few bytes, where its lower four bits point to; elsewhere what no byte of these bits
    /// is.
    type Few = [u8; LANE];

    const SIGNS: Few = few(b"\\#'/");
    const MARKS: Few = few(b"E\\");

    /// These differ in their lower four bits, and have some.
    const fn few(of: &[u8]) -> Few {
        let mut few = [0; LANE];
        let mut half = 0;
        while half < LANE {
            few[half] = 0xff;
            let mut index = 0;
            while index < of.len() {
                few[half + (of[index] & 0xf) as usize] = of[index];
                index += 1;
            }
            half += LANE / 2;
        }
        few
    }

    #[inline(always)]
    fn are(proof: Avx2, bytes: &[u8; LANE], set: u8, wanted: u8) -> mask8x32<Avx2> {
        let (set, wanted) = (u8x32::splat(proof, set), u8x32::splat(proof, wanted));
        (u8x32::simd_from(proof, *bytes) | set).simd_eq(wanted)
    }

    #[inline(always)]
    fn are_of(proof: Avx2, bytes: &[u8; LANE], few: Few) -> mask8x32<Avx2> {
        let bytes = u8x32::simd_from(proof, *bytes);
        u8x32::simd_from(proof, few).swizzle_dyn_within_blocks(bytes).simd_eq(bytes)
    }

    #[inline(always)]
    fn has_of(proof: Avx2, group: &Group, few: Few) -> bool {
        let mut found = mask8x32::splat(proof, false);
        for bytes in group.as_chunks().0 {
            found |= are_of(proof, bytes, few);
        }
        found.to_bitmask() != 0
    }

    // Not by closures, which would not be compiled for these vectors where they are not inlined.
    impl Lanes for Avx2 {
        type Seen = u8x32<Avx2>;

        #[inline(always)]
        fn nothing(self) -> Self::Seen {
            u8x32::splat(self, 0)
        }

        #[inline(always)]
        fn see(self, mut seen: Self::Seen, block: &Block) -> Self::Seen {
            for bytes in block.as_chunks().0 {
                seen |= u8x32::simd_from(self, *bytes);
            }
            seen
        }

        #[inline(always)]
        fn is_ascii(self, seen: Self::Seen) -> bool {
            seen.bitcast::<i8x32<Avx2>>().simd_lt(i8x32::splat(self, 0)).to_bitmask() == 0
        }

        #[inline(always)]
        fn equal_with(self, block: &Block, set: u8, wanted: u8) -> u64 {
            let mut bits = 0;
            for (index, bytes) in block.as_chunks::<LANE>().0.iter().enumerate() {
                bits |= are(self, bytes, set, wanted).to_bitmask() << (LANE * index);
            }
            bits
        }

        #[inline(always)]
        fn signs(self, block: &Block) -> u64 {
            let mut bits = 0;
            for (index, bytes) in block.as_chunks().0.iter().enumerate() {
                bits |= are_of(self, bytes, SIGNS).to_bitmask() << (LANE * index);
            }
            bits
        }

        #[inline(always)]
        fn has_sign(self, group: &Group) -> bool {
            has_of(self, group, SIGNS)
        }

        #[inline(always)]
        fn has(self, group: &Group, wanted: u8) -> bool {
            let mut found = mask8x32::splat(self, false);
            for bytes in group.as_chunks().0 {
                found |= are(self, bytes, 0, wanted);
            }
            found.to_bitmask() != 0
        }

        #[inline(always)]
        fn has_quote_or_more(self, group: &Group) -> bool {
            // Without the bits of a quote, a quote is zero and what is not ASCII is negative.
            let quote = u8x32::splat(self, b'"');
            let mut least = i8x32::splat(self, i8::MAX);
            for bytes in group.as_chunks::<LANE>().0 {
                least = least.min((u8x32::simd_from(self, *bytes) ^ quote).bitcast::<i8x32<Avx2>>());
            }
            least.simd_lt(i8x32::splat(self, 1)).to_bitmask() != 0
        }

        #[inline(always)]
        fn has_mark(self, group: &Group) -> bool {
            has_of(self, group, MARKS)
        }

        #[inline(always)]
        fn has_hint(self, group: &Followed) -> bool {
            let mut found = mask8x32::splat(self, false);
            for (here, next) in parts(group, 0).iter().zip(parts(group, 1)) {
                found |= are(self, here, 0, b'E');
                found |= are(self, here, 0, b'\\') & are(self, next, 0, b'u');
            }
            found.to_bitmask() != 0
        }

        #[inline(always)]
        fn has_spelling(self, group: &Followed) -> bool {
            let [here, next, third, fourth, fifth] = [0, 1, 2, 3, 4].map(|after| parts(group, after));
            let mut found = mask8x32::splat(self, false);
            let rest = next.iter().zip(third).zip(fourth.iter().zip(fifth));
            for (here, ((next, third), (fourth, fifth))) in here.iter().zip(rest) {
                found |= are(self, here, 0, b'E') & (are(self, next, 0, b'r') | are(self, next, 0, b'\\'));
                let zeros = are(self, third, 0, b'0') & are(self, fourth, 0, b'0');
                found |=
                    are(self, here, 0, b'\\') & are(self, next, 0, b'u') & zeros & are(self, fifth, 3, b'7');
            }
            found.to_bitmask() != 0
        }

        #[inline(always)]
        fn may_end(self, group: &Followed) -> bool {
            let [here, next, third] = [0, 1, 2].map(|after| parts(group, after));
            let mut found = mask8x32::splat(self, false);
            for (here, (next, third)) in here.iter().zip(next.iter().zip(third)) {
                let row = are(self, next, 0, b',') & are(self, third, 0, b'{');
                found |= are(self, here, 0, b'}') & !(row | are(self, next, b']' ^ b'}', b'}'));
            }
            found.to_bitmask() != 0
        }

        #[inline(always)]
        fn between(self, bits: [u64; 4]) -> [u64; 4] {
            let mut inside = u64x4::simd_from(self, bits);
            inside ^= inside << 1;
            inside ^= inside << 2;
            inside ^= inside << 4;
            inside ^= inside << 8;
            inside ^= inside << 16;
            inside ^= inside << 32;
            inside.into()
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
mod tests;
