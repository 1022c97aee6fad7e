//! A pod, or the template of one, as untyped JSON with a few typed looks at it.
//!
//! Untyped, because a field that this version does not know must survive. [`check`] proves the shape that the looks
//! rely on, so that they need no errors of their own.

use serde_json::{Map, Value};

/// Something that is not a pod where one was promised: which field has the wrong type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// The two lists of containers, in the order in which they start.
pub(super) const LISTS: [&str; 2] = ["initContainers", "containers"];

/// The probes of a container.
pub(super) const PROBES: [&str; 3] = ["startupProbe", "readinessProbe", "livenessProbe"];

/// The proxies of service meshes that capture a pod's traffic as we do, each with the user that it usually runs as.
const MESHES: [(&str, u32); 2] = [("istio-proxy", 1337), ("linkerd-proxy", 2102)];

/// The most containers of a pod that is looked at, init containers included: each gets variables and mounts.
const MAX_CONTAINERS: usize = 1_000;

/// Proves that what this room looks at has the types of the Kubernetes API.
pub(super) fn check(pod: &Value) -> Result<(), Malformed> {
    let object = |value: &Value, path: &str| match value {
        Value::Object(_) => Ok(()),
        _ => Err(Malformed(format!("{path} is not an object"))),
    };
    object(pod, "the pod")?;
    if let Some(metadata) = present(pod, "metadata") {
        object(metadata, "metadata")?;
        strings(metadata, "annotations")?;
        strings(metadata, "labels")?;
        objects(metadata, "metadata", "ownerReferences")?;
    }
    let spec = present(pod, "spec").ok_or_else(|| Malformed("there is no spec".to_owned()))?;
    object(spec, "spec")?;
    objects(spec, "spec", "volumes")?;
    if LISTS.map(|key| list(spec, key).len()).iter().sum::<usize>() > MAX_CONTAINERS {
        return Err(Malformed(format!("there are more than {MAX_CONTAINERS} containers")));
    }
    for list in LISTS {
        for (index, container) in objects(spec, "spec", list)?.iter().enumerate() {
            let path = format!("spec.{list}[{index}]");
            if text(container, "name").is_none() {
                return Err(Malformed(format!("{path}.name is not a string")));
            }
            for list in ["ports", "env", "envFrom", "volumeMounts", "volumeDevices"] {
                objects(container, &path, list)?;
            }
            for field in PROBES.iter().chain(&["lifecycle", "resources", "securityContext"]) {
                if let Some(value) = present(container, field) {
                    object(value, &format!("{path}.{field}"))?;
                }
            }
        }
    }
    if list(spec, "containers").is_empty() {
        return Err(Malformed("spec.containers is empty".to_owned()));
    }
    Ok(())
}

fn objects<'a>(parent: &'a Value, path: &str, key: &str) -> Result<&'a [Value], Malformed> {
    match present(parent, key) {
        None => Ok(&[]),
        Some(Value::Array(list)) => match list.iter().position(|element| !element.is_object()) {
            None => Ok(list),
            Some(index) => Err(Malformed(format!("{path}.{key}[{index}] is not an object"))),
        },
        Some(_) => Err(Malformed(format!("{path}.{key} is not a list"))),
    }
}

fn strings(metadata: &Value, key: &str) -> Result<(), Malformed> {
    match present(metadata, key) {
        None => Ok(()),
        Some(Value::Object(map)) => match map.iter().find(|(_, value)| !value.is_string()) {
            None => Ok(()),
            Some((name, _)) => {
                Err(Malformed(format!("metadata.{key}: the value of {name} has to be in quotes")))
            }
        },
        Some(_) => Err(Malformed(format!("metadata.{key} is not an object"))),
    }
}

/// A field that is there and not null.
pub(super) fn present<'a>(parent: &'a Value, key: &str) -> Option<&'a Value> {
    parent.get(key).filter(|value| !value.is_null())
}

/// A field that holds text.
pub(super) fn text<'a>(parent: &'a Value, key: &str) -> Option<&'a str> {
    parent.get(key).and_then(Value::as_str)
}

/// A field that holds a list, or an empty one.
pub(super) fn list<'a>(parent: &'a Value, key: &str) -> &'a [Value] {
    parent.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The list behind a key, made when there is none. Nothing but a list or null may be there.
pub(super) fn list_mut<'a>(parent: &'a mut Value, key: &str) -> Option<&'a mut Vec<Value>> {
    let map = parent.as_object_mut()?;
    let entry = map.entry(key).or_insert(Value::Null);
    if entry.is_null() {
        *entry = Value::Array(Vec::new());
    }
    entry.as_array_mut()
}

/// The elements of a list that is there, to be changed.
pub(super) fn list_if_any<'a>(parent: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    parent.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten()
}

/// The object behind a key, made when there is none. Nothing but an object or null may be there.
pub(super) fn map_mut<'a>(parent: &'a mut Value, key: &str) -> Option<&'a mut Map<String, Value>> {
    let entry = parent.as_object_mut()?.entry(key).or_insert(Value::Null);
    if entry.is_null() {
        *entry = Value::Object(Map::new());
    }
    entry.as_object_mut()
}

/// Takes a field away when it is an empty list or object.
pub(super) fn remove_if_empty(parent: &mut Value, key: &str) {
    let empty = match parent.get(key) {
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        _ => false,
    };
    if let (true, Some(map)) = (empty, parent.as_object_mut()) {
        map.shift_remove(key);
    }
}

/// The pod's specification.
pub(super) fn spec(pod: &Value) -> &Value {
    &pod["spec"]
}

/// An annotation.
pub(super) fn annotation<'a>(pod: &'a Value, key: &str) -> Option<&'a str> {
    text(pod.get("metadata")?.get("annotations")?, key)
}

/// A label.
pub(super) fn label<'a>(pod: &'a Value, key: &str) -> Option<&'a str> {
    text(pod.get("metadata")?.get("labels")?, key)
}

/// Every annotation.
pub(super) fn annotations(pod: &Value) -> impl Iterator<Item = (&str, &str)> {
    let map = pod.get("metadata").and_then(|metadata| metadata.get("annotations")).and_then(Value::as_object);
    map.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}

/// Every container, those that start first first.
pub(super) fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    LISTS.into_iter().flat_map(|key| list(spec(pod), key))
}

/// Every container, to be changed.
pub(super) fn containers_mut(pod: &mut Value) -> impl Iterator<Item = &mut Value> {
    let spec = pod.get_mut("spec").and_then(Value::as_object_mut);
    let lists = spec.into_iter().flatten().filter(|(key, _)| LISTS.contains(&key.as_str()));
    lists.filter_map(|(_, value)| value.as_array_mut()).flatten()
}

/// Every container that runs beside the others, to be changed.
pub(super) fn staying_mut(pod: &mut Value) -> impl Iterator<Item = &mut Value> {
    let spec = pod.get_mut("spec").and_then(Value::as_object_mut);
    let lists = spec.into_iter().flatten().filter(|(key, _)| LISTS.contains(&key.as_str()));
    lists.flat_map(|(key, value)| {
        let containers = value.as_array_mut().into_iter().flatten();
        let init = key == "initContainers";
        containers.filter(move |container| !init || text(container, "restartPolicy") == Some("Always"))
    })
}

/// The container's name.
pub(super) fn name(container: &Value) -> &str {
    text(container, "name").unwrap_or_default()
}

/// Whether it is the proxy of a service mesh, and so not the application's.
pub(super) fn is_of_mesh(container: &Value) -> bool {
    MESHES.iter().any(|(mesh, _)| name(container) == *mesh)
}

/// The user that the proxy of a service mesh runs as, where there is one.
pub(super) fn mesh_uid(pod: &Value) -> Option<u32> {
    let proxy = containers(pod).find(|container| is_of_mesh(container))?;
    let usual = MESHES.iter().find(|(mesh, _)| name(proxy) == *mesh).map(|(_, uid)| *uid);
    user(pod, proxy).and_then(|uid| u32::try_from(uid).ok()).or(usual)
}

/// The user that a container runs as, if the pod says it.
pub(super) fn user(pod: &Value, container: &Value) -> Option<u64> {
    let of =
        |holder| present(holder, "securityContext").and_then(|context| context.get("runAsUser")?.as_u64());
    of(container).or_else(|| of(spec(pod)))
}

/// Whether it runs beside the others: an application container, or an init container that stays.
pub(super) fn stays(pod: &Value, container: &Value) -> bool {
    let is_init = list(spec(pod), "initContainers").iter().any(|init| name(init) == name(container));
    !is_init || text(container, "restartPolicy") == Some("Always")
}

/// The container that the pod is about: the one that `kubectl` would pick, or the application's first.
pub(super) fn main_container(pod: &Value) -> &str {
    let containers = list(spec(pod), "containers");
    let picked = annotation(pod, "kubectl.kubernetes.io/default-container");
    let picked = picked.filter(|picked| containers.iter().any(|container| name(container) == *picked));
    let first = containers.iter().find(|container| !is_of_mesh(container)).or(containers.first());
    picked.or_else(|| first.map(name)).unwrap_or_default()
}

/// The TCP ports that a container declares.
pub(super) fn tcp_ports(container: &Value) -> impl Iterator<Item = &Value> {
    list(container, "ports").iter().filter(|port| is_tcp(port))
}

/// Whether a declared port is one of TCP, which it is when it does not say.
pub(super) fn is_tcp(port: &Value) -> bool {
    text(port, "protocol").is_none_or(|protocol| protocol == "TCP")
}

/// A number between 1 and 65535.
pub(super) fn port_number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|number| u16::try_from(number).ok()).filter(|port| *port != 0)
}

/// What a port in a probe means inside its container: a number, the name of a declared port, or a number as text.
pub(super) fn resolve_port(container: &Value, port: &Value) -> Option<u16> {
    let Some(text) = port.as_str() else { return port_number(port) };
    let named = list(container, "ports").iter().find(|declared| declared.get("name") == Some(port));
    match named {
        Some(declared) => port_number(&declared["containerPort"]),
        None => text.parse().ok().filter(|port| *port != 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_no_pod_is_said_by_its_field() {
        let cases = [
            (json!([]), "the pod is not an object"),
            (json!({}), "there is no spec"),
            (json!({"spec": {}}), "spec.containers is empty"),
            (json!({"spec": {"containers": {}}}), "spec.containers is not a list"),
            (json!({"spec": {"containers": [7]}}), "spec.containers[0] is not an object"),
            (json!({"spec": {"containers": [{}]}}), "spec.containers[0].name is not a string"),
            (
                json!({"spec": {"containers": [{"name": "a", "env": [null]}]}}),
                "spec.containers[0].env[0] is not an object",
            ),
            (
                json!({"spec": {"containers": [{"name": "a", "livenessProbe": []}]}}),
                "spec.containers[0].livenessProbe is not an object",
            ),
            (
                json!({"metadata": {"annotations": {"meshtrace.io/inject": true}}, "spec": {}}),
                "metadata.annotations: the value of meshtrace.io/inject has to be in quotes",
            ),
        ];
        for (pod, expect) in cases {
            assert_eq!(check(&pod).unwrap_err().to_string(), expect);
        }
        assert_eq!(
            check(&json!({"metadata": null, "spec": {"containers": [{"name": "a", "env": null}]}})),
            Ok(())
        );
    }

    #[test]
    fn ports_of_probes_are_resolved_as_the_kubelet_does() {
        let container = json!({"ports": [
            {"name": "http", "containerPort": 8080}, {"name": "90", "containerPort": 9000}
        ]});
        for (port, expect) in [
            (json!("http"), Some(8080)),
            (json!("90"), Some(9000)),
            (json!("91"), Some(91)),
            (json!(92), Some(92)),
            (json!("grpc"), None),
            (json!(0), None),
            (json!(70_000), None),
        ] {
            assert_eq!(resolve_port(&container, &port), expect, "{port}");
        }
    }
}
