//! Capture without privileges: the names of ports move to the sidecar, and `HTTP_PROXY` leads to it.
//!
//! A Service that names its `targetPort` then reaches the sidecar, which forwards to the number that the application
//! listens on. A Service that gives a number goes past the sidecar, untraced and unbroken.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::admission::pod;
use crate::admission::probes;
use crate::admission::render::OUTBOUND_PORT;
use crate::admission::status::{Change, Moved, Undo};

/// The first port that the sidecar listens on for the application; the next ones follow.
pub(super) const FIRST_PORT: u16 = 14_030;

/// The most ports of the application that the sidecar stands in front of.
pub(super) const MAX_LISTENERS: usize = 32;

/// A port of the sidecar in front of one of the application's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listener {
    /// The name that the port had; `None` where names stay.
    pub(super) name: Option<String>,
    /// Where the application listens.
    pub(super) app: u16,
    /// Where the sidecar listens.
    pub(super) listen: u16,
}

/// Hosts that are called directly: loopback, and the cloud's metadata addresses, which answer nobody's proxy.
const NO_PROXY: &str = "localhost,127.0.0.1,::1,169.254.169.254,169.254.170.2,fd00:ec2::254";

/// The variables that make clients use a forward proxy. Libraries differ in the case that they read, and Node's `fetch`
/// has to be told that it shall read them at all.
fn proxy_variables() -> [(&'static str, String); 5] {
    let proxy = format!("http://127.0.0.1:{OUTBOUND_PORT}");
    [
        ("HTTP_PROXY", proxy.clone()),
        ("http_proxy", proxy),
        ("NO_PROXY", NO_PROXY.to_owned()),
        ("no_proxy", NO_PROXY.to_owned()),
        ("NODE_USE_ENV_PROXY", "1".to_owned()),
    ]
}

/// The listeners for a pod. With `named`, for the ports that have names; else for all that are declared.
pub(super) fn listeners(
    pod: &Value,
    named: bool,
    wanted: impl Fn(u16) -> bool,
    warnings: &mut Vec<String>,
) -> Vec<Listener> {
    // A name means the first port that has it: of the containers, then of the init containers that stay.
    let lists = ["containers", "initContainers"].map(|key| pod::list(pod::spec(pod), key));
    let containers = || lists.iter().copied().flatten().filter(|container| pod::stays(pod, container));
    let number = |port: &Value| pod::port_number(&port["containerPort"]);
    let declared: BTreeSet<u16> = containers().flat_map(pod::tcp_ports).filter_map(number).collect();
    let mut free = (FIRST_PORT..).filter(|port| !declared.contains(port));
    let mut listeners: Vec<Listener> = Vec::new();
    for port in containers().filter(|container| !pod::is_of_mesh(container)).flat_map(pod::tcp_ports) {
        let Some(app) = number(port).filter(|port| wanted(*port)) else { continue };
        let name = pod::text(port, "name").filter(|_| named);
        let repeated = listeners.iter().any(|listener| match name {
            Some(name) => listener.name.as_deref() == Some(name),
            None => listener.app == app,
        });
        if repeated || name.is_some() != named {
            continue;
        }
        if listeners.len() == MAX_LISTENERS {
            warnings.push(format!("only the first {MAX_LISTENERS} ports go through the sidecar"));
            break;
        }
        let Some(listen) = free.next() else { break };
        listeners.push(Listener { name: name.map(str::to_owned), app, listen });
    }
    listeners
}

/// Takes the names that the sidecar's ports have now from every port of the application: the first one that has a name
/// is the one that the name means, and the sidecar may come last.
pub(super) fn move_ports(pod: &mut Value, listeners: &[Listener], undo: &mut Undo) {
    let taken: BTreeSet<&str> = listeners.iter().filter_map(|listener| listener.name.as_deref()).collect();
    for container in pod::staying_mut(pod).filter(|container| !pod::is_of_mesh(container)) {
        let mut moved = BTreeMap::new();
        for (at, port) in
            pod::list_if_any(container, "ports").enumerate().filter(|(_, port)| pod::is_tcp(port))
        {
            let Some(name) = pod::text(port, "name").filter(|name| taken.contains(name)) else { continue };
            let Some(number) = pod::port_number(&port["containerPort"]) else { continue };
            moved.insert(name.to_owned(), Moved { port: number, at });
            if let Some(port) = port.as_object_mut() {
                port.shift_remove("name");
            }
        }
        if !moved.is_empty() {
            probes::number_handlers(container, &moved, undo);
            undo.ports.insert(pod::name(container).to_owned(), moved);
        }
    }
}

/// Sets the variables by which the application's clients find the forward proxy. A container that has one already, or
/// may have one that cannot be seen from here, is left alone.
pub(super) fn set_proxy(pod: &mut Value, undo: &mut Undo, warnings: &mut Vec<String>) {
    let Some(containers) = pod.get_mut("spec").and_then(|spec| pod::list_mut(spec, "containers")) else {
        return;
    };
    for container in containers.iter_mut().filter(|container| !pod::is_of_mesh(container)) {
        let variables = proxy_variables();
        let ours = |name: &str| variables.iter().any(|(ours, _)| *ours == name) || name == "ALL_PROXY";
        let name = pod::name(container).to_owned();
        if let Some(taken) =
            pod::list(container, "env").iter().filter_map(|v| pod::text(v, "name")).find(|n| ours(n))
        {
            warnings.push(format!("container {name} sets {taken}: its calls do not go through the sidecar"));
            continue;
        }
        if !pod::list(container, "envFrom").is_empty() {
            warnings.push(format!(
                "container {name} has envFrom, which may set HTTP_PROXY: its calls do not go through the sidecar"
            ));
            continue;
        }
        let changes = variables
            .iter()
            .map(|(name, now)| ((*name).to_owned(), Change { now: now.clone(), ..Change::default() }));
        undo.env.entry(name).or_default().extend(changes);
        if let Some(env) = pod::list_mut(container, "env") {
            env.extend(variables.map(|(name, value)| json!({"name": name, "value": value})));
        }
    }
}
