//! Agents that work on requests and call others, in simulated time, with the
//! rules of `trace::links` looking on. Who really made each call is known here,
//! so each answer of the rules can be scored. The same seed, the same run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use meshtrace::trace::context::{Carrier, Claim, TraceContext};
use meshtrace::trace::ids::Ids;
use meshtrace::trace::links::{self, Call, Inference, Known, Method, Parent};
use meshtrace::trace::places::{Background, Destination, Stuck};
use meshtrace::trace::server_spans::{Place, Served, ServerSpans};
use meshtrace::trace::telling::may_tell;
use meshtrace::w3c::traceparent::Traceparent;
use meshtrace::w3c::tracestate::Tracestate;
use opentelemetry::trace::{SpanId, TraceFlags, TraceId};

/// What an agent passes on with its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agent {
    /// Nothing; each request is of a trace of its own.
    Silent,
    /// Nothing; an orchestrator fans out, so that requests share traces.
    SilentInOneTrace,
    /// `params._meta` of the request that it works on.
    Meta,
    /// The headers of the request that it works on, with plain HTTP calls.
    HttpHeader,
    /// The same with MCP messages.
    McpHeader,
    /// The headers of the request that it works on; with MCP messages those of
    /// the request that opened the session.
    StuckHeader,
    /// The shim's context, which a pool mixes up in every second call.
    MixedUpShim,
}

/// Calls that are made after the answer, and other calls of the agent's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// There are none, and no heartbeat.
    Never,
    /// 5 ms after the answer, to one of the destinations.
    Soon,
    /// 100 ms after the answer, to any destination.
    AnyTime,
}

/// How one run is made.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// What the agent passes on.
    pub agent: Agent,
    /// How many requests it is sent at a time.
    pub concurrency: usize,
    /// How many in all.
    pub requests: usize,
    /// The calls that 5 % of the requests make after their answer, and a
    /// heartbeat every 5 s; the next request comes 30 ms after an answer.
    pub late: Late,
    /// Where chance starts.
    pub seed: u64,
}

/// The calls that one rule decided.
#[derive(Clone, Copy, Debug, Default)]
pub struct Score {
    /// How many.
    pub calls: u64,
    /// Those given a parent, a trace or a link by the rule.
    pub attributed: u64,
    /// Those of them that it was right about.
    pub right: u64,
    /// Calls that said `exact`.
    pub exact: u64,
    /// Calls that said `exact` and were wrong.
    pub exact_wrong: u64,
}

/// The outcome of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// By the place of the method in [`Method::ALL`].
    pub methods: [Score; Method::ALL.len()],
    /// Calls that belong to a request.
    pub caused: u64,
    /// Requests in flight when a call was made, added up.
    pub in_flight: u64,
    /// Calls with the context of another request whose arguments tell.
    pub telling_mixups: u64,
    /// Those of them that were flagged.
    pub flagged: u64,
}

impl Outcome {
    /// Adds another run.
    pub fn add(&mut self, other: &Outcome) {
        for (into, from) in self.methods.iter_mut().zip(&other.methods) {
            into.calls += from.calls;
            into.attributed += from.attributed;
            into.right += from.right;
            into.exact += from.exact;
            into.exact_wrong += from.exact_wrong;
        }
        self.caused += other.caused;
        self.in_flight += other.in_flight;
        self.telling_mixups += other.telling_mixups;
        self.flagged += other.flagged;
    }

    /// The score of one rule.
    pub fn of(&self, method: Method) -> Score {
        self.methods[method.index()]
    }
}

/// Runs it.
pub fn run(setup: Setup) -> Outcome {
    let mut world = World::new(setup);
    // An agent is registered before it is called.
    if setup.late != Late::Never {
        world.at(0, What::Heartbeat);
    }
    for _ in 0..setup.concurrency {
        world.at(1, What::Begin);
    }
    while let Some(Reverse((now, _, what))) = world.events.pop() {
        match what {
            What::Begin => world.begin(now),
            What::Call(request, step) => {
                let host = world.requests[request].tool[step];
                world.call(request, host);
            }
            What::End(request) => world.end(now, request),
            What::Late(request) => {
                let any = world.requests[request].tool[0];
                world.call(request, if setup.late == Late::Soon { "mail" } else { any });
            }
            What::Heartbeat => world.heartbeat(now),
        }
    }
    world.outcome
}

const MS: u64 = 1_000;
/// Destinations of the calls of each tool; `llm` takes longer.
const TOOLS: [&[&str]; 5] = [
    &["llm"],
    &["search", "llm"],
    &["crm", "billing", "llm"],
    &["crm", "search", "mail", "llm"],
    &["stock", "crm", "billing", "ship", "mail"],
];
const ENTITIES: u64 = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Begin,
    Call(usize, usize),
    End(usize),
    Late(usize),
    Heartbeat,
}

struct Request {
    context: TraceContext,
    place: Option<Place>,
    tool: &'static [&'static str],
    entity: String,
    unique: Option<String>,
}

struct World {
    setup: Setup,
    ids: Ids,
    events: BinaryHeap<Reverse<(u64, u64, What)>>,
    scheduled: u64,
    requests: Vec<Request>,
    running: Vec<usize>,
    trace: (TraceId, SpanId),
    opener: usize,
    spans: ServerSpans,
    known_destinations: Background,
    stuck: Stuck,
    outcome: Outcome,
}

impl World {
    fn new(setup: Setup) -> Self {
        let ids = Ids::seeded(setup.seed, setup.seed ^ 0x5eed);
        World {
            trace: (ids.trace_id(), ids.span_id()),
            setup,
            ids,
            events: BinaryHeap::new(),
            scheduled: 0,
            requests: Vec::new(),
            running: Vec::new(),
            opener: 0,
            spans: ServerSpans::new(65_536),
            known_destinations: Background::default(),
            stuck: Stuck::default(),
            outcome: Outcome::default(),
        }
    }

    fn at(&mut self, time: u64, what: What) {
        self.scheduled += 1;
        self.events.push(Reverse((time, self.scheduled, what)));
    }

    /// A number below `n`.
    fn roll(&self, n: u64) -> u64 {
        (self.ids.random() >> 64) as u64 % n
    }

    fn chance(&self, percent: u64) -> bool {
        self.roll(100) < percent
    }

    /// Log-normal around a median, in microseconds.
    fn time(&self, median: u64) -> u64 {
        let unit = |bits: u64| (bits >> 11) as f64 / (1u64 << 53) as f64;
        let (a, b) = (unit(self.roll(u64::MAX)).max(1e-12), unit(self.roll(u64::MAX)));
        let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
        (median as f64 * (0.5 * normal).exp()) as u64 + 1
    }

    fn begin(&mut self, now: u64) {
        let number = self.requests.len();
        if number >= self.setup.requests {
            return;
        }
        if number.is_multiple_of(self.setup.concurrency * 10) {
            self.trace = (self.ids.trace_id(), self.ids.span_id());
        }
        let shared = self.setup.agent == Agent::SilentInOneTrace;
        let (trace_id, caller) = if shared { self.trace } else { (self.ids.trace_id(), self.ids.span_id()) };
        let span_id = self.ids.span_id();
        let parent = Traceparent { trace_id, span_id, flags: TraceFlags::SAMPLED };
        let state = format!("mt={span_id}");
        let context = TraceContext { parent, tracestate: Tracestate::parse([state.as_bytes()]) };
        // Zipf: the first entity is in one of seven requests.
        let entity = (ENTITIES as f64).powf(self.roll(1 << 32) as f64 / (1u64 << 32) as f64) as u64;
        let entity = format!("customer-{entity:08}");
        let unique = self.chance(50).then(|| format!("order-{:016x}", self.roll(u64::MAX)));
        let text =
            format!("{{\"customer\":\"{entity}\",\"order\":\"{}\"}}", unique.as_deref().unwrap_or("none"));
        let arguments = if may_tell(text.as_bytes()) { text.as_bytes().into() } else { Box::default() };
        let served = Served { tracestate: state, caller: Some(caller), arguments, ..Served::of(parent) };
        let place = Some(self.spans.begin(served));
        let tool = TOOLS[self.roll(5) as usize];
        self.requests.push(Request { context, place, tool, entity, unique });
        self.running.push(number);
        let parallel = self.chance(30);
        let (mut start, mut end) = (now + self.time(3 * MS), now);
        for (step, to) in tool.iter().enumerate() {
            self.at(start, What::Call(number, step));
            let took =
                if *to == "llm" { self.time(800 * MS) } else { self.time(20 * MS + self.roll(40 * MS)) };
            end = end.max(start + took);
            if !parallel {
                start = end + self.time(3 * MS);
            }
        }
        self.at(end + self.time(3 * MS), What::End(number));
    }

    fn end(&mut self, now: u64, number: usize) {
        if let Some(place) = self.requests[number].place.take() {
            self.spans.end(place);
        }
        self.running.retain(|running| *running != number);
        let late = if self.setup.late == Late::Soon { 5 * MS } else { 100 * MS };
        if self.setup.late != Late::Never && self.chance(5) {
            let later = now + self.time(late);
            self.at(later, What::Late(number));
        }
        let next = now + self.time(30 * MS);
        self.at(next, What::Begin);
    }

    fn heartbeat(&mut self, now: u64) {
        if self.requests.len() < self.setup.requests {
            self.at(now + 5_000 * MS, What::Heartbeat);
        }
        let destination = Destination { host: "registry", port: 80, method: "POST", about: "heartbeat" };
        let parent = self.ask(Claim::default(), false, destination, "");
        self.score(None, &parent);
    }

    /// A call that a request makes, or made after its answer.
    fn call(&mut self, number: usize, host: &'static str) {
        let request = &self.requests[number];
        let text = match self.roll(100) {
            0..20 => request.entity.clone(),
            20..40 => request.unique.clone().unwrap_or_default(),
            40..60 => format!("result-{:016x}", self.roll(u64::MAX)),
            60..75 => "tenant-00001234-eu".to_owned(),
            _ => String::new(),
        };
        let mcp = host != "llm" && self.setup.agent != Agent::HttpHeader;
        let (method, about) = if mcp { ("tools/call", "") } else { ("POST", "chat") };
        let (claim, mixed_up) = self.claim(number, mcp);
        let parent = self.ask(claim, mcp, Destination { host, port: 80, method, about }, &text);
        if mixed_up && self.requests[number].unique.as_ref() == Some(&text) && self.running.contains(&number)
        {
            self.outcome.telling_mixups += 1;
            self.outcome.flagged += u64::from(parent.provenance.conflict);
        }
        self.score(Some(number), &parent);
    }

    /// What the call carries, and whether that is the context of another request.
    fn claim(&mut self, number: usize, mcp: bool) -> (Claim, bool) {
        let context = self.requests[number].context.clone();
        let of = |context, carrier| Claim { parent: Some((context, carrier)), ..Claim::default() };
        match self.setup.agent {
            Agent::Silent | Agent::SilentInOneTrace => (Claim::default(), false),
            Agent::Meta => (of(context, Carrier::Meta), false),
            Agent::HttpHeader | Agent::McpHeader => (of(context, Carrier::Header), false),
            Agent::StuckHeader if !mcp => (of(context, Carrier::Header), false),
            Agent::StuckHeader => {
                // A session is opened every now and then.
                if number.is_multiple_of(50) {
                    self.opener = number;
                }
                (of(self.requests[self.opener].context.clone(), Carrier::Header), false)
            }
            Agent::MixedUpShim => {
                let other = self.running.iter().find(|other| **other != number).copied();
                let other = other.filter(|_| self.chance(50));
                let mut context = other.map_or(context, |other| self.requests[other].context.clone());
                let state = format!("mt={};s", context.parent.span_id);
                context.tracestate = Tracestate::parse([state.as_bytes()]);
                (of(context, Carrier::Header), other.is_some())
            }
        }
    }

    fn ask(&mut self, claim: Claim, mcp: bool, destination: Destination<'_>, text: &str) -> Parent {
        let known = Known {
            spans: &self.spans,
            background: &self.known_destinations,
            stuck: &self.stuck,
            inference: Inference::Guarded,
        };
        self.outcome.in_flight += self.spans.in_flight() as u64;
        let texts = [text.as_bytes(), b"".as_slice()];
        let session = Some(destination.host);
        links::parent_of_call(Call { claim, library: None, mcp, session, destination, texts }, &known)
    }

    fn score(&mut self, truth: Option<usize>, parent: &Parent) {
        let truth = truth.map(|number| &self.requests[number]);
        self.outcome.caused += u64::from(truth.is_some());
        let method = parent.provenance.method;
        let right_span = |id: SpanId| truth.is_some_and(|t| t.context.parent.span_id == id);
        let right_trace = |id: TraceId| truth.is_some_and(|t| t.context.parent.trace_id == id);
        let (attributed, right) = match method {
            Method::TraceCommon => {
                let trace = parent.context.as_ref().map(|context| context.parent.trace_id);
                (trace.is_some(), trace.is_some_and(right_trace))
            }
            Method::InferredUniqueValue => {
                let linked = parent.links.iter().find(|link| link.reason == method.as_str());
                (linked.is_some(), linked.is_some_and(|link| right_span(link.to.span_id)))
            }
            _ => (parent.span.is_some(), parent.span.is_some_and(right_span)),
        };
        let score = &mut self.outcome.methods[method.index()];
        score.calls += 1;
        score.attributed += u64::from(attributed);
        score.right += u64::from(attributed && right);
        score.exact += u64::from(parent.provenance.exact);
        score.exact_wrong += u64::from(parent.provenance.exact && !right);
    }
}
