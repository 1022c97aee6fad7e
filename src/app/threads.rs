//! What runs on the threads: the workers, and the one beside the request path.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::signals::Signals;
use super::{Phase, StartError};
use crate::admin::Admin;
use crate::export::{Exporter, Task};
use crate::proxy::accept::{self, Door};
use crate::proxy::notices::Post;
use crate::proxy::worker::Worker;
use crate::reload::Reload;

/// Runs it on a thread with an event loop of its own.
pub(super) fn thread(
    name: String,
    run: impl Future<Output = ()> + Send + 'static,
) -> Result<JoinHandle<()>, StartError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
    let thread = std::thread::Builder::new().name(name);
    let run = move || {
        runtime.block_on(run);
        // Drops the tasks like any drop, but waits for no name resolution.
        runtime.shutdown_background();
    };
    thread.spawn(run).map_err(StartError::Thread)
}

/// One worker: accepts on its sockets, and looks after its connections.
pub(super) async fn work(
    worker: Arc<Worker>,
    listeners: Vec<(Door, TcpListener)>,
    started: SyncSender<io::Result<()>>,
    mut phases: watch::Receiver<Phase>,
    looks_after_peers: bool,
) {
    let mut accepting = tokio::task::JoinSet::new();
    let mut serves = Ok(());
    for (door, listener) in listeners {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => drop(accepting.spawn(accept::run(listener, door, Arc::clone(&worker)))),
            Err(error) => serves = Err(error),
        }
    }
    say(started, serves);
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    while phases.borrow().accepts() {
        tokio::select! {
            _ = ticks.tick() => {
                worker.registry.tick();
                if looks_after_peers {
                    worker.look_after_peers(Instant::now());
                }
            }
            changed = phases.changed() => if changed.is_err() { break },
        }
    }
    accepting.shutdown().await;
    worker.registry.drain();
    let deadline = match *phases.borrow() {
        Phase::Draining(deadline) => deadline,
        _ => Instant::now(),
    };
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    while worker.registry.open() > 0 && Instant::now() < deadline {
        looks.tick().await;
        worker.registry.tick();
    }
    let left = worker.registry.open();
    if left > 0 {
        tracing::warn!(connections = left, "closed connections that were still busy");
    }
    worker.forget_peers();
    // Dropping the runtime now drops the connections, whose spans end with them.
}

/// Says whether a thread serves. Dropping the sender says that it is the last word.
fn say(started: SyncSender<io::Result<()>>, serves: io::Result<()>) {
    // Whoever started us has given up on another thread.
    let _ = started.send(serves);
}

/// The thread beside the request path: exports, and answers the operator.
pub(super) struct Control {
    pub(super) listener: Option<TcpListener>,
    pub(super) admin: Admin,
    pub(super) reload: Reload,
    pub(super) post: Option<Post>,
    pub(super) signals: Signals,
    pub(super) exporter: Exporter,
    pub(super) task: Option<Task>,
    pub(super) flush_timeout: Duration,
}

impl Control {
    /// Until the sidecar has stopped and the last spans have left.
    pub(super) async fn run(
        self,
        watch: impl Future<Output = ()> + Send + 'static,
        started: SyncSender<io::Result<()>>,
        mut phases: watch::Receiver<Phase>,
    ) {
        let readiness = self.admin.readiness.clone();
        tokio::spawn(watch);
        tokio::spawn(self.reload.run());
        let (stop, stopped) = watch::channel(());
        let mut signals = self.signals.spawn(&stopped, self.flush_timeout);
        let mut told = stopped.clone();
        let until_told = async move { while told.changed().await.is_ok() {} };
        let post = self.post.map(|post| tokio::spawn(post.run(until_told)));
        let export = self.task.map(|task| tokio::spawn(task.run()));
        let listener = self.listener.map(tokio::net::TcpListener::from_std).transpose();
        match listener {
            Ok(listener) => {
                drop(listener.map(|listener| tokio::spawn(self.admin.serve(listener))));
                say(started, Ok(()));
            }
            Err(error) => say(started, Err(error)),
        }
        while *phases.borrow() != Phase::Flushing {
            if *phases.borrow() != Phase::Serving {
                readiness.set_draining();
            }
            if phases.changed().await.is_err() {
                break;
            }
        }
        drop(stop);
        if let Some(post) = post {
            let _ = post.await;
        }
        let lost = self.exporter.shutdown(self.flush_timeout).await;
        if lost > 0 {
            tracing::warn!(spans = lost, "the last spans could not be sent in time");
        }
        if let Some(export) = export {
            let _ = export.await;
        }
        while signals.join_next().await.is_some() {}
    }
}
