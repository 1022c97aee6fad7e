//! The little of protobuf that spans are written with: tags, lengths and numbers, appended to a buffer
//! (<https://protobuf.dev/programming-guides/encoding/>).

/// Wire types, as the low three bits of a field's tag.
pub const VARINT: u8 = 0;
/// See [`VARINT`].
pub const FIXED64: u8 = 1;
/// See [`VARINT`].
pub const LEN: u8 = 2;
/// See [`VARINT`].
pub const FIXED32: u8 = 5;

/// Appends a tag. Field numbers up to 15 take one byte, those above two.
pub fn tag(out: &mut Vec<u8>, field: u8, wire_type: u8) {
    if field < 16 {
        out.push(field << 3 | wire_type);
    } else {
        varint(out, u64::from(field) << 3 | u64::from(wire_type));
    }
}

/// Appends a field of text, unless it is empty, which is the default that goes without saying.
pub fn text(out: &mut Vec<u8>, field: u8, text: &str) {
    if !text.is_empty() {
        bytes(out, field, text.as_bytes());
    }
}

/// Appends a field of bytes.
pub fn bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    tag(out, field, LEN);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a field of eight bytes.
pub fn fixed64(out: &mut Vec<u8>, field: u8, number: u64) {
    let mut bytes = [field << 3 | FIXED64; 9];
    bytes[1..].copy_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&bytes);
}

/// Appends a field of four bytes.
pub fn fixed32(out: &mut Vec<u8>, field: u8, number: u32) {
    tag(out, field, FIXED32);
    out.extend_from_slice(&number.to_le_bytes());
}

/// Appends a number in its shortest form.
pub fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(low_seven_bits(number) | 0x80);
        number >>= 7;
    }
    out.push(low_seven_bits(number));
}

/// How many bytes that form takes.
pub fn varint_len(number: u64) -> usize {
    let bits = 64 - (number | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// The bytes of a field of text, where it is written.
pub fn text_len(text: &str) -> usize {
    1 + varint_len(text.len() as u64) + text.len()
}

/// The last seven bits, which one byte of a number holds.
pub fn low_seven_bits(number: u64) -> u8 {
    (number & 0x7f) as u8
}

/// Takes a number off the front.
pub fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Takes a length and so many bytes off the front.
pub fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_varint(bytes)?).ok()?;
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_take_the_bytes_that_were_said() {
        for number in (0..64).flat_map(|bit| [1u64 << bit, (1 << bit) - 1]).chain([u64::MAX]) {
            let mut out = Vec::new();
            varint(&mut out, number);
            assert_eq!(out.len(), varint_len(number), "{number}");
            let mut rest = out.as_slice();
            assert_eq!((take_varint(&mut rest), rest.len()), (Some(number), 0));
            let mut cut = &out[..out.len() - 1];
            assert_eq!(take_varint(&mut cut), None);
        }
        assert_eq!(take_varint(&mut &[0x80; 11][..]), None, "longer than any number");
    }

    #[test]
    fn a_length_beyond_the_end_takes_nothing() {
        assert_eq!(take_bytes(&mut &[2, 7, 8, 9][..]), Some(&[7, 8][..]));
        assert_eq!(take_bytes(&mut &[4, 7, 8, 9][..]), None);
        assert_eq!(take_bytes(&mut &[0xff][..]), None);
    }
}
