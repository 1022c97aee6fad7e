//! Tests of the whole change: single pods, and laws over generated ones.

pub(super) mod generate;
mod handing_on;
mod laws;
mod manifests;
mod modes;
mod refusals;

use serde_json::{Value, json};

use super::decide::{Settings, Subject};
use super::patch::{self, Outcome};

fn settings() -> Settings {
    Settings::new("meshtrace:test")
}

/// A Deployment's pod as the webhook sees it: no name, no namespace, an owner.
fn weather() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "weather-6f7d9c-",
            "labels": {"app": "weather", "pod-template-hash": "6f7d9c"},
            "annotations": {"meshtrace.io/inject": "true"},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "weather-6f7d9c", "uid": "0", "controller": true}
            ],
        },
        "spec": {
            "initContainers": [{"name": "migrate", "image": "migrate:1"}],
            "containers": [{
                "name": "agent",
                "image": "weather:1.2",
                "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                "livenessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 5},
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}},
            }],
        },
    })
}

fn annotated(key: &str, value: &str) -> Value {
    let mut pod = weather();
    pod["metadata"]["annotations"][format!("meshtrace.io/{key}")] = json!(value);
    pod
}

/// Applies the change, and proves on the way that the patch says the same as the pod.
fn apply(pod: &Value, subject: &Subject, settings: &Settings) -> Outcome {
    let (outcome, operations) = patch::patch(pod, subject, settings).unwrap();
    let text = serde_json::to_string(&operations).unwrap();
    let operations: json_patch::Patch = serde_json::from_str(&text).unwrap();
    let mut patched = pod.clone();
    json_patch::patch(&mut patched, &operations).unwrap();
    assert_eq!(patched, outcome.pod, "the patch leads elsewhere: {text}");
    outcome
}

fn inject(pod: &Value) -> Value {
    apply(pod, &Subject::default(), &settings()).pod
}

fn names(pod: &Value, list: &str) -> Vec<String> {
    let list = pod["spec"][list].as_array().cloned().unwrap_or_default();
    list.iter().map(|container| container["name"].as_str().unwrap().to_owned()).collect()
}

fn find<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array()
        .and_then(|list| list.iter().find(|element| element["name"] == name))
        .unwrap_or(&Value::Null)
}

fn status(pod: &Value) -> Value {
    serde_json::from_str(pod["metadata"]["annotations"]["meshtrace.io/status"].as_str().unwrap()).unwrap()
}
