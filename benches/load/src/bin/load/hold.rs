//! Many connections that are held: idle after one request, or with an open or unanswered one.
//!
//! After `READY` each line on standard input is answered with the number of SSE events received
//! and of connections still there; the end of standard input ends the program.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use meshtrace_load::args::Args;
use meshtrace_load::payload::{self, Kind};
use meshtrace_load::wire::Reader;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::LocalSet;

use crate::{kind, parent, say};

/// Connections that are being opened at the same time: far below any listen backlog.
const OPENING_AT_ONCE: usize = 64;

#[derive(Default)]
struct Counts {
    events: Cell<u64>,
    ended: Cell<u64>,
    lost: Cell<u64>,
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(args: &Args) -> io::Result<()> {
    let connections: u32 = args.get("connections", 1000);
    let tasks = LocalSet::new();
    tasks
        .run_until(async {
            let counts = Rc::new(Counts::default());
            open_all(args, connections, &counts).await?;
            let mut lines = lines();
            say("READY")?;
            while lines.recv().await.is_some() {
                say(&format!(
                    "{{\"events\":{},\"ended\":{},\"lost\":{}}}",
                    counts.events.get(),
                    counts.ended.get(),
                    counts.lost.get()
                ))?;
            }
            Ok(())
        })
        .await
}

/// Returns when every connection is where `kind` wants it.
async fn open_all(args: &Args, connections: u32, counts: &Rc<Counts>) -> io::Result<()> {
    let target: SocketAddr = args.need("target");
    let gate = Rc::new(Semaphore::new(OPENING_AT_ONCE));
    let failed = Rc::new(RefCell::new(None));
    let request = payload::request(kind(args), &target.to_string(), parent(args));
    for number in 0..connections {
        let permit = Rc::clone(&gate);
        // Waits here, so that no more than that many are on their way.
        let permit = acquire(permit).await?;
        let (counts, failed, kind) = (Rc::clone(counts), Rc::clone(&failed), kind(args));
        let message = request.clone().with(&payload::id_digits(number), u64::from(number)).to_vec();
        tokio::task::spawn_local(async move {
            let opened = open(target, kind, &message).await;
            drop(permit);
            match opened {
                Ok(stream) => watch(stream, &counts).await,
                Err(error) => *failed.borrow_mut() = Some(error),
            }
        });
    }
    let _all = gate.acquire_many(OPENING_AT_ONCE as u32).await.map_err(io::Error::other)?;
    failed.borrow_mut().take().map_or(Ok(()), Err)
}

/// A place at the gate that can move into a task.
async fn acquire(gate: Rc<Semaphore>) -> io::Result<impl Drop> {
    struct Place(Rc<Semaphore>);
    impl Drop for Place {
        fn drop(&mut self) {
            self.0.add_permits(1);
        }
    }
    gate.acquire().await.map_err(io::Error::other)?.forget();
    Ok(Place(gate))
}

async fn open(target: SocketAddr, kind: Kind, message: &[u8]) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    stream.write_all(message).await?;
    let mut reader = Reader::default();
    let answered = match kind {
        Kind::Hang => true,
        Kind::Open => reader.head(&mut stream).await?.is_some(),
        _ => reader.message(&mut stream).await?.is_some(),
    };
    if answered { Ok(stream) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Counts what arrives until the connection ends.
async fn watch(stream: TcpStream, counts: &Counts) {
    let mut buffer = [0; 1024];
    loop {
        if stream.readable().await.is_err() {
            break;
        }
        match stream.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                let bytes = &buffer[..read];
                let events = memchr::memmem::find_iter(bytes, b"data: ").count() as u64;
                counts.events.set(counts.events.get() + events);
                if memchr::memmem::find(bytes, b"\"result\"").is_some() {
                    counts.ended.set(counts.ended.get() + 1);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    counts.lost.set(counts.lost.get() + 1);
}

/// Lines of standard input, read by a thread of their own: this program must keep reading its
/// sockets meanwhile.
fn lines() -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut line = String::new();
        while matches!(io::stdin().read_line(&mut line), Ok(read) if read > 0) {
            if sender.blocking_send(()).is_err() {
                break;
            }
        }
    });
    receiver
}
