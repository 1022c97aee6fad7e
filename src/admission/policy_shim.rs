//! The shim in the application's containers, as expressions of the policy.
//!
//! A variable is set only where the container has none of its name: putting a value behind one that is there would
//! have to be written into the pod's status too, and an expression cannot write JSON.

use std::path::Path;

use serde_json::{Value, json};

use crate::admission::handing_on::{self, DIR, VOLUME};
use crate::admission::options::Options;
use crate::shim::{Environment, MCP_MESH};

/// The variables that the mutation looks at.
pub(super) fn variables(options: &Options) -> [(&'static str, String); 2] {
    let annotations = "object.metadata.annotations";
    let key = "meshtrace.io/propagation";
    let default = options.propagation;
    let wanted = format!(
        "has({annotations}) && '{key}' in {annotations} ? {annotations}['{key}'] == 'on' : {default}"
    );
    let taken = [("volumeMounts", "mountPath"), ("volumeDevices", "devicePath")]
        .map(|(list, path)| format!("has(c.{list}) && c.{list}.exists(m, m.{path}.startsWith('{DIR}'))"))
        .join(" || ");
    let volume = format!("has(object.spec.volumes) && object.spec.volumes.exists(v, v.name == '{VOLUME}')");
    [
        // By index, which paths need.
        ("forShim", format!("object.spec.containers.transformList(i, c, !({taken}), i)")),
        ("shim", format!("({wanted}) && size(variables.forShim) > 0 && !({volume})")),
    ]
}

/// The operations, as an expression of a list.
pub(super) fn operations() -> String {
    let add = |path: &str, value: &str| format!("JSONPatch{{op: 'add', path: {path}, value: {value}}}");
    let within = |field: &str| format!("'/spec/containers/' + string(i) + '/{field}'");
    let container = "object.spec.containers[i]";
    let list = |field: &str| format!("(has({container}.{field}) ? [] : [{}])", add(&within(field), "[]"));
    let mount = format!(
        "Object.spec.containers.volumeMounts{{name: '{VOLUME}', mountPath: '{DIR}', readOnly: true}}"
    );
    let mut each =
        vec![list("volumeMounts"), format!("[{}]", add(&within("volumeMounts/-"), &mount)), list("env")];
    each.extend(values().iter().map(|(name, value)| {
        let variable = format!("Object.spec.containers.env{{name: '{name}', value: '{value}'}}");
        format!("({} ? [{}] : [])", is_free(name, container), add(&within("env/-"), &variable))
    }));
    let volumes = format!("(has(object.spec.volumes) ? [] : [{}])", add("'/spec/volumes'", "[]"));
    let volume = format!(
        "Object.spec.volumes{{name: '{VOLUME}', emptyDir: Object.spec.volumes.emptyDir{{sizeLimit: {}}}}}",
        text(&handing_on::volume()["emptyDir"]["sizeLimit"])
    );
    format!(
        "(!variables.shim ? [] : {volumes} + [{}] + variables.forShim.map(i, {}).flatten())",
        add("'/spec/volumes/-'", &volume),
        each.join(" + ")
    )
}

/// What the status says of it, to be put into its `undo`: text with a comma before it, or none.
pub(super) fn undo() -> String {
    let container = "object.spec.containers[i]";
    let set = values().map(|(name, value)| {
        let said = format!("\"{name}\":{}", json!({"now": value}));
        format!("({} ? ['{said}'] : [])", is_free(name, container))
    });
    let each = format!("'\"' + {container}.name + '\":{{' + ({}).join(',') + '}}'", set.join(" + "));
    format!(
        "(!variables.shim ? '' : ',\"volumes\":[\"{VOLUME}\"],\"env\":{{' + variables.forShim.map(i, {each}).join(',') + '}}')"
    )
}

/// Names and values; none of them holds a quote or a backslash.
fn values() -> [(&'static str, String); 3] {
    let nothing = Default::default();
    Environment::new(Path::new(DIR)).map_or(nothing, |shim| shim.variables(|_| None))
}

/// Whether the variable is wanted in the container, and nothing else sets it.
fn is_free(name: &str, container: &str) -> String {
    let env = format!("{container}.env");
    let from = format!("{container}.envFrom");
    let set = format!("has({env}) && {env}.exists(e, e.name == '{name}')");
    let may_be_set =
        format!("has({from}) && {from}.exists(f, !has(f.prefix) || '{name}'.startsWith(f.prefix))");
    let mesh = format!("has({env}) && {env}.exists(e, e.name.startsWith('MCP_MESH_'))");
    let mesh = if name == MCP_MESH { format!(" && {mesh}") } else { String::new() };
    format!("!({set}) && !({may_be_set}){mesh}")
}

fn text(value: &Value) -> String {
    format!("'{}'", value.as_str().unwrap_or_default())
}
