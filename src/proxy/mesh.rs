//! What an agent on MCP Mesh and its registry say to each other, so that the
//! spans of this traffic are named for what it is.
//!
//! The mesh (`mcp-mesh` 3.8) speaks plain HTTP here: an agent registers with
//! `POST /heartbeat`, whose answer tells which agents its dependencies were
//! resolved to, shows every few seconds that it lives with
//! `HEAD /heartbeat/{agent id}`, and leaves with `DELETE /agents/{agent id}`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::Method;
use serde::Deserialize;

/// The most agents that one answer puts on a span.
pub(super) const MAX_TARGETS: usize = 16;

/// A request of an agent to the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryCall<'a> {
    /// What it is for.
    pub operation: Operation,
    /// The agent's id: its name, and eight hexadecimal digits of this process.
    pub agent_id: Cow<'a, str>,
    /// The agent's name.
    pub agent: Cow<'a, str>,
}

/// What an agent wants of the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// To be known with all its tools, and to have its dependencies resolved.
    Register,
    /// To be seen alive.
    Heartbeat,
    /// To be forgotten.
    Unregister,
}

impl Operation {
    /// The name of the span, and what a rule of `spans.ignore` calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Register => "mesh/register",
            Operation::Heartbeat => "mesh/heartbeat",
            Operation::Unregister => "mesh/unregister",
        }
    }
}

#[derive(Deserialize)]
struct Registration<'a> {
    #[serde(borrow)]
    agent_id: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    /// Not of interest, but nothing else has it beside the other two.
    #[serde(borrow, rename = "agent_type")]
    _agent_type: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Registered<'a> {
    #[serde(borrow)]
    dependencies_resolved: Option<BTreeMap<Cow<'a, str>, Slots<'a>>>,
}

/// The dependencies of one function, in the order of its parameters; empty
/// where nobody offers what it needs.
type Slots<'a> = Option<Vec<Option<Resolved<'a>>>>;

#[derive(Deserialize)]
struct Resolved<'a> {
    #[serde(borrow)]
    agent_id: Option<Cow<'a, str>>,
}

/// Recognises a request to the registry. `body` is the whole body, empty where
/// there is none.
pub fn registry_call<'a>(method: &Method, path: &'a str, body: &'a [u8]) -> Option<RegistryCall<'a>> {
    let known = |operation, id: &'a str| {
        let agent = name_of(id)?;
        Some(RegistryCall { operation, agent_id: Cow::Borrowed(id), agent: Cow::Borrowed(agent) })
    };
    match *method {
        Method::POST if path == "/heartbeat" => {
            let Registration { agent_id, name, .. } = serde_json::from_slice(body).ok()?;
            Some(RegistryCall { operation: Operation::Register, agent_id, agent: name })
        }
        Method::HEAD => known(Operation::Heartbeat, path.strip_prefix("/heartbeat/")?),
        Method::DELETE => known(Operation::Unregister, path.strip_prefix("/agents/")?),
        _ => None,
    }
}

/// The names of the agents that the answer to a registration resolves to, each
/// once and `MAX_TARGETS` at most, joined by commas; nothing where there are none.
pub fn resolved(body: &[u8]) -> Option<String> {
    let answer: Registered<'_> = serde_json::from_slice(body).ok()?;
    let mut names: Vec<String> = Vec::new();
    for found in answer.dependencies_resolved?.into_values().flatten().flatten().flatten() {
        let Some(id) = found.agent_id else { continue };
        let name = name_of(&id).unwrap_or(&id);
        if names.len() < MAX_TARGETS && !names.iter().any(|held| held == name) {
            names.push(name.to_owned());
        }
    }
    (!names.is_empty()).then(|| names.join(","))
}

/// The name in an agent's id.
fn name_of(id: &str) -> Option<&str> {
    let (name, process) = id.rsplit_once('-')?;
    let is_process = process.len() == 8 && process.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (is_process && !name.is_empty() && !name.contains('/')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTRATION: &str = r#"{"agent_id":"planner-agent-312508f0","name":"planner-agent",
        "agent_type":"mcp_agent","version":"1.0.0","http_host":"192.0.2.2","http_port":9001,
        "tools":[{"function_name":"plan","dependencies":[{"capability":"forecast"}]}]}"#;
    const ANSWER: &str = r#"{"agent_id":"planner-agent-312508f0","dependencies_resolved":{"plan":[
        {"agent_id":"weather-agent-484099c4","capability":"forecast","status":"available"},
        {"agent_id":"weather-agent-484099c4","capability":"wind"},null,{"status":"unavailable"}],
        "rest":null},"status":"success"}"#;

    fn read(method: Method, path: &str, body: &str) -> Option<(Operation, String)> {
        let call = registry_call(&method, path, body.as_bytes())?;
        Some((call.operation, call.agent.into_owned()))
    }

    #[test]
    fn what_an_agent_asks_of_its_registry() {
        let planner = |operation| Some((operation, "planner-agent".to_owned()));
        assert_eq!(read(Method::POST, "/heartbeat", REGISTRATION), planner(Operation::Register));
        let path = "/heartbeat/planner-agent-312508f0";
        assert_eq!(read(Method::HEAD, path, ""), planner(Operation::Heartbeat));
        let path = "/agents/planner-agent-312508f0";
        assert_eq!(read(Method::DELETE, path, ""), planner(Operation::Unregister));
    }

    #[test]
    fn what_only_looks_like_it() {
        for (method, path, body) in [
            (Method::POST, "/heartbeat", r#"{"agent_id":"a-312508f0","name":"a"}"#),
            (Method::POST, "/heartbeat", "beat"),
            (Method::POST, "/heartbeat/", REGISTRATION),
            (Method::GET, "/heartbeat/planner-agent-312508f0", ""),
            (Method::HEAD, "/heartbeat/42", ""),
            (Method::HEAD, "/heartbeat/a-312508F0", ""),
            (Method::HEAD, "/heartbeat/-312508f0", ""),
            (Method::HEAD, "/heartbeat/a/b-312508f0", ""),
            (Method::DELETE, "/agents/planner-agent", ""),
        ] {
            assert_eq!(read(method.clone(), path, body), None, "{method} {path} {body}");
        }
    }

    #[test]
    fn the_answer_names_whom_a_dependency_was_resolved_to() {
        assert_eq!(resolved(ANSWER.as_bytes()).as_deref(), Some("weather-agent"));
        assert_eq!(resolved(br#"{"dependencies_resolved":{}}"#), None);
        assert_eq!(resolved(br#"{"dependencies_resolved":null}"#), None);
        assert_eq!(resolved(br#"{"status":"success"}"#), None);
        let many: Vec<_> = (0..50).map(|n| format!(r#"{{"agent_id":"agent{n}-312508f0"}}"#)).collect();
        let text = format!(r#"{{"dependencies_resolved":{{"x":[{}]}}}}"#, many.join(","));
        assert_eq!(resolved(text.as_bytes()).unwrap().split(',').count(), MAX_TARGETS);
    }

    #[test]
    fn no_body_panics() {
        let mut number = 0x2545_f491_4f6c_dd1d_u64;
        let mut below = |bound: usize| {
            number ^= number << 13;
            number ^= number >> 7;
            number ^= number << 17;
            (number >> 16) as usize % bound.max(1)
        };
        for seed in [REGISTRATION, ANSWER] {
            for _ in 0..5_000 {
                let mut mutant = seed.as_bytes().to_vec();
                for _ in 0..=below(4) {
                    let at = below(mutant.len());
                    mutant[at] = below(256) as u8;
                }
                mutant.truncate(below(mutant.len() + 1));
                let _ = registry_call(&Method::POST, "/heartbeat", &mutant);
                let _ = resolved(&mutant);
            }
        }
    }
}
