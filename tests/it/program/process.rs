//! Starts the binary with nothing but the given environment, and watches it.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use meshtrace::trace::ids::Ids;

use crate::support::mesh::PATIENCE;

/// A running program. Dropping it kills it.
pub(super) struct Process {
    child: Child,
    out: Arc<Mutex<String>>,
    err: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

/// A program that has ended.
#[derive(Debug)]
pub(super) struct Done {
    /// Its exit code; `None` where a signal ended it.
    pub(super) code: Option<i32>,
    /// The signal that ended it.
    pub(super) signal: Option<i32>,
    /// All that it wrote to standard output.
    pub(super) out: String,
    /// All that it wrote to standard error.
    pub(super) err: String,
}

/// Runs it to its end.
pub(super) async fn run(args: &[&str], env: &[(&str, &str)]) -> Done {
    Process::start(args, env).exit().await
}

impl Process {
    /// Starts it.
    pub(super) fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
        Process::spawn(args, env, Stdio::null())
    }

    fn spawn(args: &[&str], env: &[(&str, &str)], stdin: Stdio) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshtrace"));
        command.args(args).env_clear().envs(env.iter().copied());
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (out, err) = (Arc::<Mutex<String>>::default(), Arc::<Mutex<String>>::default());
        let readers = vec![
            collect(child.stdout.take().unwrap(), Arc::clone(&out)),
            collect(child.stderr.take().unwrap(), Arc::clone(&err)),
        ];
        Process { child, out, err, readers }
    }

    /// A sidecar that has said that it is ready.
    pub(super) async fn ready(args: &[&str], env: &[(&str, &str)]) -> Self {
        let process = Process::start(args, env);
        process.says("ready").await;
        process
    }

    /// Waits until this is on standard error.
    pub(super) async fn says(&self, text: &str) {
        wait_for(&self.err, text).await;
    }

    /// Waits until this is on standard output.
    pub(super) async fn prints(&self, text: &str) {
        wait_for(&self.out, text).await;
    }

    /// What is on standard output so far.
    pub(super) fn out(&self) -> String {
        read(&self.out)
    }

    /// Starts it with a pipe to write to.
    pub(super) fn start_piped(args: &[&str], env: &[(&str, &str)]) -> (Self, ChildStdin) {
        let mut process = Process::spawn(args, env, Stdio::piped());
        let stdin = process.child.stdin.take().unwrap();
        (process, stdin)
    }

    /// Sends a signal by its name.
    pub(super) fn signal(&self, name: &str) {
        let kill = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(kill.unwrap().success());
    }

    /// Waits for its end.
    pub(super) async fn exit(mut self) -> Done {
        let deadline = Instant::now() + 2 * PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it goes on; stderr:\n{}", read(&self.err));
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        Done { signal: status.signal(), code: status.code(), out: read(&self.out), err: read(&self.err) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(mut from: impl Read + Send + 'static, into: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            into.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    })
}

fn read(text: &Mutex<String>) -> String {
    text.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

async fn wait_for(stream: &Mutex<String>, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !read(stream).contains(text) {
        assert!(Instant::now() < deadline, "{text:?} awaited in:\n{}", read(stream));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// An address that nobody listens on, outside the range that the system deals
/// out by itself, so that no other test is given it meanwhile.
pub(super) fn free_address() -> SocketAddr {
    let ids = Ids::new();
    let ports = std::iter::repeat_with(|| 10_000 + (ids.random() % 20_000) as u16).take(200);
    let mut free = ports.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    SocketAddr::from((Ipv4Addr::LOCALHOST, free.next().expect("a free port")))
}
