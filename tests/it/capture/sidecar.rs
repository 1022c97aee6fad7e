//! A sidecar in the pod: the built binary, a collector for it, and the
//! requests that tests send through it.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use super::net::{Net, SIDECAR, meshtrace};
use crate::support::mesh::{Mesh, Span};
use crate::support::raw::{Raw, field, wait};

/// A running sidecar; dropping it kills it.
pub(super) struct Sidecar {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Sidecar {
    /// One that serves redirected connections as the user that rules spare.
    pub(super) fn start(net: &Net, args: &str) -> Sidecar {
        Sidecar::run(net, Some(SIDECAR), &format!("proxy --redirected {args}"), &[])
    }

    /// One of this user, `None` being root, with these arguments and variables.
    pub(super) fn run(net: &Net, uid: Option<u32>, args: &str, env: &[(&str, &str)]) -> Sidecar {
        let mut command = meshtrace(args);
        command.env("OTEL_TRACES_EXPORTER", "console").env("OTEL_SERVICE_NAME", "agent");
        command.envs(env.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped());
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        let mut child = net.pod(|| command.spawn()).unwrap();
        let said = Arc::<Mutex<String>>::default();
        let (mut from, into) = (child.stderr.take().unwrap(), Arc::clone(&said));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]);
                into.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
            }
        });
        let mut sidecar = Sidecar { child, said };
        wait("a ready sidecar", || {
            let ended = sidecar.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", sidecar.said());
            sidecar.said().contains(" ready ").then_some(())
        });
        sidecar
    }

    /// What it has written to standard error so far.
    pub(super) fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has said this.
    pub(super) fn says(&self, text: &str) {
        wait(text, || self.said().contains(text).then_some(()));
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as a crash would.
    pub(super) fn crash(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, and waits for that.
    pub(super) fn stop(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_raw(self.pid() as i32).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        wait("its end", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A collector that listens on the loopback interface of the pod.
pub(super) struct Collector {
    runtime: tokio::runtime::Runtime,
    mesh: Mesh,
}

impl Collector {
    pub(super) fn start(net: &Net) -> Collector {
        let listener = net.pod(|| std::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.unwrap();
        let inside = runtime.enter();
        let mesh = Mesh::at(tokio::net::TcpListener::from_std(listener).unwrap());
        drop(inside);
        Collector { runtime, mesh }
    }

    /// A sidecar that sends its spans here.
    pub(super) fn sidecar(&self, net: &Net, args: &str) -> Sidecar {
        let env = [
            ("OTEL_TRACES_EXPORTER", "otlp"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &self.mesh.endpoint()),
            ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        ];
        Sidecar::run(net, Some(SIDECAR), &format!("proxy --redirected {args}"), &env)
    }

    /// The spans, once there are so many.
    pub(super) fn spans(&self, count: usize) -> Vec<Span> {
        self.runtime.block_on(self.mesh.wait_for(count))
    }
}

/// A tool call with this `Host`, and with the trace fields that are given.
pub(super) fn call(host: &str, fields: &str) -> String {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
    format!(
        "POST /mcp HTTP/1.1\r\nHost: {host}\r\ncontent-type: application/json\r\naccept: application/json\r\n\
         mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: add\r\n{fields}\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The answer to it.
pub(super) const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n\
                                 {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"content\":[]}}  ";

/// Reads a request, and says what `traceparent` it carries.
#[track_caller]
pub(super) fn asked(server: &mut Raw) -> Option<String> {
    let head = server.head();
    let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
    server.take(length);
    field(&head, "traceparent").map(str::to_owned)
}

/// Sends a call one way and its answer the other, and says whether it was
/// traced on the way.
#[track_caller]
pub(super) fn exchange(client: &mut Raw, server: &mut Raw) -> bool {
    let traced = asked(server).is_some();
    server.send(ANSWER);
    client.expect(ANSWER);
    traced
}
