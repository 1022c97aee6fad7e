//! `meshtrace stdio`: the same spans for a server that speaks MCP over its
//! standard streams. It stands in front of the server's command line and passes
//! everything on: lines, signals, the exit code. Standard error is the
//! server's own.

pub mod lines;
pub mod talk;

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use self::lines::Lines;
use self::talk::Talk;

/// How much is read at once, in bytes.
const READ: usize = 64 * 1024;

/// How long the last of the server's output is waited for once the server has
/// ended: only what inherited its pipe can still write.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// Starts the server and passes everything on until it ends.
///
/// `signals` is told the server's process id once it runs; what it sends to
/// that process meanwhile is its own affair.
///
/// # Errors
/// When the command cannot be started.
pub fn run(
    command: &[OsString],
    talk: &Arc<Talk>,
    max_line: usize,
    signals: impl FnOnce(u32),
) -> io::Result<ExitStatus> {
    let (program, arguments) =
        command.split_first().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut child =
        Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    signals(child.id());
    let (over, done) = mpsc::sync_channel(1);
    towards_server(&mut child, Arc::clone(talk), max_line);
    towards_client(&mut child, Arc::clone(talk), max_line, over);
    let status = child.wait()?;
    // What it wrote before it ended is in the pipe, and its end comes after it.
    let _ = done.recv_timeout(LAST_OUTPUT);
    talk.ended();
    Ok(status)
}

/// Whatever reads or writes here ends with its pipe; so does the thread, or
/// with the process.
fn towards_server(child: &mut Child, talk: Arc<Talk>, max_line: usize) {
    let Some(mut server) = child.stdin.take() else { return };
    thread::spawn(move || {
        let client = io::stdin();
        let _ = pass(&mut client.lock(), &mut server, max_line, |line| talk.from_client(line));
    });
}

fn towards_client(child: &mut Child, talk: Arc<Talk>, max_line: usize, over: mpsc::SyncSender<()>) {
    let Some(mut server) = child.stdout.take() else { return };
    thread::spawn(move || {
        let client = io::stdout();
        let _ = pass(&mut server, &mut client.lock(), max_line, |line| talk.from_server(line));
        let _ = over.send(());
    });
}

/// Passes lines on until the end. A line leaves when it is whole, with all that
/// was read with it.
fn pass(
    from: &mut impl Read,
    to: &mut impl Write,
    max_line: usize,
    mut edit: impl FnMut(&[u8]) -> Option<Vec<u8>>,
) -> io::Result<()> {
    let mut lines = Lines::new(max_line);
    let mut buffer = vec![0; READ];
    let mut out = Vec::with_capacity(READ);
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        lines.pass(buffer.get(..count).unwrap_or_default(), &mut out, &mut edit);
        to.write_all(&out)?;
        to.flush()?;
        out.clear();
        out.shrink_to(READ);
    }
    to.write_all(&lines.rest())?;
    to.flush()
}
