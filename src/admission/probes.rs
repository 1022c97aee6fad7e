//! Probes and hooks of the application's containers, where capture would change what they mean.
//!
//! The kernel accepts a connection to a captured port even when nobody listens behind it, so a `tcpSocket` probe of
//! such a port would always succeed. It is sent to the sidecar instead, which connects to the port itself. A handler
//! that names a port that moved to the sidecar gets the number, because a name is looked up in its own container.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::admission::pod;
use crate::admission::render::ADMIN_PORT;
use crate::admission::status::{Moved, Undo};
use crate::admission::strip::rename;

/// The handlers that can name a port: their path in a container and the name that the status knows them by.
pub(super) const HANDLERS: [([&str; 2], &str); 5] = [
    (["", "startupProbe"], "startupProbe"),
    (["", "readinessProbe"], "readinessProbe"),
    (["", "livenessProbe"], "livenessProbe"),
    (["lifecycle", "postStart"], "lifecycle.postStart"),
    (["lifecycle", "preStop"], "lifecycle.preStop"),
];

/// `container/probe`, by which status and sidecar know a probe.
pub(super) fn key(container: &Value, probe: &str) -> String {
    format!("{}/{probe}", pod::name(container))
}

/// Where the sidecar's admin port answers for a probe.
pub(super) fn path(key: &str) -> String {
    format!("/app-probe/{key}")
}

/// Sends the `tcpSocket` probes of captured ports to the sidecar. Returns what the sidecar has to know of each.
pub(super) fn rewrite(
    pod: &mut Value,
    captured: impl Fn(u16) -> bool,
    undo: &mut Undo,
) -> BTreeMap<String, Value> {
    let mut known = BTreeMap::new();
    for container in pod::containers_mut(pod).filter(|container| !pod::is_of_mesh(container)) {
        for probe in pod::PROBES {
            let Some((target, original)) = target(container, probe) else { continue };
            if !target["port"].as_u64().and_then(|port| u16::try_from(port).ok()).is_some_and(&captured) {
                continue;
            }
            let key = key(container, probe);
            let get = json!({"path": path(&key), "port": ADMIN_PORT});
            if let Some(probe) = container.get_mut(probe).and_then(Value::as_object_mut) {
                rename(probe, "tcpSocket", "httpGet", get);
            }
            undo.probes.insert(key.clone(), original);
            known.insert(key, target);
        }
    }
    known
}

/// What a `tcpSocket` probe connects to, and the handler as it was.
fn target(container: &Value, probe: &str) -> Option<(Value, Value)> {
    let probe = pod::present(container, probe)?;
    let socket = pod::present(probe, "tcpSocket").filter(|socket| socket.is_object())?;
    let port = pod::resolve_port(container, socket.get("port")?)?;
    let host = pod::text(socket, "host").unwrap_or_default();
    let seconds = probe.get("timeoutSeconds").and_then(Value::as_u64).unwrap_or(1);
    Some((json!({"port": port, "host": host, "timeoutSeconds": seconds}), socket.clone()))
}

/// Gives the handlers of one container numbers for the names that its ports are about to lose.
pub(super) fn number_handlers(container: &mut Value, moved: &BTreeMap<String, Moved>, undo: &mut Undo) {
    for (path, handler) in HANDLERS {
        let key = key(container, handler);
        let Some(port) = port_mut(container, path) else { continue };
        let Some((name, moved)) = port.as_str().and_then(|name| moved.get_key_value(name)) else { continue };
        *port = Value::from(moved.port);
        undo.handlers.insert(key, name.clone());
    }
}

/// The port in a handler by HTTP or TCP.
pub(super) fn port_mut<'a>(container: &'a mut Value, path: [&str; 2]) -> Option<&'a mut Value> {
    let parent = if path[0].is_empty() { container } else { container.get_mut(path[0])? };
    let handler: &mut Map<String, Value> = parent.get_mut(path[1])?.as_object_mut()?;
    let action = if handler.contains_key("httpGet") { "httpGet" } else { "tcpSocket" };
    handler.get_mut(action)?.get_mut("port")
}
