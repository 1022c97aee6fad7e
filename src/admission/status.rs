//! The annotation `meshtrace.io/status`: what was done to a pod, or why nothing was, and what it takes to undo it.
//!
//! Whoever creates a pod can write this annotation too, so what it names is honoured only where it is ours.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::admission::pod;

/// The annotation's name.
pub const STATUS: &str = "meshtrace.io/status";

/// The content, as JSON. Readers ignore fields that they do not know.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Status {
    /// The version that wrote it.
    pub version: String,
    /// Why nothing was added: one of [`Refusal`](crate::admission::Refusal)'s words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// The same in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// A hash of what was added; another configuration gives another hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// How traffic reaches the sidecar: `redirect`, `explicit` or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture: Option<String>,
    /// `native` for an init container that stays, `classic` for a container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sidecar: Option<String>,
    /// The containers that were added.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<String>,
    /// What was left alone although it was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What was there before.
    #[serde(skip_serializing_if = "Undo::is_empty")]
    pub undo: Undo,
}

/// What was changed outside the containers that were added.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Undo {
    /// Annotations that were added.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<String>,
    /// Labels that were added.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// The `tcpSocket` of each rewritten probe, by `container/probe`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub probes: BTreeMap<String, Value>,
    /// The name of the port in each handler whose name had to become a number, by `container/handler`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub handlers: BTreeMap<String, String>,
    /// The names of ports that moved to the sidecar, by container.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<String, BTreeMap<String, Moved>>,
    /// Volumes that were added, with a mount of each in the containers of the application.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// Variables that were set, by container and name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, BTreeMap<String, Change>>,
}

/// A port that lost its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Moved {
    /// Its number.
    pub port: u16,
    /// Where it stood in its container's list, from 0; there can be several of one number.
    pub at: usize,
}

/// The value of a variable, before and after.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Change {
    /// What it was, if it was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
    /// It was there without a value, which is the empty one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub bare: bool,
    /// What it is now.
    pub now: String,
}

impl Undo {
    fn is_empty(&self) -> bool {
        *self == Undo::default()
    }
}

impl Status {
    /// The status of a pod, if it has one that can be read.
    pub fn of(pod: &Value) -> Option<Self> {
        serde_json::from_str(pod::annotation(pod, STATUS)?).ok()
    }

    /// Writes it to the pod.
    pub(super) fn write(&self, pod: &mut Value) {
        // A struct of strings and maps with string keys always has a JSON form.
        let text = serde_json::to_string(self).unwrap_or_default();
        annotate(pod, STATUS, &text);
    }
}

/// Sets an annotation.
pub(super) fn annotate(pod: &mut Value, key: &str, value: &str) {
    set(pod, "annotations", key, value);
}

/// Sets a label.
pub(super) fn label(pod: &mut Value, key: &str, value: &str) {
    set(pod, "labels", key, value);
}

fn set(pod: &mut Value, map: &str, key: &str, value: &str) {
    pod::map_mut(pod, "metadata");
    if let Some(map) = pod.get_mut("metadata").and_then(|metadata| pod::map_mut(metadata, map)) {
        map.insert(key.to_owned(), Value::from(value));
    }
}
