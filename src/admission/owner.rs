//! Whose pod it is: the workload's name without asking anybody, and the service name that follows from it.
//!
//! The names are read off the owner reference, whose naming schemes are those of the Kubernetes controllers; the order
//! of the sources of `service.name` is that of the OpenTelemetry operator for Kubernetes.

use serde_json::Value;

use crate::admission::pod;

/// What created the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// `Deployment`, `StatefulSet` and so on, as in the API.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// The annotation prefix by which a pod sets resource attributes, as with the OpenTelemetry operator.
pub const RESOURCE: &str = "resource.opentelemetry.io/";

/// The most resource attributes that a pod can set by annotation.
const MAX_ATTRIBUTES: usize = 32;

/// The workload behind the pod's controller reference.
///
/// A ReplicaSet whose name ends in the pod's `pod-template-hash` belongs to the Deployment before it, one that ends in
/// `rollouts-pod-template-hash` to an Argo Rollout, and a Job whose name ends in 8 to 10 digits to a CronJob.
pub fn workload(pod: &Value) -> Option<Workload> {
    let owners = pod::list(pod.get("metadata")?, "ownerReferences");
    let owner = owners.iter().find(|owner| owner.get("controller") == Some(&Value::Bool(true)))?;
    let (kind, name) = (pod::text(owner, "kind")?, pod::text(owner, "name")?);
    let before_hash = |label| {
        let hash = pod::label(pod, label).filter(|hash| !hash.is_empty())?;
        name.strip_suffix(hash)?.strip_suffix('-').filter(|name| !name.is_empty())
    };
    let (kind, name) = match kind {
        "ReplicaSet" => {
            if let Some(name) = before_hash("pod-template-hash") {
                ("Deployment", name)
            } else if let Some(name) = before_hash("rollouts-pod-template-hash") {
                ("Rollout", name)
            } else {
                (kind, name)
            }
        }
        "Job" => scheduled(name).map_or((kind, name), |name| ("CronJob", name)),
        _ => (kind, name),
    };
    Some(Workload { kind: kind.to_owned(), name: name.to_owned() })
}

/// The CronJob's name in that of a Job which it started: the controller appends the minute as a number.
fn scheduled(job: &str) -> Option<&str> {
    let (name, minute) = job.rsplit_once('-')?;
    let digits = (8..=10).contains(&minute.len()) && minute.bytes().all(|byte| byte.is_ascii_digit());
    (digits && !name.is_empty()).then_some(name)
}

/// Whether the pod ends by itself, so that a container that does not would keep it from ending.
pub(super) fn runs_to_completion(pod: &Value, workload: Option<&Workload>) -> bool {
    let job = workload.is_some_and(|workload| matches!(workload.kind.as_str(), "Job" | "CronJob"));
    job || pod::text(pod::spec(pod), "restartPolicy").is_some_and(|policy| policy != "Always")
}

/// `service.name`: the annotation of ours or of the operator, the workload, the pod, or the container.
pub(super) fn service_name(pod: &Value, option: Option<&str>, workload: Option<&Workload>) -> String {
    let annotated = pod::annotation(pod, &format!("{RESOURCE}service.name")).filter(|name| !name.is_empty());
    let metadata = pod.get("metadata");
    let named = metadata.and_then(|metadata| pod::text(metadata, "name")).filter(|name| !name.is_empty());
    let generated = metadata.and_then(|metadata| pod::text(metadata, "generateName"));
    let generated = generated.map(|prefix| prefix.trim_end_matches('-')).filter(|name| !name.is_empty());
    let own_annotation = pod::annotation(pod, "meshtrace.io/service-name").and(option);
    own_annotation
        .or(annotated)
        .or(option)
        .or(workload.map(|workload| workload.name.as_str()))
        .or(named)
        .or(generated)
        .unwrap_or_else(|| pod::main_container(pod))
        .to_owned()
}

/// The value of `OTEL_RESOURCE_ATTRIBUTES`, with `$(NAME)` where Kubernetes fills in what only it knows.
pub(super) fn attributes(pod: &Value, workload: Option<&Workload>) -> String {
    let container = pod::main_container(pod);
    let mut list: Vec<(String, String)> = [
        ("k8s.namespace.name", "$(POD_NAMESPACE)"),
        ("k8s.pod.name", "$(POD_NAME)"),
        ("k8s.pod.uid", "$(POD_UID)"),
        ("k8s.node.name", "$(NODE_NAME)"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    list.push(("k8s.container.name".to_owned(), encode(container)));
    if let Some(Workload { kind, name }) = workload
        && let Some(key) = workload_key(kind)
    {
        list.push((key.to_owned(), encode(name)));
    }
    list.push(("service.namespace".to_owned(), "$(POD_NAMESPACE)".to_owned()));
    let instance = format!("$(POD_NAMESPACE).$(POD_NAME).{}", encode(container));
    list.push(("service.instance.id".to_owned(), instance));
    if let Some(version) = version(pod) {
        list.push(("service.version".to_owned(), encode(version)));
    }
    for (key, value) in annotated(pod) {
        list.retain(|(other, _)| other != key);
        list.push((key.to_owned(), encode(value)));
    }
    list.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// The resource attributes that the pod sets itself. `service.name` has a variable of its own.
fn annotated(pod: &Value) -> impl Iterator<Item = (&str, &str)> {
    let key = |key: &str| {
        (1..=128).contains(&key.len())
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    pod::annotations(pod)
        .filter_map(|(name, value)| Some((name.strip_prefix(RESOURCE)?, value)))
        .filter(move |(name, value)| key(name) && *name != "service.name" && value.len() <= 1_024)
        .take(MAX_ATTRIBUTES)
}

/// The keys of the OpenTelemetry conventions for Kubernetes resources.
fn workload_key(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "Deployment" => "k8s.deployment.name",
        "ReplicaSet" => "k8s.replicaset.name",
        "StatefulSet" => "k8s.statefulset.name",
        "DaemonSet" => "k8s.daemonset.name",
        "CronJob" => "k8s.cronjob.name",
        "Job" => "k8s.job.name",
        _ => return None,
    })
}

/// The well-known label, or the tag of the main container's image.
fn version(pod: &Value) -> Option<&str> {
    let label = pod::label(pod, "app.kubernetes.io/version").filter(|version| !version.is_empty());
    label.or_else(|| {
        let main = pod::main_container(pod);
        let container = pod::containers(pod).find(|container| pod::name(container) == main)?;
        let image = pod::text(container, "image")?;
        let image = image.split_once('@').map_or(image, |(image, _)| image);
        let (_, tag) = image.rsplit_once(':')?;
        (!tag.is_empty() && !tag.contains('/')).then_some(tag)
    })
}

/// Percent-encodes what has a meaning in a list of attributes (W3C Baggage, as the OpenTelemetry specification asks),
/// and the `$` that Kubernetes would expand.
fn encode(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:@+".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn owned(kind: &str, name: &str, labels: Value) -> Value {
        json!({
            "metadata": {
                "generateName": "generated-", "labels": labels,
                "ownerReferences": [
                    {"kind": "Other", "name": "x"}, {"kind": kind, "name": name, "controller": true}
                ],
            },
            "spec": {"containers": [{"name": "main", "image": "registry:5000/agents/weather:1.2@sha256:00"}]},
        })
    }

    #[test]
    fn the_workload_is_read_off_the_owner() {
        let hash = || json!({"pod-template-hash": "6f7d9c"});
        for (kind, name, labels, expect) in [
            ("ReplicaSet", "weather-6f7d9c", hash(), "Deployment weather"),
            ("ReplicaSet", "weather-other", hash(), "ReplicaSet weather-other"),
            ("ReplicaSet", "weather-6f7d9c", json!({}), "ReplicaSet weather-6f7d9c"),
            ("ReplicaSet", "-6f7d9c", hash(), "ReplicaSet -6f7d9c"),
            ("ReplicaSet", "w-abc", json!({"rollouts-pod-template-hash": "abc"}), "Rollout w"),
            ("Job", "nightly-29384720", json!({}), "CronJob nightly"),
            ("Job", "nightly-2938472", json!({}), "Job nightly-2938472"),
            ("Job", "nightly-29384720123", json!({}), "Job nightly-29384720123"),
            ("Job", "-29384720", json!({}), "Job -29384720"),
            ("StatefulSet", "store", json!({}), "StatefulSet store"),
            ("DaemonSet", "node-agent", json!({}), "DaemonSet node-agent"),
            ("Custom", "thing", json!({}), "Custom thing"),
        ] {
            let found = workload(&owned(kind, name, labels)).unwrap();
            assert_eq!(format!("{} {}", found.kind, found.name), expect);
        }
        assert_eq!(workload(&json!({"metadata": {}})), None);
        let plain = json!({"metadata": {"ownerReferences": [{"kind": "Job", "name": "j"}]}});
        assert_eq!(workload(&plain), None, "an owner that is not the controller");
    }

    #[test]
    fn the_service_name_comes_from_the_nearest_that_names_one() {
        let pod = owned("StatefulSet", "store", json!({}));
        let workload = workload(&pod);
        assert_eq!(service_name(&pod, None, workload.as_ref()), "store");
        assert_eq!(service_name(&pod, Some("installation"), workload.as_ref()), "installation");
        assert_eq!(service_name(&pod, None, None), "generated");
        let mut annotated = pod.clone();
        annotated["metadata"]["annotations"] = json!({"resource.opentelemetry.io/service.name": "of-otel"});
        assert_eq!(service_name(&annotated, Some("installation"), None), "of-otel");
        annotated["metadata"]["annotations"]["meshtrace.io/service-name"] = json!("ours");
        assert_eq!(service_name(&annotated, Some("ours"), None), "ours");
        let bare = json!({"spec": {"containers": [{"name": "main"}]}});
        assert_eq!(service_name(&bare, None, None), "main");
        let named = json!({"metadata": {"name": "solo"}, "spec": {"containers": [{"name": "main"}]}});
        assert_eq!(service_name(&named, None, None), "solo");
    }

    #[test]
    fn attributes_cannot_be_broken_out_of() {
        let mut pod = owned("ReplicaSet", "weather-6f7d9c", json!({"pod-template-hash": "6f7d9c"}));
        pod["metadata"]["annotations"] = json!({
            "resource.opentelemetry.io/deployment.environment.name": "a,b=c $(HOME) ü",
            "resource.opentelemetry.io/bad key": "x",
            "resource.opentelemetry.io/service.name": "elsewhere",
        });
        let workload = workload(&pod);
        assert_eq!(
            attributes(&pod, workload.as_ref()),
            "k8s.namespace.name=$(POD_NAMESPACE),k8s.pod.name=$(POD_NAME),k8s.pod.uid=$(POD_UID),\
             k8s.node.name=$(NODE_NAME),k8s.container.name=main,k8s.deployment.name=weather,\
             service.namespace=$(POD_NAMESPACE),service.instance.id=$(POD_NAMESPACE).$(POD_NAME).main,\
             service.version=1.2,deployment.environment.name=a%2Cb%3Dc%20%24%28HOME%29%20%C3%BC"
        );
    }

    #[test]
    fn a_pod_can_set_so_many_attributes_and_no_more() {
        let mut pod = owned("Job", "j", json!({}));
        let many = (0..MAX_ATTRIBUTES + 5).map(|i| (format!("{RESOURCE}a.{i}"), json!("v"))).collect();
        pod["metadata"]["annotations"] = Value::Object(many);
        assert_eq!(annotated(&pod).count(), MAX_ATTRIBUTES);
    }

    #[test]
    fn pods_that_end_are_known() {
        let pod = json!({"spec": {"restartPolicy": "OnFailure", "containers": []}});
        assert!(runs_to_completion(&pod, None));
        let pod = json!({"spec": {"containers": []}});
        assert!(!runs_to_completion(&pod, None));
        let job = Workload { kind: "CronJob".to_owned(), name: "x".to_owned() };
        assert!(runs_to_completion(&pod, Some(&job)));
    }
}
