//! Lines of a pipe on their way through: each is shown whole before it passes,
//! and nothing but what is edited changes.

/// The framing of one direction: one message a line (MCP, stdio transport).
#[derive(Debug)]
pub struct Lines {
    /// The beginning of a line whose end has not come.
    held: Vec<u8>,
    /// The line that has begun is too long to be shown and passes as it comes.
    passing: bool,
    max: usize,
}

impl Lines {
    /// A direction whose lines are shown up to `max` bytes; longer ones pass unseen.
    pub fn new(max: usize) -> Self {
        Lines { held: Vec::new(), passing: false, max }
    }

    /// Takes the next bytes and appends to `out` what is to be passed on now. Each whole line is
    /// shown without its line feed, and replaced by what `edit` answers with.
    pub fn pass(
        &mut self,
        mut data: &[u8],
        out: &mut Vec<u8>,
        mut edit: impl FnMut(&[u8]) -> Option<Vec<u8>>,
    ) {
        while let Some(end) = memchr::memchr(b'\n', data) {
            let (line, rest) = data.split_at(end + 1);
            data = rest;
            let fits = self.held.len() + line.len() <= self.max;
            if std::mem::take(&mut self.passing) || !fits {
                out.append(&mut self.held);
                out.extend_from_slice(line);
            } else if self.held.is_empty() {
                show(line, out, &mut edit);
            } else {
                self.held.extend_from_slice(line);
                show(&self.held, out, &mut edit);
                self.held.clear();
            }
        }
        if self.passing || self.held.len() + data.len() > self.max {
            self.passing = true;
            out.append(&mut self.held);
            out.extend_from_slice(data);
        } else {
            self.held.extend_from_slice(data);
        }
    }

    /// Gives what remains at the end, a line that nobody ended.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

fn show(line: &[u8], out: &mut Vec<u8>, edit: &mut impl FnMut(&[u8]) -> Option<Vec<u8>>) {
    let whole = line.strip_suffix(b"\n").unwrap_or(line);
    match edit(whole) {
        Some(new) => {
            out.extend_from_slice(&new);
            out.push(b'\n');
        }
        None => out.extend_from_slice(line),
    }
}

/// Passes `data` through in pieces. The first two bytes choose the limit and the cuts.
///
/// # Panics
///
/// When a byte is lost or changed, a line is shown that is none, or one that fits is not shown.
#[doc(hidden)]
pub fn fuzz_lines(data: &[u8]) {
    let [limit, seed, stream @ ..] = data else { return };
    let max = usize::from(*limit) * 4;
    let mut lines = Lines::new(max);
    let (mut out, mut edited) = (Vec::new(), Vec::new());
    let mut shown = Vec::new();
    let mut state = u32::from(*seed) | 1;
    let mut editing = Lines::new(max);
    let mut rest = stream;
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (piece, after) = rest.split_at((1 + (state >> 24) as usize % 40).min(rest.len()));
        rest = after;
        lines.pass(piece, &mut out, |line| {
            shown.push(line.to_vec());
            None
        });
        editing.pass(piece, &mut edited, |line| Some([b"<", line, b">"].concat()));
        assert!(lines.held.len() <= max);
    }
    out.extend(lines.rest());
    edited.extend(editing.rest());
    assert_eq!(out, stream, "bytes were lost or changed");
    let end = stream.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let whole: Vec<&[u8]> = stream[..end].split_inclusive(|byte| *byte == b'\n').collect();
    let fits = |line: &&&[u8]| line.len() <= max;
    let want: Vec<Vec<u8>> = whole.iter().filter(fits).map(|line| line[..line.len() - 1].to_vec()).collect();
    assert_eq!(shown, want);
    let mut expected = Vec::new();
    for line in &whole {
        match fits(&line) {
            true => expected.extend([b"<", &line[..line.len() - 1], b">\n"].concat()),
            false => expected.extend_from_slice(line),
        }
    }
    expected.extend_from_slice(&stream[end..]);
    assert_eq!(edited, expected);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shown_whole_however_they_come() {
        let mut lines = Lines::new(8);
        let mut out = Vec::new();
        let mut pass = |data: &str| {
            lines.pass(data.as_bytes(), &mut out, |line| (line == b"ab").then(|| b"new".to_vec()));
        };
        pass("a");
        pass("b\nab\r\nlong line");
        pass("er\nab\nend");
        out.extend(lines.rest());
        assert_eq!(String::from_utf8(out).unwrap(), "new\nab\r\nlong lineer\nnew\nend");
    }

    #[test]
    fn mutated_pipes_lose_nothing() {
        let mut state = 0x5eed_u32;
        let mut roll = |sides: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % sides
        };
        for _ in 0..2_000 {
            let length = roll(300);
            let newlines = 1 + roll(30);
            let mut data: Vec<u8> = vec![roll(40) as u8, roll(256) as u8];
            data.extend((0..length).map(|_| if roll(newlines) == 0 { b'\n' } else { roll(256) as u8 }));
            fuzz_lines(&data);
        }
    }
}
