//! Keeps a CPU from sleeping, for as long as somebody holds standard input open.

use std::io::{self, Read};
use std::thread;

/// Spins until standard input ends. Run it at idle priority: all else goes first.
pub(crate) fn run() -> io::Result<()> {
    super::say("READY")?;
    // It ends with the process.
    thread::spawn(|| {
        loop {
            std::hint::spin_loop();
        }
    });
    io::stdin().read_to_end(&mut Vec::new()).map(|_| ())
}
