//! Runs the admission webhook: one thread, on which reviews, certificates and the admin port take turns.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;

use super::{Signals, complain};
use crate::admin::{Admin, AppProbes, Level, Readiness};
use crate::admission::cluster::Cluster;
use crate::admission::injector::{Keeper, unix_time};
use crate::admission::webhook::{Times, Webhook};
use crate::config::injection::{ACCOUNT, Injector};
use crate::log::{self, Format};
use crate::metrics::InjectorMetrics;
use crate::net::listen;
use crate::net::resolve::Resolver;
use crate::net::tls::{ClientFiles, Connector, Roots, Serving, TlsError};

/// How long reviews are still answered after SIGTERM: until every API server knows that this replica is gone.
const LEAVE: Duration = Duration::from_secs(5);

/// Why the injector could not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    /// A listener could not be bound.
    #[error("cannot listen on {address} ({flag}): {error}")]
    Bind { flag: &'static str, address: SocketAddr, error: io::Error },
    /// The authority of the API server cannot be used.
    #[error("the authority of the API server: {0}")]
    Authority(#[from] TlsError),
}

/// Runs it until it is told to stop, and returns the exit code.
pub(super) fn run(config: Injector) -> u8 {
    let level = log::start(config.log_level, Format::Text, None);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error),
    };
    let done = runtime.block_on(async {
        let mut signals = Signals::install().map_err(|error| complain(&error))?;
        let readiness = Readiness::new();
        let _tasks = start(config, level, &readiness).map_err(|error| complain(&error))?;
        signals.next(|| ()).await;
        tracing::info!("stopping once no API server sends anything more");
        readiness.set_draining();
        tokio::time::sleep(LEAVE).await;
        Ok::<_, u8>(())
    });
    runtime.shutdown_background();
    done.err().unwrap_or(0)
}

fn start(
    config: Injector,
    level: Level,
    readiness: &Readiness,
) -> Result<tokio::task::JoinSet<()>, StartError> {
    let listener = bind("--listen", config.listen)?;
    let admin_listener = config.admin.map(|address| bind("--admin", address)).transpose()?;
    let cluster = config.api.map(cluster).transpose()?;

    let mut registry = Registry::default();
    let metrics = InjectorMetrics::register(&mut registry);
    let serving = Arc::new(Serving::new());
    let version_is_open = config.settings.kubernetes.is_none();
    let webhook = Webhook::new(config.settings, Arc::clone(&serving), metrics.clone(), Times::default());
    let keeper = Keeper {
        source: config.source,
        cluster,
        serving,
        webhook: version_is_open.then(|| Arc::clone(&webhook)),
        metrics,
        served: Default::default(),
    };
    let admin = Admin {
        readiness: readiness.clone(),
        level,
        registry: Arc::new(registry),
        operations: Default::default(),
        agent: String::new(),
        closed: Default::default(),
        pages: Arc::new([]),
        probes: AppProbes::new(Default::default(), Resolver::default(), Default::default()),
    };
    tracing::info!(
        listen = ?listener.local_addr().ok(),
        admin = ?admin_listener.as_ref().and_then(|listener| listener.local_addr().ok()),
        "listening; ready when the certificate is served and trusted"
    );
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { match webhook.serve(listener).await {} });
    if let Some(listener) = admin_listener {
        tasks.spawn(async move { match admin.serve(listener).await {} });
    }
    let ready = readiness.clone();
    tasks.spawn(async move { match keeper.run(unix_time, move || ready.set_ready()).await {} });
    Ok(tasks)
}

fn bind(flag: &'static str, address: SocketAddr) -> Result<tokio::net::TcpListener, StartError> {
    let failed = |error| StartError::Bind { flag, address, error };
    let socket: Option<TcpListener> = listen::bind_dual(address, 1).map_err(failed)?.pop();
    let socket = socket.ok_or_else(|| failed(io::ErrorKind::AddrNotAvailable.into()))?;
    tokio::net::TcpListener::from_std(socket).map_err(failed)
}

/// The API server as every pod finds it: two variables, and the files of the service account.
fn cluster((host, port): (String, u16)) -> Result<Cluster, StartError> {
    let account = Path::new(ACCOUNT);
    let roots = Roots::Only(account.join("ca.crt"));
    let tls = Connector::new(ClientFiles { roots, identity: None })?;
    Ok(Cluster { host, port, tls: Some(tls), token: Some(account.join("token")) })
}
