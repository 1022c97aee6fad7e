//! Lines for a stream that may be slow or stuck, written by a thread of its
//! own. Whoever has a line never waits: over the bound it is dropped and counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use prometheus_client::metrics::counter::Counter;

/// The most bytes that wait to be written.
pub const MAX_WAITING_BYTES: usize = 1024 * 1024;

/// The way to the stream. Clones share it.
#[derive(Clone, Debug)]
pub struct Lines(Arc<Shared>);

/// The thread that writes.
#[derive(Debug)]
pub struct Writer {
    lines: Lines,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    arrived: Condvar,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    closed: bool,
}

impl Lines {
    /// Lines for `stream`; `dropped` counts those that found no room.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn to(mut stream: impl Write + Send + 'static, dropped: Counter) -> io::Result<(Lines, Writer)> {
        let shared = Shared { state: Mutex::default(), arrived: Condvar::new(), dropped };
        let lines = Lines(Arc::new(shared));
        let source = lines.clone();
        let write = move || {
            while let Some(bytes) = source.take() {
                // Who reads may have gone; what is left of the program goes on.
                if stream.write_all(&bytes).and_then(|()| stream.flush()).is_err() {
                    source.0.state.lock().closed = true;
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("lines".to_owned()).spawn(write)?;
        Ok((lines.clone(), Writer { lines, thread }))
    }

    /// Hands over one line, which ends with its line break.
    pub fn push(&self, line: &[u8]) {
        let mut state = self.0.state.lock();
        if state.closed || state.waiting.len() + line.len() > MAX_WAITING_BYTES {
            self.0.dropped.inc();
            return;
        }
        let wakes = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        drop(state);
        if wakes {
            self.0.arrived.notify_one();
        }
    }

    /// What waits, as soon as anything does; nothing once it is closed.
    fn take(&self) -> Option<Vec<u8>> {
        let mut state = self.0.state.lock();
        while state.waiting.is_empty() {
            if state.closed {
                return None;
            }
            self.0.arrived.wait(&mut state);
        }
        Some(std::mem::take(&mut state.waiting))
    }
}

impl Writer {
    /// Takes no more lines and writes those that wait, for at most this long.
    pub fn close(self, deadline: Duration) {
        self.lines.0.state.lock().closed = true;
        self.lines.0.arrived.notify_one();
        let until = Instant::now() + deadline;
        while !self.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A stream that says what it gets, and takes it when the test lets it.
    struct Slow(mpsc::SyncSender<Vec<u8>>, mpsc::Receiver<()>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            self.1.recv().map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_for_a_stream_that_is_stuck() {
        let ((sent, got), (go, wait)) = (mpsc::sync_channel(8), mpsc::sync_channel(8));
        let dropped = Counter::default();
        let (lines, writer) = Lines::to(Slow(sent, wait), dropped.clone()).unwrap();
        lines.push(b"first\n");
        assert_eq!(got.recv().unwrap(), b"first\n");
        // From here on the stream is stuck; what fits waits, the rest is dropped.
        let line = [b'x'; 1024];
        for _ in 0..2 * MAX_WAITING_BYTES / line.len() {
            lines.push(&line);
        }
        assert_eq!(dropped.get(), (MAX_WAITING_BYTES / line.len()) as u64);
        go.send(()).unwrap();
        assert_eq!(got.recv().unwrap().len(), MAX_WAITING_BYTES);
        go.send(()).unwrap();
        lines.push(b"last\n");
        go.send(()).unwrap();
        writer.close(Duration::from_secs(20));
        assert_eq!(got.recv().unwrap(), b"last\n");
        lines.push(b"too late\n");
        assert!(got.try_recv().is_err());
    }

    #[test]
    fn a_stream_that_broke_ends_the_thread() {
        let ((sent, got), (_go, wait)) = (mpsc::sync_channel(8), mpsc::sync_channel::<()>(8));
        drop(got);
        let (lines, writer) = Lines::to(Slow(sent, wait), Counter::default()).unwrap();
        lines.push(b"line\n");
        writer.close(Duration::from_secs(20));
    }
}
