//! The change to a pod as a pure function: pod in, pod out, and the JSON Patch between the two.
//!
//! Whatever was added before is taken out first, so doing it again changes nothing, and doing it with another version or
//! configuration gives what that would have given at once.

use serde_json::Value;

use crate::admission::decide::{self, Refusal, Settings, Subject};
use crate::admission::diff::{self, Operation};
use crate::admission::explicit;
use crate::admission::handing_on;
use crate::admission::options::{Capture, InboundPorts, ProbeMode};
use crate::admission::owner;
use crate::admission::pod::{self, Malformed};
use crate::admission::probes;
use crate::admission::render::{self, Form, Plan};
use crate::admission::status::{self, Status, Undo};
use crate::admission::strip::strip;

/// What was decided for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nobody asked.
    NotAsked,
    /// Somebody asked, and it cannot be done.
    Refused(Refusal),
    /// The sidecar is in.
    Injected(Capture, Form),
}

/// The pod as it shall be.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The whole pod.
    pub pod: Value,
    /// What was decided.
    pub decision: Decision,
    /// What whoever creates the pod should know. Each is one short line.
    pub warnings: Vec<String>,
}

/// The most warnings of one outcome.
const MAX_WARNINGS: usize = 10;

/// Gives the pod the sidecar if it is asked for, takes it out if it is not, and says so in the pod's status.
///
/// # Errors
/// When it is not a pod, or not the template of one.
pub fn apply(pod: &Value, subject: &Subject, settings: &Settings) -> Result<Outcome, Malformed> {
    pod::check(pod)?;
    let mut pod = pod.clone();
    strip(&mut pod);
    let mut warnings = Vec::new();
    let decided = match decide::asked(&pod, subject) {
        Ok(false) => return Ok(Outcome { pod, decision: Decision::NotAsked, warnings }),
        Ok(true) => inject(&pod, subject, settings, &mut warnings),
        Err(refusal) => Err(refusal),
    };
    warnings.truncate(MAX_WARNINGS);
    Ok(match decided {
        Ok((pod, capture, form)) => Outcome { pod, decision: Decision::Injected(capture, form), warnings },
        Err(refusal) => {
            let mut with_status = pod.clone();
            refused(&refusal).write(&mut with_status);
            if annotations_fit(&with_status) {
                pod = with_status;
            }
            warnings.insert(0, format!("meshtrace was not injected: {refusal}"));
            Outcome { pod, decision: Decision::Refused(refusal), warnings }
        }
    })
}

/// Takes everything of ours out.
///
/// # Errors
/// When it is not a pod, or not the template of one.
pub fn undo(pod: &Value) -> Result<Value, Malformed> {
    pod::check(pod)?;
    let mut pod = pod.clone();
    strip(&mut pod);
    Ok(pod)
}

/// [`apply`], and the operations that lead from the one pod to the other (RFC 6902).
///
/// # Errors
/// When it is not a pod.
pub fn patch(
    pod: &Value,
    subject: &Subject,
    settings: &Settings,
) -> Result<(Outcome, Vec<Operation>), Malformed> {
    let outcome = apply(pod, subject, settings)?;
    let operations = diff::diff(pod, &outcome.pod);
    Ok((outcome, operations))
}

fn refused(refusal: &Refusal) -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        skipped: Some(refusal.reason.to_owned()),
        message: Some(refusal.message.clone()),
        ..Status::default()
    }
}

fn inject(
    pod: &Value,
    subject: &Subject,
    settings: &Settings,
    warnings: &mut Vec<String>,
) -> Result<(Value, Capture, Form), Refusal> {
    let options = decide::options(pod, settings, warnings)?;
    let capture = decide::capture(&options, subject)?;
    let uid = decide::user(&options, capture, settings)?;
    decide::refuse_unfit(pod, uid)?;
    let workload = owner::workload(pod).or_else(|| subject.workload.clone());
    let workload = workload.as_ref();
    let form = decide::form(pod, &options, capture, workload, settings.kubernetes)?;
    let inbound = decide::inbound(pod, &options);
    let listeners = decide::listeners(pod, &options, capture, warnings);

    let mut undo = Undo::default();
    let mut pod = pod.clone();
    let service_name = owner::service_name(&pod, options.service_name.as_deref(), workload);
    let attributes = owner::attributes(&pod, workload);
    let quality = decide::quality(&pod);
    let mut asked_probes = Default::default();
    if capture == Capture::Redirect && options.probe_mode == ProbeMode::RewriteTcp {
        let captured = |port| decide::is_captured(port, &inbound, &options);
        asked_probes = probes::rewrite(&mut pod, captured, &mut undo);
    }
    if capture == Capture::Explicit {
        explicit::move_ports(&mut pod, &listeners, &mut undo);
        explicit::set_proxy(&mut pod, &mut undo, warnings);
    }
    let shim = options.propagation && handing_on::add(&mut pod, &mut undo, warnings);
    let plan = Plan {
        options: &options,
        capture,
        form,
        uid,
        mesh_uid: pod::mesh_uid(&pod),
        quality,
        inbound_ports: match &inbound {
            InboundPorts::All => "*".to_owned(),
            InboundPorts::Only(ports) => ports.to_string(),
        },
        listeners,
        app_ports: decide::declared(&pod),
        service_name,
        attributes,
        probes: asked_probes,
        shim,
    };
    let main = pod::main_container(&pod).to_owned();
    let containers = add_containers(&mut pod, &plan);
    add_metadata(&mut pod, &main, &mut undo);
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        config: Some(hash(&containers)),
        capture: Some(capture.as_str().to_owned()),
        sidecar: Some(form.as_str().to_owned()),
        containers: containers.iter().map(|container| pod::name(container).to_owned()).collect(),
        warnings: warnings.iter().take(MAX_WARNINGS).cloned().collect(),
        undo,
        ..Status::default()
    }
    .write(&mut pod);
    if !annotations_fit(&pod) {
        let message = "its annotations have no room for what it takes to undo the injection: the API server takes 256 KiB of them";
        return Err(Refusal { reason: "annotations_full", message: message.to_owned() });
    }
    Ok((pod, capture, form))
}

/// The most bytes that names and values of all annotations may have together (`TotalAnnotationSizeLimitB` of Kubernetes);
/// a pod with more is not admitted at all.
const MAX_ANNOTATIONS: usize = 256 * 1024;

fn annotations_fit(pod: &Value) -> bool {
    pod::annotations(pod).map(|(name, value)| name.len() + value.len()).sum::<usize>() <= MAX_ANNOTATIONS
}

/// Puts our containers where they have to start. Native: before everything, so that the user's init containers are
/// captured too. Classic: the sidecar before the application, and the rules after the user's init containers, whose
/// traffic would otherwise lead to a sidecar that does not run yet.
fn add_containers(pod: &mut Value, plan: &Plan<'_>) -> Vec<Value> {
    let shim = (plan.shim && plan.form == Form::Classic).then(|| render::shim(plan));
    let rules = (plan.capture == Capture::Redirect).then(|| render::init(plan));
    let init: Vec<Value> = shim.into_iter().chain(rules).collect();
    let sidecar = render::sidecar(plan);
    let added: Vec<Value> = init.iter().chain([&sidecar]).cloned().collect();
    let Some(spec) = pod.get_mut("spec") else { return added };
    match plan.form {
        Form::Native => {
            if let Some(list) = pod::list_mut(spec, "initContainers") {
                list.splice(0..0, added.iter().cloned());
            }
        }
        Form::Classic => {
            if let Some(list) = pod::list_mut(spec, "initContainers") {
                list.extend(init);
            }
            pod::remove_if_empty(spec, "initContainers");
            if let Some(list) = pod::list_mut(spec, "containers") {
                list.insert(0, sidecar);
            }
        }
    }
    added
}

/// Points `kubectl` at the application still, Prometheus at the sidecar if at nothing else, and marks the pod.
fn add_metadata(pod: &mut Value, main: &str, undo: &mut Undo) {
    let mut annotations: Vec<(&str, String)> = vec![
        ("kubectl.kubernetes.io/default-container", main.to_owned()),
        ("kubectl.kubernetes.io/default-logs-container", main.to_owned()),
    ];
    if !pod::annotations(pod).any(|(key, _)| key.starts_with("prometheus.io/")) {
        annotations.extend([
            ("prometheus.io/scrape", "true".to_owned()),
            ("prometheus.io/port", render::ADMIN_PORT.to_string()),
            ("prometheus.io/path", "/metrics".to_owned()),
        ]);
    }
    for (key, value) in annotations {
        if pod::annotation(pod, key).is_none() {
            status::annotate(pod, key, &value);
            undo.annotations.push(key.to_owned());
        }
    }
    if pod::label(pod, INJECTED).is_none() {
        status::label(pod, INJECTED, "true");
        undo.labels.push(INJECTED.to_owned());
    }
}

/// The label of a pod that has a sidecar.
const INJECTED: &str = "meshtrace.io/injected";

/// FNV-1a over what was added: stable across versions of the compiler, and not meant to keep anybody out.
fn hash(containers: &[Value]) -> String {
    let bytes = containers.iter().map(Value::to_string).collect::<String>();
    let hash = bytes.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}
