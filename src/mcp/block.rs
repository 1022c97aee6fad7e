//! Finds bytes in blocks of 64: one bit for each byte, the lowest for the first.
//!
//! The vectors are those that every processor of its kind has; [`lanes`](super::lanes) asks for wider ones.

use wide::u8x16;

/// How many bytes are looked at together.
pub(super) const BLOCK: usize = 64;

/// The bytes that are looked at together.
pub(super) type Block = [u8; BLOCK];

/// How many bytes are looked at where the next one is expected to be near.
pub(super) const NEAR: usize = 16;

/// The bytes that are `wanted` once the bits `set` are set in them.
#[inline(always)]
pub(super) fn equal_with(block: &Block, set: u8, wanted: u8) -> u64 {
    let (set, wanted) = (u8x16::splat(set), u8x16::splat(wanted));
    let mut bits = 0;
    for (index, bytes) in block.as_chunks::<NEAR>().0.iter().enumerate() {
        let found = (u8x16::new(*bytes) | set).simd_eq(wanted);
        bits |= u64::from(found.to_bitmask()) << (NEAR * index);
    }
    bits
}

/// The bytes of sixteen that are `one` or `other`.
#[inline(always)]
pub(super) fn near(bytes: &[u8; NEAR], one: u8, other: u8) -> u32 {
    let bytes = u8x16::new(*bytes);
    (bytes.simd_eq(u8x16::splat(one)) | bytes.simd_eq(u8x16::splat(other))).to_bitmask()
}

/// From each set bit up to the next one, without the latter: with the quotes of a text, what is
/// inside of them and the quotes that open.
#[inline(always)]
pub(super) fn between(bits: u64) -> u64 {
    [1, 2, 4, 8, 16, 32].iter().fold(bits, |inside, shift| inside ^ (inside << shift))
}

/// Which bytes are escaped by a backslash before them, from block to block of one text.
#[derive(Clone, Default)]
pub(super) struct Escapes {
    /// One if the first byte of the next block is escaped by the last one of this.
    carried: u64,
}

impl Escapes {
    /// For what begins at `at`: inside of a string the quote that opened it ends the run of
    /// backslashes before, and outside JSON has none.
    #[inline(always)]
    pub(super) fn after(bytes: &[u8], at: usize) -> Self {
        let before = bytes.get(..at).unwrap_or_default();
        let run = before.iter().rev().take_while(|byte| **byte == b'\\').count();
        Self { carried: run as u64 & 1 }
    }

    /// Takes the backslashes of the next block; gives the bytes that are escaped.
    ///
    /// In a run of backslashes each second one is escaped, and so is what comes after a run of odd
    /// length. Adding the runs that begin at odd places to themselves turns the ends of the odd
    /// ones among them around (Langdale and Lemire, "Parsing Gigabytes of JSON per Second", 3.1.1).
    #[inline(always)]
    pub(super) fn next(&mut self, backslashes: u64) -> u64 {
        const EVEN: u64 = 0x5555_5555_5555_5555;
        let backslashes = backslashes & !self.carried;
        let follows = backslashes << 1 | self.carried;
        let odd_starts = backslashes & !EVEN & !follows;
        let (even_runs, carries) = odd_starts.overflowing_add(backslashes);
        self.carried = u64::from(carries);
        (EVEN ^ (even_runs << 1)) & follows
    }

    /// Whether the first byte of the next block is escaped.
    #[inline(always)]
    pub(super) fn carries(&self) -> bool {
        self.carried != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_those_of_a_look_at_each_byte() {
        let mut seed = 0x5eed_0006_u64;
        for _ in 0..2_000 {
            let mut block = [0; BLOCK];
            for byte in &mut block {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                *byte = b"\"\\{[}]y/'#+\x00\x7f\xff\x5f "[(seed >> 20) as usize % 16];
            }
            let each = |is: &dyn Fn(u8) -> bool| {
                block.iter().enumerate().fold(0_u64, |bits, (at, byte)| bits | u64::from(is(*byte)) << at)
            };
            assert_eq!(equal_with(&block, 0, b'"'), each(&|byte| byte == b'"'));
            assert_eq!(equal_with(&block, 0x26, 0x7f), each(&|byte| byte | 0x26 == 0x7f));
            let first = block.first_chunk().unwrap();
            let quoting = each(&|byte| byte == b'"' || byte == b'\\');
            assert_eq!(u64::from(near(first, b'"', b'\\')), quoting & 0xffff);
        }
    }

    #[test]
    fn what_is_between_begins_at_each_odd_bit() {
        assert_eq!(between(0b0010_0100_1010), 0b0001_1100_0110);
        assert_eq!(between(1), u64::MAX);
        assert_eq!(between(0), 0);
    }

    #[test]
    fn escapes_are_those_of_a_look_at_each_byte() {
        let mut seed = 0x5eed_0007_u64;
        let mut escapes = Escapes::default();
        let mut after_backslash = false;
        for _ in 0..2_000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            // Runs of every length, those that fill blocks too.
            let backslashes = [seed, seed | seed << 1, u64::MAX, 0, u64::MAX << 1][(seed >> 20) as usize % 5];
            let mut expected = 0;
            for at in 0..64 {
                if std::mem::take(&mut after_backslash) {
                    expected |= 1 << at;
                } else {
                    after_backslash = backslashes >> at & 1 == 1;
                }
            }
            assert_eq!(escapes.next(backslashes), expected);
            assert_eq!(escapes.carries(), after_backslash);
        }
    }
}
