//! Precision and recall of the rules that find a parent, rule by rule and in
//! all, at 1 to 100 requests in flight: `cargo bench --bench causality`.
//!
//! P is right of attributed, R is right of all calls that belong to a request.
//! With `-- --quick` one seed is run instead of three, with `-- --cost` none:
//! then only what a decision costs is printed, as it is after the rest.

// Nothing is outside of a bench.
#![allow(unreachable_pub)]

mod cost;
mod sim;

use meshtrace::trace::links::Method;

use sim::{Agent, Late, Outcome, Setup};

const IN_FLIGHT: [usize; 5] = [1, 2, 5, 20, 100];

const AGENTS: [(Agent, Late, &str); 9] = [
    (Agent::Silent, Late::Soon, "passes nothing on"),
    (Agent::Silent, Late::AnyTime, "the same, late calls 100 ms late and anywhere"),
    (Agent::Silent, Late::Never, "the same, no late calls, no heartbeat"),
    (Agent::SilentInOneTrace, Late::Soon, "passes nothing on, traces of many requests"),
    (Agent::Meta, Late::Soon, "passes `_meta` on"),
    (Agent::HttpHeader, Late::Soon, "passes the header on, HTTP calls"),
    (Agent::McpHeader, Late::Soon, "passes the header on, MCP calls"),
    (Agent::StuckHeader, Late::Soon, "the same, but MCP sessions keep their first header"),
    (Agent::MixedUpShim, Late::Soon, "shim; a pool mixes up half of the contexts"),
];

fn main() {
    let asked = |word: &str| std::env::args().any(|arg| arg == word);
    if asked("--cost") {
        return cost::print();
    }
    let seeds = if asked("--quick") { 1 } else { 3 };
    println!("| agent | rule | {} |", IN_FLIGHT.map(|c| format!("C={c}")).join(" | "));
    println!("|---|---|{}", "---|".repeat(IN_FLIGHT.len()));
    for (agent, late, said) in AGENTS {
        let outcomes = IN_FLIGHT.map(|concurrency| {
            let mut all = Outcome::default();
            for seed in 1..=seeds {
                let setup = Setup { agent, concurrency, requests: 2_000, late, seed };
                all.add(&sim::run(setup));
            }
            all
        });
        rows(said, &outcomes);
    }
    println!();
    cost::print();
}

fn rows(agent: &str, outcomes: &[Outcome; 5]) {
    for method in Method::ALL {
        if outcomes.iter().any(|outcome| outcome.of(method).attributed > 0) {
            let cells = outcomes.each_ref().map(|outcome| {
                let score = outcome.of(method);
                cell(score.right, score.attributed, outcome.caused)
            });
            println!("| {agent} | `{}` | {} |", method.as_str(), cells.join(" | "));
        }
    }
    let sum = |outcome: &Outcome, of: fn(&sim::Score) -> u64| outcome.methods.iter().map(of).sum::<u64>();
    let cells = outcomes.each_ref().map(|outcome| {
        cell(sum(outcome, |score| score.right), sum(outcome, |score| score.attributed), outcome.caused)
    });
    println!("| {agent} | all | {} |", cells.join(" | "));
    let cells = outcomes.each_ref().map(|outcome| {
        format!("{} of {}", sum(outcome, |score| score.exact_wrong), sum(outcome, |score| score.exact))
    });
    println!("| {agent} | wrong among `exact` | {} |", cells.join(" | "));
    if outcomes.iter().any(|outcome| outcome.telling_mixups > 0) {
        let cells = outcomes.each_ref().map(|o| format!("{} of {}", o.flagged, o.telling_mixups));
        println!("| {agent} | flagged, where an argument tells | {} |", cells.join(" | "));
    }
}

fn cell(right: u64, attributed: u64, caused: u64) -> String {
    let share = |part: u64, of: u64| if of == 0 { 0.0 } else { part as f64 * 100.0 / of as f64 };
    if attributed == 0 {
        return "–".to_owned();
    }
    format!("P{:.1} R{:.1}", share(right, attributed), share(right, caused))
}
