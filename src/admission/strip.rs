//! Takes everything of ours out of a pod again, so that a pod can be injected any number of times, by any version.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::admission::handing_on;
use crate::admission::pod;
use crate::admission::probes;
use crate::admission::render::{ADMIN_PORT, CONTAINERS};
use crate::admission::status::{Change, STATUS, Status};

/// The most ports, and variables, of one container that are put back; we change fewer. Somebody else may write a status too.
const MAX_CHANGES: usize = 64;

/// Removes what the pod's status says that we added, and puts back what was there before. A pod without a status is
/// left as it is. What a status cannot prove to be ours stays: other containers, values that were changed since.
pub(super) fn strip(pod: &mut Value) {
    let Some(status) = Status::of(pod) else {
        return;
    };
    remove_containers(pod, &status);
    remove_volume(pod, &status);
    for container in pod::containers_mut(pod) {
        restore_probes(container, &status);
        restore_handlers(container, &status);
        restore_ports(container, &status);
        restore_env(container, &status);
    }
    if let Some(metadata) = pod.get_mut("metadata") {
        let ours = |key: &String| !key.starts_with("meshtrace.io/") || key == "meshtrace.io/injected";
        remove_keys(metadata, "labels", status.undo.labels.iter().filter(|key| ours(key)));
        remove_keys(metadata, "annotations", status.undo.annotations.iter().filter(|key| ours(key)));
        remove_keys(metadata, "annotations", [&STATUS.to_owned()]);
        if metadata.as_object().is_some_and(Map::is_empty)
            && let Some(pod) = pod.as_object_mut()
        {
            pod.shift_remove("metadata");
        }
    }
}

fn remove_containers(pod: &mut Value, status: &Status) {
    let ours = |container: &Value| {
        CONTAINERS.iter().any(|ours| pod::name(container) == *ours && names(status, ours))
    };
    let Some(spec) = pod.get_mut("spec") else {
        return;
    };
    remove_from(spec, "initContainers", ours);
    if let Some(list) = spec.get_mut("containers").and_then(Value::as_array_mut) {
        list.retain(|container| !ours(container));
    }
}

fn names(status: &Status, container: &str) -> bool {
    status.containers.iter().any(|name| name == container)
}

fn restore_probes(container: &mut Value, status: &Status) {
    for probe in pod::PROBES {
        let key = probes::key(container, probe);
        let Some(original) = status.undo.probes.get(&key).filter(|original| original.is_object()) else {
            continue;
        };
        let Some(probe) = container.get_mut(probe).and_then(Value::as_object_mut) else {
            continue;
        };
        let ours = probe.get("httpGet").is_some_and(|get| {
            get.get("port") == Some(&Value::from(ADMIN_PORT))
                && pod::text(get, "path") == Some(probes::path(&key).as_str())
        });
        if ours {
            rename(probe, "httpGet", "tcpSocket", original.clone());
        }
    }
}

fn restore_handlers(container: &mut Value, status: &Status) {
    let Some(moved) = status.undo.ports.get(pod::name(container)) else {
        return;
    };
    for (path, handler) in probes::HANDLERS {
        let key = probes::key(container, handler);
        let Some(name) = status.undo.handlers.get(&key) else { continue };
        if let (Some(port), Some(moved)) = (probes::port_mut(container, path), moved.get(name))
            && *port == moved.port
        {
            *port = Value::from(name.as_str());
        }
    }
}

fn restore_ports(container: &mut Value, status: &Status) {
    let Some(moved) = status.undo.ports.get(pod::name(container)) else {
        return;
    };
    let Some(ports) = container.get_mut("ports").and_then(Value::as_array_mut) else {
        return;
    };
    for (name, moved) in moved.iter().take(MAX_CHANGES) {
        let taken = ports.iter().any(|port| pod::is_tcp(port) && pod::text(port, "name") == Some(name));
        let nameless = |port: &Value| {
            port["containerPort"] == moved.port && port.get("name").is_none() && pod::is_tcp(port)
        };
        let at = match ports.get(moved.at) {
            Some(port) if nameless(port) => Some(moved.at),
            _ => ports.iter().position(nameless),
        };
        if let (false, Some(at)) = (taken, at) {
            ports[at]["name"] = Value::from(name.as_str());
        }
    }
}

/// The volume of the shim, and the mounts of it.
fn remove_volume(pod: &mut Value, status: &Status) {
    if !status.undo.volumes.iter().any(|name| name == handing_on::VOLUME) {
        return;
    }
    let ours = |named: &Value| pod::name(named) == handing_on::VOLUME;
    let mount = |mount: &Value| ours(mount) && pod::text(mount, "mountPath") == Some(handing_on::DIR);
    let Some(spec) = pod.get_mut("spec") else {
        return;
    };
    remove_from(spec, "volumes", |volume| ours(volume) && volume.get("emptyDir").is_some());
    for container in pod::containers_mut(pod) {
        remove_from(container, "volumeMounts", mount);
    }
}

/// Takes elements out of a list, and the list too if it is empty then and was not before.
fn remove_from(parent: &mut Value, key: &str, ours: impl Fn(&Value) -> bool) {
    let Some(list) = parent.get_mut(key).and_then(Value::as_array_mut) else {
        return;
    };
    let before = list.len();
    list.retain(|element| !ours(element));
    if list.len() < before {
        pod::remove_if_empty(parent, key);
    }
}

fn restore_env(container: &mut Value, status: &Status) {
    let Some(changes) = status.undo.env.get(pod::name(container)) else {
        return;
    };
    if let Some(env) = container.get_mut("env").and_then(Value::as_array_mut) {
        for (name, Change { was, bare, now }) in changes.iter().take(MAX_CHANGES) {
            let ours = |variable: &Value| {
                pod::text(variable, "name") == Some(name) && pod::text(variable, "value") == Some(now)
            };
            let Some(index) = env.iter().rposition(ours) else { continue };
            match was {
                Some(_) if *bare => {
                    if let Some(variable) = env[index].as_object_mut() {
                        variable.shift_remove("value");
                    }
                }
                Some(was) => env[index]["value"] = Value::from(was.as_str()),
                None => drop(env.remove(index)),
            }
        }
    }
    pod::remove_if_empty(container, "env");
}

/// Replaces a field by another one in its place.
pub(super) fn rename(map: &mut Map<String, Value>, from: &str, to: &str, value: Value) {
    let mut value = Some(value);
    let entries = std::mem::take(map);
    for (key, old) in entries {
        match value.take_if(|_| key == from) {
            Some(value) => drop(map.insert(to.to_owned(), value)),
            None => drop(map.insert(key, old)),
        }
    }
}

fn remove_keys<'a>(metadata: &mut Value, field: &str, keys: impl IntoIterator<Item = &'a String>) {
    let Some(map) = metadata.get_mut(field).and_then(Value::as_object_mut) else {
        return;
    };
    let before = map.len();
    let keys: BTreeSet<&String> = keys.into_iter().collect();
    map.retain(|key, _| !keys.contains(key));
    if map.len() < before {
        pod::remove_if_empty(metadata, field);
    }
}
