//! Whether a pod is to be injected, and how: who asks, what they ask for, and what speaks against it.

use serde_json::Value;

use crate::admission::explicit;
use crate::admission::options::{Capture, InboundPorts, Options, PREFIX, User};
use crate::admission::owner::{self, Workload};
use crate::admission::pod;
use crate::admission::ports::Ports;
use crate::admission::render::{ADMIN_PORT, CONTAINERS, Form, INBOUND_PORT, OUTBOUND_PORT, Quality, UID};
use crate::admission::value;

/// The annotation, and the label, by which a pod asks.
pub const INJECT: &str = "meshtrace.io/inject";

/// What an installation has decided for all pods.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What holds where a pod says nothing.
    pub defaults: Options,
    /// The user and group of the sidecar.
    pub uid: u32,
    /// Major and minor version of the API server, if it is known.
    pub kubernetes: Option<(u32, u32)>,
}

impl Settings {
    /// The settings for an image, with defaults for everything else.
    pub fn new(image: impl Into<String>) -> Self {
        Settings { defaults: Options::new(image), uid: UID, kubernetes: None }
    }
}

/// What is known of a pod that does not stand in it.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// Somebody asks for the pod: its namespace, or whoever typed the command. The pod itself can decline.
    pub asked: bool,
    /// The namespace enforces a Pod Security level that forbids `NET_ADMIN`.
    pub restricted: bool,
    /// The workload whose template this is; else it is read off the owner reference.
    pub workload: Option<Workload>,
}

/// Why a pod that asked is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The reason in a word, for machines.
    pub reason: &'static str,
    /// The reason in a sentence, with the way out.
    pub message: String,
}

/// Every word that [`Refusal::reason`] can be.
pub const REASONS: [&str; 11] = [
    "invalid_inject",
    "invalid_annotation",
    "host_network",
    "windows",
    "sidecar_exists",
    "other_mesh",
    "uid_in_use",
    "port_in_use",
    "pod_security",
    "runs_to_completion",
    "annotations_full",
];

fn refuse<T>(reason: &'static str, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { reason, message: message.into() })
}

/// Whether the pod asks, or somebody asks for it. The label beats the annotation, and the pod beats its namespace.
pub(super) fn asked(pod: &Value, subject: &Subject) -> Result<bool, Refusal> {
    let own = pod::label(pod, INJECT).or_else(|| pod::annotation(pod, INJECT));
    match own {
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        None => Ok(subject.asked),
        Some(other) => refuse(
            "invalid_inject",
            format!("{INJECT} {}: expected \"true\" or \"false\"", value::quote(other)),
        ),
    }
}

/// The installation's defaults with what the pod says in its annotations.
pub(super) fn options(
    pod: &Value,
    settings: &Settings,
    warnings: &mut Vec<String>,
) -> Result<Options, Refusal> {
    let mut options = settings.defaults.clone();
    let invalid = |error: crate::admission::options::Invalid| Refusal {
        reason: "invalid_annotation",
        message: error.to_string(),
    };
    for (name, value) in pod::annotations(pod) {
        let Some(key) = name.strip_prefix(PREFIX) else { continue };
        if !matches!(key, "inject" | "status" | "injected") && !options.set(key, value).map_err(invalid)? {
            warnings.push(format!("there is no annotation {}", value::quote(name)));
        }
    }
    options.check().map_err(invalid)?;
    Ok(options)
}

/// The user that the sidecar runs as; `None` leaves it to the cluster, which the rules of capture could not spare.
pub(super) fn user(options: &Options, capture: Capture, settings: &Settings) -> Result<Option<u32>, Refusal> {
    match (options.proxy_uid, capture) {
        (None, _) => Ok(Some(settings.uid)),
        (Some(User::Fixed(uid)), _) => Ok(Some(uid)),
        (Some(User::Cluster), Capture::Explicit | Capture::None) => Ok(None),
        (Some(User::Cluster), _) => refuse(
            "invalid_annotation",
            "meshtrace.io/proxy-uid \"cluster\": expected a number where traffic is captured, which is how the sidecar's is told apart",
        ),
    }
}

/// The capture that holds, once `auto` has been decided.
pub(super) fn capture(options: &Options, subject: &Subject) -> Result<Capture, Refusal> {
    match (options.capture, subject.restricted) {
        (Capture::Auto, true) => Ok(Capture::Explicit),
        (Capture::Auto, false) => Ok(Capture::Redirect),
        (Capture::Redirect, true) => refuse(
            "pod_security",
            "the namespace enforces a Pod Security level that forbids NET_ADMIN: use capture \"explicit\" or \"auto\"",
        ),
        (capture, _) => Ok(capture),
    }
}

/// Where the sidecar stands. A pod that ends by itself would never end beside a container that does not.
pub(super) fn form(
    pod: &Value,
    options: &Options,
    capture: Capture,
    workload: Option<&Workload>,
    kubernetes: Option<(u32, u32)>,
) -> Result<Form, Refusal> {
    let native = options.native_sidecar.unwrap_or_else(|| native(capture, kubernetes));
    if native {
        return Ok(Form::Native);
    }
    let by_hand = pod::annotation(pod, "meshtrace.io/native-sidecar") == Some("false");
    if owner::runs_to_completion(pod, workload) && !by_hand {
        return refuse(
            "runs_to_completion",
            "a pod that ends by itself needs a native sidecar, which is not used here: it would never end",
        );
    }
    Ok(Form::Classic)
}

/// Kubelets know native sidecars since 1.29 and may be three versions older than the API server. The controllers that
/// fill Services find named ports in them since 1.33 and may be one version older.
fn native(capture: Capture, kubernetes: Option<(u32, u32)>) -> bool {
    match (capture, kubernetes) {
        (Capture::Explicit, Some(version)) => version >= (1, 34),
        (Capture::Explicit, None) => false,
        (_, Some(version)) => version >= (1, 32),
        (_, None) => true,
    }
}

/// Refuses pods in which the sidecar could do harm.
pub(super) fn refuse_unfit(pod: &Value, uid: Option<u32>) -> Result<(), Refusal> {
    let spec = pod::spec(pod);
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        return refuse("host_network", "the pod uses its node's network, which is not the pod's to capture");
    }
    let os = pod::present(spec, "os").and_then(|os| pod::text(os, "name"));
    let node = pod::present(spec, "nodeSelector").and_then(|node| pod::text(node, "kubernetes.io/os"));
    if os == Some("windows") || node == Some("windows") {
        return refuse("windows", "the sidecar runs on Linux");
    }
    for container in pod::containers(pod) {
        let name = pod::name(container);
        if CONTAINERS.contains(&name) {
            return refuse(
                "sidecar_exists",
                format!("there is a container {name} already, and it is not ours"),
            );
        }
        if pod::is_of_mesh(container) && pod::annotation(pod, "meshtrace.io/capture").is_none() {
            let way = "say how they shall stand together with the annotation meshtrace.io/capture";
            return refuse("other_mesh", format!("the container {name} captures this pod's traffic: {way}"));
        }
    }
    if let Some(uid) = uid {
        refuse_uid(pod, uid)?;
    }
    refuse_ports(pod)
}

fn refuse_uid(pod: &Value, uid: u32) -> Result<(), Refusal> {
    for container in pod::containers(pod) {
        if pod::user(pod, container) == Some(u64::from(uid)) {
            let name = pod::name(container);
            return refuse(
                "uid_in_use",
                format!("container {name} runs as user {uid}, which capture spares"),
            );
        }
    }
    Ok(())
}

fn refuse_ports(pod: &Value) -> Result<(), Refusal> {
    for container in pod::containers(pod) {
        for port in pod::list(container, "ports") {
            let ours = [ADMIN_PORT, OUTBOUND_PORT, INBOUND_PORT];
            if let Some(port) = pod::port_number(&port["containerPort"]).filter(|port| ours.contains(port)) {
                let name = pod::name(container);
                return refuse(
                    "port_in_use",
                    format!("container {name} declares port {port}, which is the sidecar's"),
                );
            }
        }
    }
    Ok(())
}

/// The ports that are captured inbound.
pub(super) fn inbound(pod: &Value, options: &Options) -> InboundPorts {
    if let Some(ports) = &options.inbound_ports {
        return ports.clone();
    }
    let ports = Ports::of(declared(pod));
    let countable = !ports.is_empty() && ports.len() <= crate::admission::ports::MAX_RANGES;
    if countable { InboundPorts::Only(ports) } else { InboundPorts::All }
}

/// The TCP ports that the application declares, each once.
pub(super) fn declared(pod: &Value) -> Vec<u16> {
    let wanted = |container: &&Value| pod::stays(pod, container) && !pod::is_of_mesh(container);
    let staying = pod::containers(pod).filter(wanted);
    let numbers = staying.flat_map(pod::tcp_ports).map(|port| pod::port_number(&port["containerPort"]));
    let unique: std::collections::BTreeSet<u16> = numbers.flatten().collect();
    unique.into_iter().collect()
}

/// Whether an inbound port is captured.
pub(super) fn is_captured(port: u16, inbound: &InboundPorts, options: &Options) -> bool {
    let included = match inbound {
        InboundPorts::All => true,
        InboundPorts::Only(ports) => ports.contains(port),
    };
    included && !options.skip_inbound_ports.contains(port)
}

/// What the resources of our containers have to fit in with, by the rules of Kubernetes for QoS classes.
pub(super) fn quality(pod: &Value) -> Quality {
    if pod::present(pod::spec(pod), "resources").is_some() {
        return Quality::PodLevel;
    }
    let amount = |container: &Value, kind: &str, resource: &str| {
        let amounts = pod::present(pod::present(container, "resources")?, kind)?;
        pod::present(amounts, resource).filter(|amount| !is_zero(amount)).cloned()
    };
    let each = ["cpu", "memory"];
    let empty = pod::containers(pod).all(|container| {
        each.iter()
            .all(|r| amount(container, "limits", r).is_none() && amount(container, "requests", r).is_none())
    });
    let guaranteed = pod::containers(pod).all(|container| {
        each.iter().all(|resource| {
            let limit = amount(container, "limits", resource);
            let request = amount(container, "requests", resource);
            // A request that is left out becomes the limit.
            limit.is_some() && (request.is_none() || same_amount(request.as_ref(), limit.as_ref()))
        })
    });
    match (empty, guaranteed) {
        (true, _) => Quality::BestEffort,
        (_, true) => Quality::Guaranteed,
        _ => Quality::Burstable,
    }
}

fn is_zero(amount: &Value) -> bool {
    let text = amount.as_str().map(str::to_owned).unwrap_or_else(|| amount.to_string());
    let digits: Vec<char> = text.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    digits.iter().all(|digit| matches!(digit, '0' | '.'))
}

/// Whether two amounts are the same, also where they are written differently. What cannot be read is compared as text,
/// and a pod that is taken for Guaranteed by mistake gets limits that do it no harm.
fn same_amount(one: Option<&Value>, other: Option<&Value>) -> bool {
    use crate::admission::quantity::Quantity;
    let text = |value: &Value| value.as_str().map(str::to_owned).unwrap_or_else(|| value.to_string());
    let (Some(one), Some(other)) = (one.map(text), other.map(text)) else { return false };
    let read = |text: &str| Quantity::cpu(text).or_else(|| Quantity::memory(text));
    one == other || read(&one).zip(read(&other)).is_some_and(|(one, other)| one == other)
}

/// The ports that the sidecar stands in front of where nothing is captured by the kernel.
pub(super) fn listeners(
    pod: &Value,
    options: &Options,
    capture: Capture,
    warnings: &mut Vec<String>,
) -> Vec<explicit::Listener> {
    let inbound = options.inbound_ports.clone().unwrap_or(InboundPorts::All);
    let wanted = |port| is_captured(port, &inbound, options) && !options.opaque_ports.contains(port);
    match capture {
        Capture::Explicit => {
            let listeners = explicit::listeners(pod, true, wanted, warnings);
            if listeners.is_empty() {
                warnings.push("no port has a name, so nothing inbound goes through the sidecar".to_owned());
            }
            listeners
        }
        Capture::None => explicit::listeners(pod, false, wanted, warnings),
        Capture::Auto | Capture::Redirect => Vec::new(),
    }
}
