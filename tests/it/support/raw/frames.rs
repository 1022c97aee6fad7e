//! HTTP/2 frames made and read by hand (RFC 9113, 4.1), for what no library
//! would send. Fields are written as literals without compression (RFC 7541,
//! 6.2.2); what comes back is read by its frame headers only.

use super::Raw;

/// The first bytes of a client, with empty settings.
pub(crate) const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// Types of frames.
pub(crate) const DATA: u8 = 0;
/// See [`DATA`].
pub(crate) const HEADERS: u8 = 1;
/// See [`DATA`].
pub(crate) const RST_STREAM: u8 = 3;
/// See [`DATA`].
pub(crate) const SETTINGS: u8 = 4;
/// See [`DATA`].
pub(crate) const PING: u8 = 6;
/// See [`DATA`].
pub(crate) const GOAWAY: u8 = 7;
/// See [`DATA`].
pub(crate) const CONTINUATION: u8 = 9;

/// `END_STREAM`, or `ACK` where the frame has that.
pub(crate) const END: u8 = 1;
/// `END_HEADERS`
pub(crate) const END_HEADERS: u8 = 4;

/// One frame.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Its type.
    pub(crate) kind: u8,
    /// Its flags.
    pub(crate) flags: u8,
    /// Its stream.
    pub(crate) stream: u32,
    /// What is in it.
    pub(crate) payload: Vec<u8>,
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A block of fields, each a literal.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        string(&mut bytes, name.as_bytes());
        string(&mut bytes, value.as_bytes());
    }
    bytes
}

/// A string literal with the prefixed length of RFC 7541, 5.1.
fn string(bytes: &mut Vec<u8>, text: &[u8]) {
    let mut left = text.len();
    if left < 127 {
        bytes.push(u8::try_from(left).unwrap());
    } else {
        bytes.push(127);
        left -= 127;
        while left >= 128 {
            bytes.push(u8::try_from(left % 128).unwrap() | 128);
            left /= 128;
        }
        bytes.push(u8::try_from(left).unwrap());
    }
    bytes.extend(text);
}

/// The fields of an ordinary GET.
pub(crate) fn get(host: &str) -> Vec<(&str, &str)> {
    vec![(":method", "GET"), (":scheme", "http"), (":authority", host), (":path", "/")]
}

impl Raw {
    /// Reads one frame.
    #[track_caller]
    pub(crate) fn frame(&mut self) -> Frame {
        let head = self.take(9);
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Frame { kind: head[3], flags: head[4], stream, payload: self.take(length) }
    }

    /// Reads frames until one that is wanted, or the end of the connection.
    pub(crate) fn next_frame_of(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        while self.is_open() {
            let frame = self.frame();
            if wanted(&frame) {
                return Some(frame);
            }
        }
        None
    }

    /// Reads frames until one that is wanted.
    #[track_caller]
    pub(crate) fn frame_of(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        // A peer that only sends others is stopped by the count.
        for _ in 0..10_000 {
            let frame = self.frame();
            if wanted(&frame) {
                return frame;
            }
        }
        panic!("10000 frames and not the one that was wanted");
    }
}
