//! Reads a compressed body beside the traffic: what passes is shown to it, and it hands on what
//! that says, piece by piece as it comes. It changes nothing and nobody waits for it.
//!
//! Known are the codings of RFC 9110, section 8.4.1, that clients ask for in plain HTTP: `gzip`
//! and `deflate`.

use std::fmt;
use std::io::{self, ErrorKind, Write};

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// How much memory one may take, in bytes: a window, tables, and what is on its way.
pub const MEMORY: usize = 128 * 1024;

/// How often a body may hold what it takes itself. Events of a model come to about twenty times;
/// what is made to be unpacked comes to a thousand.
const MOST_TIMES: usize = 64;
/// How many bytes may come of however little.
const AT_LEAST: usize = 64 * 1024;
/// How many compressed bytes are unpacked at a time: at most a thousand times as many are held.
const PIECE: usize = 256;

/// A coding that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// The format of RFC 1952; several members are one body.
    Gzip,
    /// That of RFC 1950, or what some servers say for it: RFC 1951.
    Deflate,
}

impl Coding {
    /// The one coding that these values of `Content-Encoding` name, if it is one of ours.
    pub fn of<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let codings = values.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
        let mut codings = codings.filter(|coding| !coding.eq_ignore_ascii_case(b"identity"));
        let only = codings.next().filter(|_| codings.next().is_none())?;
        if only.eq_ignore_ascii_case(b"gzip") || only.eq_ignore_ascii_case(b"x-gzip") {
            Some(Coding::Gzip)
        } else if only.eq_ignore_ascii_case(b"deflate") {
            Some(Coding::Deflate)
        } else {
            None
        }
    }
}

/// Why the rest of a body is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is not of the coding that its head names.
    Broken,
    /// It holds far more than it takes.
    TooLarge,
}

/// The state of one body.
#[derive(Debug)]
pub struct Inflate {
    coding: Coding,
    decoder: Option<Box<dyn Decoder>>,
    /// How much may still come out.
    room: usize,
    over: bool,
}

impl Inflate {
    /// A body at its beginning. It takes no memory before there is something in it.
    pub fn new(coding: Coding) -> Self {
        Inflate { coding, decoder: None, room: AT_LEAST, over: false }
    }

    /// Takes the next bytes of the body, and hands on all that can be read now.
    ///
    /// # Errors
    ///
    /// Where the rest cannot be read; nothing may be shown to it any more.
    pub fn read(&mut self, data: &[u8], mut take: impl FnMut(Vec<u8>)) -> Result<(), Unreadable> {
        for piece in data.chunks(PIECE) {
            if self.over {
                break;
            }
            self.room = self.room.saturating_add(piece.len() * MOST_TIMES);
            let plain = self.unpack(piece).map_err(|error| match error.kind() {
                ErrorKind::FileTooLarge => Unreadable::TooLarge,
                _ => Unreadable::Broken,
            })?;
            if !plain.is_empty() {
                take(plain);
            }
        }
        Ok(())
    }

    /// The body came to its end: whether that is the end of what it holds.
    ///
    /// # Errors
    ///
    /// Where it was cut off, or its checksum is wrong.
    pub fn finish(mut self) -> Result<(), Unreadable> {
        let decoder = self.decoder.as_mut().filter(|_| !self.over);
        decoder.map_or(Ok(()), |decoder| decoder.finish()).map_err(|_| Unreadable::Broken)
    }

    fn unpack(&mut self, mut piece: &[u8]) -> io::Result<Vec<u8>> {
        let Inflate { coding, decoder, room, over } = self;
        let first = piece.first().copied().unwrap_or_default();
        let decoder = decoder.get_or_insert_with(|| begin(*coding, first));
        decoder.plain().room = *room;
        while !piece.is_empty() {
            let taken = decoder.write(piece)?;
            if taken == 0 {
                // What follows the end of the body is no part of it.
                *over = true;
                break;
            }
            piece = piece.get(taken..).unwrap_or_default();
        }
        decoder.flush()?;
        *room = decoder.plain().room;
        Ok(std::mem::take(&mut decoder.plain().bytes))
    }
}

/// The decoder for a body that begins with this byte.
fn begin(coding: Coding, first: u8) -> Box<dyn Decoder> {
    let plain = Plain::default();
    match coding {
        Coding::Gzip => Box::new(MultiGzDecoder::new(plain)),
        // The method of RFC 1950; where it were RFC 1951, a block without compression and with
        // garbage in its padding.
        Coding::Deflate if first & 0x0f == 8 => Box::new(ZlibDecoder::new(plain)),
        Coding::Deflate => Box::new(DeflateDecoder::new(plain)),
    }
}

/// What the decoders have in common.
trait Decoder: Write + fmt::Debug + Send {
    fn plain(&mut self) -> &mut Plain;
    fn finish(&mut self) -> io::Result<()>;
}

impl Decoder for MultiGzDecoder<Plain> {
    fn plain(&mut self) -> &mut Plain {
        self.get_mut()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.try_finish()
    }
}

impl Decoder for ZlibDecoder<Plain> {
    fn plain(&mut self) -> &mut Plain {
        self.get_mut()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.try_finish()
    }
}

impl Decoder for DeflateDecoder<Plain> {
    fn plain(&mut self) -> &mut Plain {
        self.get_mut()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.try_finish()
    }
}

/// What was unpacked of one piece.
#[derive(Debug, Default)]
struct Plain {
    bytes: Vec<u8>,
    room: usize,
}

impl Write for Plain {
    fn write(&mut self, plain: &[u8]) -> io::Result<usize> {
        self.room = self.room.checked_sub(plain.len()).ok_or(ErrorKind::FileTooLarge)?;
        self.bytes.extend_from_slice(plain);
        Ok(plain.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The entry point for fuzzing: the first byte chooses the coding, the second how the rest is cut.
///
/// # Panics
///
/// When more comes out than may, or what comes out depends on how the body is cut.
#[doc(hidden)]
pub fn fuzz_inflate(data: &[u8]) {
    let [choice, cut, body @ ..] = data else { return };
    let coding = if choice % 2 == 0 { Coding::Gzip } else { Coding::Deflate };
    let read = |length: usize| {
        let (mut inflate, mut plain) = (Inflate::new(coding), Vec::new());
        let mut pieces = body.chunks(length.max(1));
        let how = pieces.try_for_each(|piece| inflate.read(piece, |more| plain.extend_from_slice(&more)));
        (plain, how)
    };
    let (whole, how) = read(body.len());
    assert!(whole.len() <= AT_LEAST + MOST_TIMES * body.len());
    let (cut, how_cut) = read((*cut).into());
    if how.is_ok() && how_cut.is_ok() {
        assert!(whole == cut, "it depends on how it is cut");
    }
    let mut inflate = Inflate::new(coding);
    if inflate.read(body, |_| ()).is_ok() {
        let _ = inflate.finish();
    }
    if how.is_ok() {
        // Where the room grows as the bytes come, less of it may be there.
        assert_ne!(how_cut, Err(Unreadable::Broken));
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(plain: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(plain: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn read(coding: Coding, body: &[u8], cut: usize) -> (Vec<u8>, Result<(), Unreadable>) {
        let (mut inflate, mut plain) = (Inflate::new(coding), Vec::new());
        let how = body.chunks(cut).try_for_each(|piece| inflate.read(piece, |more| plain.extend(more)));
        (plain, how)
    }

    /// Text that does not repeat itself too often.
    fn text(length: usize) -> Vec<u8> {
        (0_u64..)
            .flat_map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_string().into_bytes())
            .take(length)
            .collect()
    }

    #[test]
    fn reads_each_form_however_it_is_cut() {
        let plain = text(100_000);
        let members = [gzip(&plain[..40_000]), gzip(&plain[40_000..])].concat();
        for (coding, body) in [
            (Coding::Gzip, gzip(&plain)),
            (Coding::Gzip, members),
            (Coding::Deflate, zlib(&plain)),
            (Coding::Deflate, deflate(&plain)),
        ] {
            for cut in [1, 7, 4096, body.len()] {
                assert!(read(coding, &body, cut) == (plain.clone(), Ok(())), "{coding:?} cut to {cut}");
            }
        }
    }

    #[test]
    fn what_follows_the_end_says_nothing() {
        for body in [zlib(b"{}"), deflate(b"{}")] {
            let body = [body, b"more".to_vec()].concat();
            assert_eq!(read(Coding::Deflate, &body, 1), (b"{}".to_vec(), Ok(())));
        }
    }

    /// As a server does that compresses a stream of events.
    #[test]
    fn each_flushed_event_is_read_at_once() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let mut inflate = Inflate::new(Coding::Gzip);
        for i in 0..100 {
            let event = format!("data: {i}\n\n");
            encoder.write_all(event.as_bytes()).unwrap();
            encoder.flush().unwrap();
            let mut plain = Vec::new();
            inflate.read(&std::mem::take(encoder.get_mut()), |more| plain.extend(more)).unwrap();
            assert_eq!(String::from_utf8(plain).unwrap(), event);
        }
    }

    #[test]
    fn a_bomb_is_left_after_what_its_size_allows() {
        for (coding, body) in
            [(Coding::Gzip, gzip(&vec![0; 64 << 20])), (Coding::Deflate, zlib(&vec![0; 64 << 20]))]
        {
            let (plain, how) = read(coding, &body, 16 * 1024);
            assert_eq!(how, Err(Unreadable::TooLarge));
            assert!(plain.len() <= AT_LEAST + MOST_TIMES * 2 * PIECE, "{} of {}", plain.len(), body.len());
        }
        // What is small may repeat itself as it likes.
        let plain = vec![b' '; AT_LEAST];
        assert!(read(Coding::Gzip, &gzip(&plain), 4096) == (plain, Ok(())));
    }

    #[test]
    fn what_is_not_of_the_coding_is_broken() {
        let mut wrong_sum = gzip(b"{}");
        let at = wrong_sum.len() - 8;
        wrong_sum[at] ^= 1;
        // The sum is checked when another member would begin.
        wrong_sum.extend(gzip(b"{}"));
        for (coding, body) in [
            (Coding::Gzip, b"{\"jsonrpc\":\"2.0\"}".to_vec()),
            (Coding::Gzip, zlib(b"{}")),
            (Coding::Deflate, b"\x78\x9c\xff\xff\xff\xff".to_vec()),
            (Coding::Deflate, b"\xff\xff\xff\xff".to_vec()),
            (Coding::Gzip, wrong_sum),
        ] {
            assert_eq!(read(coding, &body, 1).1, Err(Unreadable::Broken), "{body:x?}");
        }
    }

    #[test]
    fn what_is_cut_off_or_has_a_wrong_sum_is_not_whole() {
        for (coding, body) in [
            (Coding::Gzip, gzip(b"{\"a\": 1}")),
            (Coding::Deflate, zlib(b"{\"a\": 1}")),
            (Coding::Deflate, deflate(b"{\"a\": 1}")),
        ] {
            for end in 1..=body.len() {
                let mut inflate = Inflate::new(coding);
                inflate.read(&body[..end], |_| ()).unwrap();
                let whole = if end == body.len() { Ok(()) } else { Err(Unreadable::Broken) };
                assert_eq!(inflate.finish(), whole, "{coding:?} cut at {end} of {}", body.len());
            }
        }
        let mut wrong_sum = gzip(b"{}");
        let at = wrong_sum.len() - 8;
        wrong_sum[at] ^= 1;
        let mut inflate = Inflate::new(Coding::Gzip);
        inflate.read(&wrong_sum, |_| ()).unwrap();
        assert_eq!(inflate.finish(), Err(Unreadable::Broken));
    }

    #[test]
    fn one_coding_of_ours_is_read() {
        let of = |values: &[&str]| Coding::of(values.iter().map(|value| value.as_bytes()));
        for (values, coding) in [
            (&["gzip"][..], Some(Coding::Gzip)),
            (&[" X-GZip "], Some(Coding::Gzip)),
            (&["identity, Deflate"], Some(Coding::Deflate)),
            (&["identity", "gzip"], Some(Coding::Gzip)),
            (&["gzip, gzip"], None),
            (&["gzip", "br"], None),
            (&["br"], None),
            (&["zstd"], None),
            (&["identity"], None),
            (&[], None),
        ] {
            assert_eq!(of(values), coding, "{values:?}");
        }
    }

    #[test]
    fn mutated_bodies_keep_the_promises() {
        let plain = text(2_000);
        let whole = [gzip(&plain), zlib(&plain), deflate(&plain), gzip(&[0; 100_000])];
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as usize
        };
        for _ in 0..3_000 {
            let mut data = vec![next() as u8, next() as u8];
            data.extend(&whole[next() % whole.len()]);
            for _ in 0..next() % 4 {
                let at = next() % data.len();
                match next() % 3 {
                    0 => data[at] = next() as u8,
                    1 => data.truncate(at.max(2)),
                    _ => data.insert(at, next() as u8),
                }
            }
            fuzz_inflate(&data);
        }
    }
}
