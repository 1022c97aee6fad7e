//! Keeps a CPU from sleeping, for as long as somebody holds standard input open.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

static OVER: AtomicBool = AtomicBool::new(false);

/// Spins until standard input ends. Run it at idle priority: all else goes first.
pub(crate) fn run() -> io::Result<()> {
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        OVER.store(true, Ordering::Relaxed);
    });
    super::say("READY")?;
    while !OVER.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
    Ok(())
}
