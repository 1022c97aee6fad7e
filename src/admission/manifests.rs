//! The change made to manifests: a stream of YAML or JSON documents in, the same stream out.
//!
//! A document in which nothing has to change leaves byte by byte as it came. One that has to is written anew: everything
//! that it says stays, in its order, but comments and the way in which it was written are lost.

use std::fmt;

use serde_json::Value;

use crate::admission::decide::{Settings, Subject};
use crate::admission::owner::Workload;
use crate::admission::patch::{self, Decision};
use crate::admission::pod;
use crate::admission::yaml;

/// What becomes of each pod template.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// The sidecar is added, unless the pod declines.
    Inject(&'a Settings),
    /// It is taken out.
    Undo,
}

/// The new stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rewritten {
    /// All documents.
    pub text: String,
    /// What was done to each pod template, and what was not and why; one line each.
    pub notes: Vec<String>,
    /// How many pod templates were changed.
    pub changed: usize,
}

/// What is wrong with the stream, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// The document, from 1.
    pub document: usize,
    /// Line and column in the stream, from 1, as far as they are known.
    pub line: usize,
    /// See `line`.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Problem {
    /// `line:column: document N: what`, to be put behind the file's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.line)?;
        if let Some(column) = self.column {
            write!(f, "{column}:")?;
        }
        write!(f, " document {}: {}", self.document, self.message)
    }
}

/// Rewrites a stream.
///
/// # Errors
/// For the first document that is not YAML, is a workload without a pod in it, or says something that cannot be meant.
/// Nothing is half done then.
pub fn rewrite(text: &str, change: Change<'_>) -> Result<Rewritten, Problem> {
    let mut rewritten = Rewritten::default();
    for (index, chunk) in split(text).into_iter().enumerate() {
        let problem = |line: usize, column, message| Problem {
            document: index + 1,
            line: chunk.line + line - 1,
            column,
            message,
        };
        let old: Value =
            yaml::read(chunk.text).map_err(|e| problem(e.line.unwrap_or(1), e.column, e.message))?;
        let mut new = old.clone();
        let before = rewritten.changed;
        document(&mut new, change, &mut rewritten)
            .map_err(|message| problem(first_line(chunk.text), None, message))?;
        if rewritten.changed == before {
            rewritten.text.push_str(chunk.text);
            continue;
        }
        if chunk.separated {
            rewritten.text.push_str("---\n");
        }
        let written = yaml::write(&new).map_err(|message| problem(1, None, message))?;
        rewritten.text.push_str(&written);
    }
    Ok(rewritten)
}

/// A document as it stands in the stream.
struct Chunk<'a> {
    text: &'a str,
    line: usize,
    /// It begins with `---`.
    separated: bool,
}

/// Cuts the stream before each line that is a document marker, which no scalar can contain at the start of a line.
fn split(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let (mut start, mut start_line, mut separated) = (0, 1, false);
    let mut at = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let marker = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if marker {
            if at > start {
                chunks.push(Chunk { text: &text[start..at], line: start_line, separated });
            }
            (start, start_line, separated) = (at, index + 1, true);
        }
        at += line.len();
    }
    if at > start {
        chunks.push(Chunk { text: &text[start..], line: start_line, separated });
    }
    chunks
}

/// The first line, from 1, that says something.
fn first_line(text: &str) -> usize {
    let says =
        |line: &str| !line.trim().is_empty() && !line.starts_with("---") && !line.trim().starts_with('#');
    text.lines().position(says).map_or(1, |index| index + 1)
}

fn document(value: &mut Value, change: Change<'_>, rewritten: &mut Rewritten) -> Result<(), String> {
    let kind = pod::text(value, "kind").unwrap_or_default().to_owned();
    let version = pod::text(value, "apiVersion").unwrap_or_default().to_owned();
    if kind.ends_with("List") && value.get("items").is_some_and(Value::is_array) {
        for item in pod::list_if_any(value, "items") {
            document(item, change, rewritten)?;
        }
        return Ok(());
    }
    let Some(path) = template(&version, &kind) else {
        return Ok(());
    };
    let name = value.get("metadata").and_then(|metadata| pod::text(metadata, "name"));
    let workload =
        name.filter(|_| kind != "Pod").map(|name| Workload { kind: kind.clone(), name: name.to_owned() });
    let title = format!("{kind} {}", name.unwrap_or("without a name"));
    if !path.is_empty() && pod::annotation(value, crate::admission::INJECT).is_some() {
        rewritten
            .notes
            .push(format!("{title}: meshtrace.io/inject has no effect here; it belongs to the pod template"));
    }
    let pod = value.pointer_mut(path).ok_or_else(|| format!("{title} has no pod template"))?;
    let new = changed(pod, change, workload, &title, rewritten)?;
    if new != *pod {
        *pod = new;
        rewritten.changed += 1;
    }
    Ok(())
}

fn changed(
    pod: &Value,
    change: Change<'_>,
    workload: Option<Workload>,
    title: &str,
    rewritten: &mut Rewritten,
) -> Result<Value, String> {
    let settings = match change {
        Change::Undo => return patch::undo(pod).map_err(|error| format!("{title}: {error}")),
        Change::Inject(settings) => settings,
    };
    let subject = Subject { asked: true, restricted: false, workload };
    let outcome = patch::apply(pod, &subject, settings).map_err(|error| format!("{title}: {error}"))?;
    let warnings = outcome.warnings.iter();
    match &outcome.decision {
        // Who typed the command can mend it.
        Decision::Refused(refusal) if refusal.reason.starts_with("invalid_") => {
            return Err(format!("{title}: {refusal}"));
        }
        Decision::NotAsked => rewritten.notes.push(format!("{title}: declines")),
        Decision::Refused(_) => {}
        Decision::Injected(capture, form) => {
            let (capture, form) = (capture.as_str(), form.as_str());
            rewritten.notes.push(format!("{title}: injected, capture {capture}, {form} sidecar"));
        }
    }
    rewritten.notes.extend(warnings.map(|warning| format!("{title}: {warning}")));
    Ok(outcome.pod)
}

/// Where the pod stands in an object of this kind.
fn template(version: &str, kind: &str) -> Option<&'static str> {
    let group = version.split_once('/').map_or("", |(group, _)| group);
    match (group, kind) {
        ("", "Pod") => Some(""),
        ("", "ReplicationController")
        | ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch", "Job") => Some("/spec/template"),
        ("batch", "CronJob") => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}
