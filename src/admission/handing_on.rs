//! The shim in the application's containers: a volume that our container fills before they start, and the variables that
//! make Python and Node load what is in it.

use std::path::Path;

use serde_json::{Value, json};

use crate::admission::pod;
use crate::admission::status::{Change, Undo};
use crate::shim::{Environment, MCP_MESH};

/// The volume that the files are in.
pub(super) const VOLUME: &str = "meshtrace-shim";

/// Where it is mounted, in our containers too. Directly under the root, because nothing can be mounted above it: the
/// runtime makes the mount point, which it could not do in somebody's read-only volume.
pub(super) const DIR: &str = "/meshtrace-shim";

/// What agents on MCP Mesh are known by.
const OF_MCP_MESH: &str = "MCP_MESH_";

/// Adds volume, mounts and variables, but for containers in which they would be in somebody's way. Returns whether any
/// container has the files now.
pub(super) fn add(pod: &mut Value, undo: &mut Undo, warnings: &mut Vec<String>) -> bool {
    let Ok(shim) = Environment::new(Path::new(DIR)) else { return false };
    if pod::list(pod::spec(pod), "volumes").iter().any(|volume| pod::name(volume) == VOLUME) {
        warnings.push(format!(
            "there is a volume {VOLUME} already: agents do not get the files to hand context on"
        ));
        return false;
    }
    let Some(spec) = pod.get_mut("spec") else { return false };
    let mut mounted = false;
    for container in pod::list_if_any(spec, "containers").filter(|container| !pod::is_of_mesh(container)) {
        let name = pod::name(container).to_owned();
        if is_taken(container) {
            warnings
                .push(format!("container {name} mounts {DIR}: it does not get the files to hand context on"));
            continue;
        }
        if let Some(mounts) = pod::list_mut(container, "volumeMounts") {
            mounts.push(json!({"name": VOLUME, "mountPath": DIR, "readOnly": true}));
            mounted = true;
        }
        set_variables(container, &name, &shim, undo, warnings);
    }
    if mounted && let Some(volumes) = pod::list_mut(spec, "volumes") {
        volumes.push(volume());
        undo.volumes.push(VOLUME.to_owned());
    }
    mounted
}

/// Two files of a few KiB. On the node's disk and not in memory, which would count as the sidecar's.
pub(super) fn volume() -> Value {
    json!({"name": VOLUME, "emptyDir": {"sizeLimit": "1Mi"}})
}

/// The mount of our own container, which writes.
pub(super) fn writable() -> Value {
    json!([{"name": VOLUME, "mountPath": DIR}])
}

/// Whether the container has something of its own at our path, or below it.
fn is_taken(container: &Value) -> bool {
    let mounts = pod::list(container, "volumeMounts").iter().map(|mount| pod::text(mount, "mountPath"));
    let devices = pod::list(container, "volumeDevices").iter().map(|device| pod::text(device, "devicePath"));
    let ours = |path: &str| {
        let mut parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
        parts.next() == DIR.strip_prefix('/')
    };
    mounts.chain(devices).flatten().any(ours)
}

fn set_variables(
    container: &mut Value,
    name: &str,
    shim: &Environment,
    undo: &mut Undo,
    warnings: &mut Vec<String>,
) {
    let env = pod::list(container, "env");
    let mesh = env.iter().filter_map(|v| pod::text(v, "name")).any(|name| name.starts_with(OF_MCP_MESH));
    let values = shim.variables(|variable| Some(pod::text(last(env, variable)?.1, "value")?.to_owned()));
    for (variable, now) in values.into_iter().filter(|(name, _)| *name != MCP_MESH || mesh) {
        if comes_from_elsewhere(container, variable) {
            warnings.push(format!(
                "container {name} takes {variable} from elsewhere, or may do so, so it was left alone: add {now} there"
            ));
            continue;
        }
        let Some(env) = pod::list_mut(container, "env") else { return };
        let change = match last(env, variable).map(|(at, _)| at) {
            Some(at) => {
                let was = pod::text(&env[at], "value").map(str::to_owned);
                env[at]["value"] = Value::from(now.as_str());
                Change { bare: was.is_none(), was: Some(was.unwrap_or_default()), now }
            }
            None => {
                env.push(json!({"name": variable, "value": now}));
                Change { now, ..Change::default() }
            }
        };
        undo.env.entry(name.to_owned()).or_default().insert(variable.to_owned(), change);
    }
}

/// The entry that holds, of those with one name: the last.
fn last<'a>(env: &'a [Value], name: &str) -> Option<(usize, &'a Value)> {
    env.iter().enumerate().rev().find(|(_, variable)| pod::text(variable, "name") == Some(name))
}

/// Whether the value is none that stands in the pod: it is looked up, or everything that a ConfigMap or Secret holds becomes
/// variables, and only a variable in the pod would hide that.
fn comes_from_elsewhere(container: &Value, name: &str) -> bool {
    match last(pod::list(container, "env"), name) {
        Some((_, variable)) => pod::present(variable, "valueFrom").is_some(),
        None => pod::list(container, "envFrom")
            .iter()
            .any(|from| name.starts_with(pod::text(from, "prefix").unwrap_or_default())),
    }
}
