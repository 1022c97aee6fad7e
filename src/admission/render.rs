//! The containers of ours, as Kubernetes wants them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::admission::explicit::Listener;
use crate::admission::handing_on;
use crate::admission::options::{Capture, Options, Resources};
use crate::admission::quantity::Quantity;

/// The container that installs the kernel rules.
pub(super) const INIT: &str = "meshtrace-init";

/// The sidecar.
pub(super) const SIDECAR: &str = "meshtrace";

/// The container that writes the shim's files, where the sidecar starts too late to do it.
pub(super) const SHIM: &str = "meshtrace-shim";

/// Every container of ours.
pub(super) const CONTAINERS: [&str; 3] = [INIT, SIDECAR, SHIM];

/// The user and group of the sidecar, which capture spares.
pub const UID: u32 = 14_100;

/// The admin port.
pub(super) const ADMIN_PORT: u16 = 14_020;

/// Where captured connections arrive, and where the forward proxy listens.
pub(super) const OUTBOUND_PORT: u16 = 14_001;

/// Where captured inbound connections arrive.
pub(super) const INBOUND_PORT: u16 = 14_006;

/// The binary in the image, for commands that an entry point does not cover.
const BINARY: &str = "/meshtrace";

/// The least CPU of a sidecar that has to have a CPU limit although none was set.
const GUARANTEED_CPU: &str = "200m";

/// Where the sidecar stands in the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An init container that stays: starts before the application and stops after it.
    Native,
    /// A container like the others, for kubelets before 1.29.
    Classic,
}

impl Form {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Form::Native => "native",
            Form::Classic => "classic",
        }
    }
}

/// What the resources of our containers have to fit in with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quality {
    /// Requests and limits are equal in every container, and must be in ours.
    Guaranteed,
    /// Nothing is reserved, and ours reserve nothing either if nothing is asked for them.
    BestEffort,
    /// The pod has a budget as a whole, and ours live on it.
    PodLevel,
    /// Anything goes.
    Burstable,
}

/// Everything that the containers are made of.
pub(super) struct Plan<'a> {
    pub(super) options: &'a Options,
    pub(super) capture: Capture,
    pub(super) form: Form,
    /// `None` is whom the cluster chooses.
    pub(super) uid: Option<u32>,
    /// The user of a service mesh's proxy in the pod.
    pub(super) mesh_uid: Option<u32>,
    pub(super) quality: Quality,
    pub(super) inbound_ports: String,
    pub(super) listeners: Vec<Listener>,
    /// The ports that the application declares.
    pub(super) app_ports: Vec<u16>,
    pub(super) service_name: String,
    pub(super) attributes: String,
    pub(super) probes: BTreeMap<String, Value>,
    /// The shim's files have to be written.
    pub(super) shim: bool,
}

/// The container that installs the kernel rules and ends.
pub(super) fn init(plan: &Plan<'_>) -> Value {
    let options = plan.options;
    let uid = plan.uid.unwrap_or(UID);
    let mut args = vec!["capture".to_owned(), "install".to_owned(), format!("--uid={uid}")];
    let mut list = |flag: &str, value: String| {
        if !value.is_empty() {
            args.push(format!("--{flag}={value}"));
        }
    };
    // Without it what the mesh's proxy sends out would come to the sidecar, go to the mesh's proxy, and so on for ever.
    list("mesh-uid", plan.mesh_uid.map(|uid| uid.to_string()).unwrap_or_default());
    list("inbound-ports", plan.inbound_ports.clone());
    list("skip-inbound-ports", options.skip_inbound_ports.to_string());
    // Leaving it out would be the default list, and not an empty one.
    let skipped = options.skip_outbound_ports.to_string();
    list("skip-outbound-ports", if skipped.is_empty() { "none".to_owned() } else { skipped });
    list("skip-outbound-cidrs", options.skip_outbound_cidrs.join(","));
    list("capture-loopback-ports", options.capture_loopback_ports.to_string());
    json!({
        "name": INIT,
        "image": options.proxy_image,
        "args": args,
        // A pod with the addresses of its node has the node's network, whose rules are not ours to change.
        "env": [field("POD_IP", "status.podIP"), field("HOST_IP", "status.hostIP")],
        "resources": init_resources(plan),
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    })
}

/// The container that writes the shim's files and ends. A kubelet that does not know native sidecars starts the
/// application's containers even where the sidecar has failed, and Node does not start without a file that it is told to load.
pub(super) fn shim(plan: &Plan<'_>) -> Value {
    json!({
        "name": SHIM,
        "image": plan.options.proxy_image,
        "args": ["shim", "install", handing_on::DIR],
        "resources": init_resources(plan),
        "securityContext": unprivileged(plan.uid),
        "volumeMounts": handing_on::writable(),
    })
}

fn unprivileged(uid: Option<u32>) -> Value {
    let mut context = Map::new();
    if let Some(uid) = uid {
        context.extend(["runAsUser", "runAsGroup"].map(|key| (key.to_owned(), Value::from(uid))));
    }
    let others = json!({
        "runAsNonRoot": true,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    context.extend(others.as_object().cloned().unwrap_or_default());
    Value::Object(context)
}

/// The sidecar itself.
pub(super) fn sidecar(plan: &Plan<'_>) -> Value {
    let ready = |more: Value| probe("/ready", more);
    let mut container = json!({
        "name": SIDECAR,
        "image": plan.options.proxy_image,
        "args": args(plan),
        "env": env(plan),
        "ports": ports(plan),
        "readinessProbe": ready(json!({"periodSeconds": 5})),
        "livenessProbe": probe("/live", json!({"initialDelaySeconds": 10, "periodSeconds": 10, "failureThreshold": 6})),
        "resources": resources(plan),
        "securityContext": unprivileged(plan.uid),
    });
    match plan.form {
        Form::Native => {
            if plan.shim {
                container["volumeMounts"] = handing_on::writable();
            }
            container["restartPolicy"] = json!("Always");
            // The application starts when this has succeeded.
            container["startupProbe"] = ready(json!({"periodSeconds": 1, "failureThreshold": 60}));
        }
        // The kubelet starts the next container when this has returned.
        Form::Classic => {
            let command = [BINARY, "wait", "--timeout", "60s"];
            container["lifecycle"] = json!({"postStart": {"exec": {"command": command}}});
        }
    }
    container
}

fn probe(path: &str, more: Value) -> Value {
    let mut probe = json!({"httpGet": {"path": path, "port": ADMIN_PORT}});
    if let (Some(probe), Value::Object(more)) = (probe.as_object_mut(), more) {
        probe.extend(more);
    }
    probe
}

fn args(plan: &Plan<'_>) -> Vec<String> {
    let mut args = vec!["proxy".to_owned()];
    match plan.capture {
        Capture::Redirect => {
            args.push("--redirected".to_owned());
            args.extend(plan.uid.filter(|uid| *uid != UID).map(|uid| format!("--uid={uid}")));
            if !plan.options.opaque_ports.is_empty() {
                args.push(format!("--opaque-ports={}", plan.options.opaque_ports));
            }
        }
        _ => {
            // The pod's address and not loopback: a port that is bound to loopback was never reachable from outside.
            let listen = |l: &Listener| format!("--inbound=[::]:{}=$(POD_IP):{}", l.listen, l.app);
            args.extend(plan.listeners.iter().map(listen));
            args.push(format!("--outbound=127.0.0.1:{OUTBOUND_PORT}"));
        }
    }
    // Before it is ready, which the application waits for.
    if plan.shim && plan.form == Form::Native {
        args.push(format!("--install-shim={}", handing_on::DIR));
    }
    args
}

fn ports(plan: &Plan<'_>) -> Vec<Value> {
    let admin = json!({"name": "meshtrace-admin", "containerPort": ADMIN_PORT, "protocol": "TCP"});
    let moved = plan.listeners.iter().map(|listener| match &listener.name {
        Some(name) => json!({"name": name, "containerPort": listener.listen, "protocol": "TCP"}),
        None => json!({"containerPort": listener.listen, "protocol": "TCP"}),
    });
    std::iter::once(admin).chain(moved).collect()
}

fn env(plan: &Plan<'_>) -> Vec<Value> {
    // A variable can name only those that come before it.
    let mut env = vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_UID", "metadata.uid"),
        field("POD_IP", "status.podIP"),
        field("POD_IPS", "status.podIPs"),
        field("HOST_IP", "status.hostIP"),
        field("NODE_NAME", "spec.nodeName"),
        variable("OTEL_SERVICE_NAME", &literal(&plan.service_name)),
        variable("OTEL_RESOURCE_ATTRIBUTES", &plan.attributes),
    ];
    let options = plan.options;
    let words = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &options.otlp_endpoint),
        ("OTEL_TRACES_SAMPLER", &options.sampler),
        ("OTEL_TRACES_SAMPLER_ARG", &options.sampler_arg),
        ("OTEL_PROPAGATORS", &options.propagators),
        ("OTEL_LOG_LEVEL", &options.log_level),
    ];
    env.extend(words.iter().filter_map(|(name, value)| Some(variable(name, value.as_deref()?))));
    if !options.egress_tls_origination.is_empty() {
        env.push(variable("MESHTRACE_TLS_ORIGINATE", &options.egress_tls_origination.join(",")));
    }
    if plan.form == Form::Classic && !plan.app_ports.is_empty() {
        // Everybody is told to stop at once; the sidecar goes after the application.
        let ports = plan.app_ports.iter().map(u16::to_string).collect::<Vec<_>>();
        env.push(variable("MESHTRACE_STOP_AFTER", &ports.join(",")));
    }
    if !plan.probes.is_empty() {
        let probes: Map<String, Value> = plan.probes.clone().into_iter().collect();
        env.push(variable("MESHTRACE_APP_PROBES", &literal(&Value::Object(probes).to_string())));
    }
    env
}

fn field(name: &str, path: &str) -> Value {
    json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}})
}

fn variable(name: &str, value: &str) -> Value {
    json!({"name": name, "value": value})
}

/// A value in which Kubernetes expands nothing.
fn literal(value: &str) -> String {
    value.replace('$', "$$")
}

fn resources(plan: &Plan<'_>) -> Value {
    let Resources { cpu_request, cpu_limit, memory_request, memory_limit } = &plan.options.resources;
    match plan.quality {
        Quality::PodLevel => json!({}),
        Quality::BestEffort if cpu_request.is_none() && memory_request.is_none() => json!({}),
        Quality::Guaranteed => {
            // Without a limit of its own the sidecar would be throttled to what it reserves, which is next to nothing.
            let cpu = cpu_limit.clone().or_else(|| cpu_request.clone().max(Quantity::cpu(GUARANTEED_CPU)));
            let memory = memory_limit.clone().or(memory_request.clone()).or(Quantity::memory("256Mi"));
            let both = amounts(cpu.as_ref(), memory.as_ref());
            json!({"requests": both, "limits": both})
        }
        _ => {
            let requests = amounts(cpu_request.as_ref(), memory_request.as_ref());
            let limits = amounts(cpu_limit.as_ref(), memory_limit.as_ref());
            let parts = [("requests", requests), ("limits", limits)];
            let there = parts
                .into_iter()
                .filter(|(_, amounts)| amounts.as_object().is_some_and(|map| !map.is_empty()));
            Value::Object(there.map(|(key, amounts)| (key.to_owned(), amounts)).collect())
        }
    }
}

/// Small, and equal in request and limit: less than any sidecar, so that scheduling never depends on it.
fn init_resources(plan: &Plan<'_>) -> Value {
    let Resources { cpu_request, memory_request, .. } = &plan.options.resources;
    match plan.quality {
        Quality::PodLevel => json!({}),
        Quality::BestEffort if cpu_request.is_none() && memory_request.is_none() => json!({}),
        _ => {
            let both = json!({"cpu": "10m", "memory": "32Mi"});
            json!({"requests": both, "limits": both})
        }
    }
}

fn amounts(cpu: Option<&Quantity>, memory: Option<&Quantity>) -> Value {
    let parts = [("cpu", cpu), ("memory", memory)];
    let there = parts
        .into_iter()
        .filter_map(|(key, amount)| Some((key.to_owned(), Value::from(amount?.to_string()))));
    Value::Object(there.collect())
}
