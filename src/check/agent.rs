//! How the calls of a running agent found their parents, as its sidecar counts
//! them, and what would help those that found none.

use std::fmt::Write;
use std::net::SocketAddr;

use http::StatusCode;

use crate::net::ask;
use crate::trace::links::Method;
use crate::trace::tally::{Report, Unproved};

/// Where a sidecar says it.
pub const PATH: &str = "/debug/links";

/// The longest report that is read, in bytes.
const MAX_REPORT_BYTES: usize = 256 * 1024;

/// Destinations that are named for each method.
const NAMED: usize = 3;

/// Why a sidecar's report cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("http://{admin}{PATH}: {problem}")]
pub struct NoReport {
    admin: SocketAddr,
    problem: String,
}

/// Asks the sidecar with this admin address.
///
/// # Errors
/// [`NoReport`], where nothing or something else answers there.
pub async fn report(admin: SocketAddr) -> Result<Report, NoReport> {
    let problem = |problem: String| NoReport { admin, problem };
    let (status, body) = ask::get(admin, PATH, MAX_REPORT_BYTES).await.map_err(problem)?;
    if status != StatusCode::OK {
        let body: String = String::from_utf8_lossy(&body).replace(char::is_control, " ");
        let body: String = body.trim().chars().take(200).collect();
        return Err(problem(format!("{status} {body}").trim_end().to_owned()));
    }
    serde_json::from_slice(&body).map_err(|error| problem(format!("not the report of a sidecar: {error}")))
}

/// The report in words: a line for each method with its share, the largest
/// first, then what would help.
pub fn describe(report: &Report) -> String {
    let total: u64 = report.methods.values().sum();
    let mut text = format!("{}: {total} calls", report.service);
    let _ = writeln!(text, ", {} requests in flight", report.in_flight);
    if total == 0 {
        text.push_str("No call has come through the outbound side yet.\n");
        return text;
    }
    let mut methods: Vec<_> = report.methods.iter().collect();
    methods.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    for (method, calls) in methods {
        let share = *calls as f64 * 100.0 / total as f64;
        let _ = writeln!(text, "{share:5.1} % {method}{}", destinations(&report.unproved, method));
    }
    if report.conflicts > 0 {
        let _ = writeln!(text, "{} of them with arguments that speak for another parent", report.conflicts);
    }
    for (methods, help) in HELP {
        if methods.iter().any(|method| report.methods.contains_key(*method)) {
            let _ = writeln!(text, "\n{}: {help}", methods.join(", "));
        }
    }
    if [Method::Ambiguous, Method::PropagatedShim].iter().all(|m| report.methods.contains_key(m.as_str())) {
        let _ = writeln!(text, "\n{GAP}");
    }
    text
}

/// Whom the calls of a method went to, where that is counted.
fn destinations(unproved: &[Unproved], method: &str) -> String {
    let mut found: Vec<_> = unproved.iter().filter_map(|row| Some((row, row.methods.get(method)?))).collect();
    found.sort_by(|a, b| b.1.cmp(a.1));
    if found.is_empty() {
        return String::new();
    }
    let named: Vec<_> =
        found.iter().take(NAMED).map(|(row, calls)| format!("{} ({calls})", row.destination)).collect();
    let more = found.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(": calls to {}{more}", named.join(", "))
}

/// What to do about the calls of some methods.
const HELP: [(&[&str], &str); 4] = [
    (
        &["ambiguous", "inferred.unique_value", "trace.common"],
        "the agent passes no context on with these calls while it works on several requests. \
         Pass `params._meta` on in MCP calls and the headers `traceparent` and `tracestate` in others, \
         as current SDKs do, or give the agent the shim (`meshtrace shim`).",
    ),
    (
        &["inferred.single"],
        "the parent is the only request that was in flight: right as long as the agent does one thing \
         at a time. The same measures prove it.",
    ),
    (
        &["background"],
        "made while no request was in flight: heartbeats, polls, or work that goes on after the answer. \
         What no trace needs can be ignored (`spans.ignore`).",
    ),
    (
        &["progress", "session"],
        "questions of the server on the stream of its session, which say no request that they belong to. \
         A server that asks on the stream of that request, as SDKs do when they are given it, proves it.",
    ),
];

/// What is said where some calls have the mark of the shim and others nothing.
const GAP: &str = "The agent has the shim. Calls that are ambiguous all the same are made by a library which the shim \
    does not follow, or for a request that came through one, or by work that was handed over through a queue. \
    `MESHTRACE_SHIM=debug` lets the agent say on stderr what was patched.";

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, u64)]) -> std::collections::BTreeMap<String, u64> {
        of.iter().map(|(method, calls)| ((*method).to_owned(), *calls)).collect()
    }

    fn row(destination: &str, methods: &[(&str, u64)]) -> Unproved {
        let methods = counts(methods);
        Unproved { destination: destination.to_owned(), calls: methods.values().sum(), methods }
    }

    #[test]
    fn shares_destinations_and_help() {
        let report = Report {
            service: "planner".to_owned(),
            in_flight: 2,
            methods: counts(&[("propagated.shim", 970), ("ambiguous", 30)]),
            unproved: vec![row("db:5432", &[("ambiguous", 28)]), row("llm:80", &[("ambiguous", 2)])],
            ..Report::default()
        };
        let text = describe(&report);
        let expect = [
            "planner: 1000 calls, 2 requests in flight",
            " 97.0 % propagated.shim",
            "  3.0 % ambiguous: calls to db:5432 (28), llm:80 (2)",
            "",
            "ambiguous, inferred.unique_value, trace.common: the agent passes no context on",
        ]
        .join("\n");
        assert!(text.starts_with(&expect), "{text}");
        assert!(!text.contains("background"), "{text}");
        assert!(text.contains("a library which the shim does not follow"), "{text}");
        let without = Report { methods: counts(&[("ambiguous", 30)]), ..report };
        assert!(!describe(&without).contains("The agent has the shim"));
    }

    #[test]
    fn few_destinations_are_named_and_nothing_is_said_of_nothing() {
        let rows: Vec<_> = (0..5).map(|n| row(&format!("h{n}:80"), &[("background", 5 - n)])).collect();
        let all = Report { methods: counts(&[("background", 15)]), unproved: rows, ..Report::default() };
        assert!(describe(&all).contains("calls to h0:80 (5), h1:80 (4), h2:80 (3) and 2 more\n"));
        assert!(describe(&Report::default()).contains("No call has come"));
    }

    #[test]
    fn every_method_without_proof_has_help() {
        for method in Method::ALL {
            let helped = HELP.iter().any(|(methods, _)| methods.contains(&method.as_str()));
            assert_eq!(helped, !method.is_proof(), "{}", method.as_str());
        }
    }
}
