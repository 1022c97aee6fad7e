//! The demonstration: two agents, a sidecar each and a collector, all in this process on loopback ports.
//!
//! The agents know nothing of tracing and the spans travel by OTLP over a socket, so what is shown is what a
//! real mesh would show. The sidecars come from the caller, because what runs them lives on a higher floor.

mod agents;
mod calls;
mod endpoint;
#[cfg(test)]
mod fake;
mod report;
mod script;

use std::{
    any::Any,
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    time::Duration,
};

use tokio::net::TcpListener;

use self::{agents::Agent, endpoint::Endpoint, report::Report};
use crate::store::{Limits, Receiver, SpanStore};

pub use self::calls::CallError;

/// How long a sidecar may gather spans before it exports them. A person is waiting.
const EXPORT_DELAY: Duration = Duration::from_millis(100);

/// An error of the caller's sidecars.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How to run the demonstration.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// End after the scripted calls instead of serving on.
    pub once: bool,
    /// How long the spans of one call may take to arrive.
    pub patience: Duration,
}

impl Default for Options {
    /// Serves on; 10 seconds.
    fn default() -> Self {
        Self { once: false, patience: Duration::from_secs(10) }
    }
}

/// A sidecar that the demonstration wants. It samples everything, and exports as `http/protobuf`.
#[derive(Clone, Debug)]
pub struct SidecarPlan {
    /// Its `service.name`.
    pub service_name: String,
    /// Inbound listeners: where to listen (port 0 for a free one), and the agent behind it.
    pub inbound: Vec<(SocketAddr, SocketAddr)>,
    /// Outbound listeners: where to listen (port 0 for a free one), and the base URL that calls go to.
    pub outbound: Vec<(SocketAddr, String)>,
    /// The collector's base URL, as in `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub otlp_endpoint: String,
    /// How long spans may wait for a batch to fill, as in `OTEL_BSP_SCHEDULE_DELAY`.
    pub export_delay: Duration,
}

/// A sidecar that runs and listens.
pub struct RunningSidecar {
    /// The addresses of its inbound listeners, in the order of the plan.
    pub inbound: Vec<SocketAddr>,
    /// The addresses of its outbound listeners, in the order of the plan.
    pub outbound: Vec<SocketAddr>,
    /// Keeps it running; it ends when this is dropped.
    pub guard: Box<dyn Any + Send>,
}

/// Why the demonstration could not go on.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// No free loopback port.
    #[error("cannot listen on 127.0.0.1 for the {what}: {source}")]
    Listen {
        /// For whom.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A sidecar did not start.
    #[error("the sidecar of {agent} did not start: {source}")]
    Sidecar {
        /// Whose sidecar.
        agent: &'static str,
        /// Why.
        source: BoxError,
    },
    /// A scripted call has no result.
    #[error("the call {call} failed: {source}")]
    Call {
        /// Which one.
        call: String,
        /// Why.
        source: CallError,
    },
    /// Nobody reads what is printed.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

/// Runs the demonstration until `stop` completes, or with [`Options::once`] until its script is done. The traces
/// and the line to paste go to `out`, what is said about them to `say`. Returns whether the trace of every scripted
/// call arrived complete.
///
/// # Errors
/// [`DemoError`], when it cannot start, when a call has no result, or when `out` or `say` fail.
pub async fn run<S>(
    options: Options,
    start_sidecar: S,
    out: &mut impl Write,
    say: &mut impl Write,
    stop: impl Future<Output = ()>,
) -> Result<bool, DemoError>
where
    S: AsyncFn(SidecarPlan) -> Result<RunningSidecar, BoxError>,
{
    let mut stop = pin!(stop);
    let receiver = Receiver::start(Limits::default()).await;
    let receiver = receiver.map_err(|source| DemoError::Listen { what: "collector", source })?;
    writeln!(say, "collector        {} (OTLP/HTTP)", receiver.endpoint())?;
    let mesh = Mesh::start(&start_sidecar, receiver.endpoint(), say).await?;
    let mut report = Report::default();
    let complete = tokio::select! {
        complete = mesh.play(options, receiver.store(), &mut report, out, say) => complete?,
        () = &mut stop => return Ok(false),
    };
    if options.once {
        return Ok(complete);
    }
    writeln!(out, "{}", calls::curl(mesh.front(), "Lisbon"))?;
    out.flush()?;
    writeln!(say, "\nPaste the lines above; each trace that arrives is shown. Ctrl-C ends.")?;
    tokio::select! {
        followed = report.follow(receiver.store(), out) => followed?,
        () = &mut stop => {}
    }
    Ok(complete)
}

/// The agents and their sidecars. `research-agent` calls `weather-agent` through both sidecars.
struct Mesh {
    front: SocketAddr,
    _agents: [Endpoint; 2],
    _sidecars: [RunningSidecar; 2],
}

impl Mesh {
    async fn start<S>(
        start_sidecar: &S,
        otlp_endpoint: String,
        say: &mut impl Write,
    ) -> Result<Self, DemoError>
    where
        S: AsyncFn(SidecarPlan) -> Result<RunningSidecar, BoxError>,
    {
        let plan = |agent: &'static str| SidecarPlan {
            service_name: agent.to_owned(),
            inbound: Vec::new(),
            outbound: Vec::new(),
            otlp_endpoint: otlp_endpoint.clone(),
            export_delay: EXPORT_DELAY,
        };
        // From the far end to the near one, because each needs to know the address of the next.
        let (listener, app) = listen("weather-agent").await?;
        let agent = Agent::Weather;
        let weather = Endpoint::start(listener, agent)?;
        let mut wanted = plan(agent.name());
        wanted.inbound.push((free_port(), app));
        let weather_sidecar = start(start_sidecar, agent.name(), wanted).await?;
        let weather_front = first(&weather_sidecar.inbound, agent.name())?;

        let (listener, app) = listen("research-agent").await?;
        let mut wanted = plan("research-agent");
        wanted.inbound.push((free_port(), app));
        wanted.outbound.push((free_port(), format!("http://{weather_front}")));
        let research_sidecar = start(start_sidecar, "research-agent", wanted).await?;
        let front = first(&research_sidecar.inbound, "research-agent")?;
        let forecasts = first(&research_sidecar.outbound, "research-agent")?;
        let agent = Agent::Research { forecasts };
        let research = Endpoint::start(listener, agent)?;

        introduce(say, Agent::Weather, &weather, weather_front)?;
        introduce(say, agent, &research, front)?;
        writeln!(say, "  its calls go   http://{forecasts} -> http://{weather_front}")?;
        writeln!(say, "  {}\n", agents::PASSING_ON)?;
        Ok(Self { front, _agents: [weather, research], _sidecars: [weather_sidecar, research_sidecar] })
    }

    /// Where an outside caller reaches `research-agent`.
    fn front(&self) -> SocketAddr {
        self.front
    }

    /// Sends the scripted calls one after the other and prints their traces. Returns whether all were complete.
    async fn play(
        &self,
        options: Options,
        store: &SpanStore,
        report: &mut Report,
        out: &mut impl Write,
        say: &mut impl Write,
    ) -> Result<bool, DemoError> {
        let mut complete = true;
        for call in script::script() {
            let known = report::ids(store);
            let result = calls::send(self.front, &call.request).await;
            let result = result.map_err(|source| DemoError::Call { call: call.title.clone(), source })?;
            writeln!(out, "{} -> {}", call.title, calls::summary(&result))?;
            let arrived = report::arrived_since(store, &known, call.spans(), options.patience).await;
            for trace in &arrived {
                report.show(trace, out)?;
            }
            if let Err(problem) = call.check(&arrived, calls::is_error(&result)) {
                complete = false;
                writeln!(say, "incomplete: {}: {problem}\n", call.title)?;
            }
        }
        Ok(complete)
    }
}

/// A free port on loopback, for a sidecar to choose.
fn free_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

async fn listen(what: &'static str) -> Result<(TcpListener, SocketAddr), DemoError> {
    let bound = async {
        let listener = TcpListener::bind(free_port()).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map_err(|source| DemoError::Listen { what, source })
}

async fn start<S>(
    start_sidecar: &S,
    agent: &'static str,
    plan: SidecarPlan,
) -> Result<RunningSidecar, DemoError>
where
    S: AsyncFn(SidecarPlan) -> Result<RunningSidecar, BoxError>,
{
    let started = start_sidecar(plan).await;
    started.map_err(|source| DemoError::Sidecar { agent, source })
}

fn first(addresses: &[SocketAddr], agent: &'static str) -> Result<SocketAddr, DemoError> {
    addresses
        .first()
        .copied()
        .ok_or_else(|| DemoError::Sidecar { agent, source: "it does not say where it listens".into() })
}

fn introduce(say: &mut impl Write, agent: Agent, endpoint: &Endpoint, sidecar: SocketAddr) -> io::Result<()> {
    let (name, address, tool, path) = (agent.name(), endpoint.address(), agent.tool(), endpoint::PATH);
    writeln!(say, "{name:<16} http://{address}{path} (MCP, tool {tool}(city))")?;
    writeln!(say, "  its sidecar    http://{sidecar}{path}")
}

#[cfg(test)]
mod tests;
