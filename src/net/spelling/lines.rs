//! The lines of a head, each with its first colon and whether there is a
//! capital before it. They are found in blocks of 64 bytes: one bit for each
//! byte, the lowest for the first. The vectors are those that every processor
//! of its kind has.

use wide::u8x16;

const BLOCK: usize = 64;
const LANES: usize = 16;

/// One line: where in the bytes it stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) start: usize,
    /// Its first colon.
    pub(super) colon: Option<usize>,
    /// Behind its line feed.
    pub(super) end: usize,
    /// Whether an upper-case letter stands in front of the colon, or anywhere
    /// where there is none.
    pub(super) capital: bool,
}

/// Goes through the whole lines of some bytes.
pub(super) struct Lines<'b> {
    bytes: &'b [u8],
    /// Where the next line begins.
    at: usize,
    /// Where the block begins whose bits follow, as far as they are ahead.
    block: usize,
    /// Where the next block begins.
    next: usize,
    bits: Bits,
}

#[derive(Default)]
struct Bits {
    feeds: u64,
    colons: u64,
    capitals: u64,
}

impl<'b> Lines<'b> {
    /// The lines from `at` on, where one begins.
    pub(super) fn new(bytes: &'b [u8], at: usize) -> Self {
        Lines { bytes, at, block: at, next: at, bits: Bits::default() }
    }

    /// Where the next line begins, be it whole or not.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    fn load(&mut self) -> bool {
        let rest = self.bytes.get(self.next..).unwrap_or_default();
        self.bits = if let Some(block) = rest.first_chunk() {
            Bits::of(block)
        } else if rest.is_empty() {
            return false;
        } else if let Some(block) = self.bytes.last_chunk() {
            let behind = BLOCK - rest.len();
            let Bits { feeds, colons, capitals } = Bits::of(block);
            Bits { feeds: feeds >> behind, colons: colons >> behind, capitals: capitals >> behind }
        } else {
            let mut block = [0; BLOCK];
            block[..rest.len()].copy_from_slice(rest);
            Bits::of(&block)
        };
        self.block = self.next;
        self.next += BLOCK;
        true
    }
}

impl Iterator for Lines<'_> {
    type Item = Line;

    #[inline]
    fn next(&mut self) -> Option<Line> {
        let mut line = Line { start: self.at, colon: None, end: 0, capital: false };
        loop {
            let bits = &mut self.bits;
            let here = below_lowest(bits.feeds);
            if line.colon.is_none() {
                let colons = bits.colons & here;
                line.capital |= bits.capitals & here & below_lowest(colons) != 0;
                if colons != 0 {
                    line.colon = Some(self.block + colons.trailing_zeros() as usize);
                }
            }
            bits.colons &= !here;
            bits.capitals &= !here;
            if bits.feeds != 0 {
                line.end = self.block + bits.feeds.trailing_zeros() as usize + 1;
                bits.feeds &= bits.feeds - 1;
                self.at = line.end;
                return Some(line);
            }
            if !self.load() {
                return None;
            }
        }
    }
}

/// The bits below the lowest that is set; all where none is.
#[inline(always)]
fn below_lowest(bits: u64) -> u64 {
    (bits & bits.wrapping_neg()).wrapping_sub(1)
}

impl Bits {
    #[inline(always)]
    fn of(block: &[u8; BLOCK]) -> Self {
        let mut bits = Bits::default();
        let letters = u8x16::splat(b'Z' - b'A');
        for (index, bytes) in block.as_chunks::<LANES>().0.iter().enumerate() {
            let bytes = u8x16::new(*bytes);
            let letter = bytes - u8x16::splat(b'A');
            let bit = |found: u8x16| u64::from(found.to_bitmask()) << (LANES * index);
            bits.feeds |= bit(bytes.simd_eq(u8x16::splat(b'\n')));
            bits.colons |= bit(bytes.simd_eq(u8x16::splat(b':')));
            bits.capitals |= bit(letter.min(letters).simd_eq(letter));
        }
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_a_look_at_each_byte() {
        let letters = b"aZAz@[-:;9\xc1\0\r\n \n";
        let mut seed = 0x5eed_0008_u64;
        for _ in 0..20_000 {
            let mut dice = |below: u64| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 33) % below
            };
            // Long lines too: most bytes are plain.
            let odd = 1 + dice(16);
            let bytes: Vec<u8> = (0..dice(300))
                .map(|_| if dice(odd) == 0 { letters[dice(16) as usize] } else { b'x' })
                .collect();
            let from = dice(bytes.len() as u64 + 1) as usize;
            let mut at = from;
            let mut lines = Lines::new(&bytes, from);
            for line in bytes[from..].split_inclusive(|byte| *byte == b'\n').filter(|l| l.ends_with(b"\n")) {
                let colon = line.iter().position(|byte| *byte == b':');
                let name = &line[..colon.unwrap_or(line.len())];
                let wanted = Line {
                    start: at,
                    colon: colon.map(|colon| at + colon),
                    end: at + line.len(),
                    capital: name.iter().any(u8::is_ascii_uppercase),
                };
                assert_eq!(lines.next(), Some(wanted), "{bytes:?}");
                at += line.len();
            }
            assert_eq!((lines.next(), lines.at()), (None, at));
        }
    }
}
