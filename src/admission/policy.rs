//! The same change as a MutatingAdmissionPolicy: no webhook, no certificates, evaluated by the API server itself.
//!
//! An expression can do less than a program. The policy captures by redirection or leaves a pod alone: it does not know
//! the explicit mode, rewrites no probes, and reads no annotation but the one that asks, the service's name and whether
//! agents get the shim.

use serde_json::{Map, Value, json};

use crate::admission::handing_on;
use crate::admission::install::{Install, labels, system_namespaces};
use crate::admission::options::{Capture, InboundPorts, User};
use crate::admission::policy_shim;
use crate::admission::render::{self, ADMIN_PORT, Form, INBOUND_PORT, OUTBOUND_PORT, Plan, Quality};

/// The name of policy and binding.
const NAME: &str = "meshtrace-inject";

pub(super) fn manifests(install: &Install) -> Vec<Value> {
    let metadata = json!({"name": NAME, "labels": labels()});
    let api = "admissionregistration.k8s.io/v1";
    let policy = json!({
        "apiVersion": api, "kind": "MutatingAdmissionPolicy", "metadata": metadata,
        "spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
                "scope": "Namespaced",
            }]},
            "matchConditions": conditions(uid(install)),
            "variables": variables(install),
            "failurePolicy": "Ignore",
            "reinvocationPolicy": "IfNeeded",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": mutation(install)}}],
        },
    });
    let system = system_namespaces(&install.namespace);
    let binding = json!({
        "apiVersion": api, "kind": "MutatingAdmissionPolicyBinding", "metadata": metadata,
        "spec": {
            "policyName": NAME,
            "matchResources": {"namespaceSelector": {"matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": system},
            ]}},
        },
    });
    vec![policy, binding]
}

/// Whether somebody asks, and the namespace allows `NET_ADMIN`. Match conditions do not see the namespace, so these are
/// variables that the mutation looks at.
fn of_the_namespace() -> [(&'static str, String); 2] {
    let own =
        |map: &str| format!("has(object.metadata.{map}) && 'meshtrace.io/inject' in object.metadata.{map}");
    let label = |key: &str| {
        format!("has(namespaceObject.metadata.labels) && '{key}' in namespaceObject.metadata.labels")
    };
    let (inject, level) = ("meshtrace.io/inject", "pod-security.kubernetes.io/enforce");
    let asked = format!(
        "({}) || ({}) || ({} && namespaceObject.metadata.labels['{inject}'] == 'true')",
        own("labels"),
        own("annotations"),
        label(inject),
    );
    let open = format!(
        "!({}) || !(namespaceObject.metadata.labels['{level}'] in ['baseline', 'restricted'])",
        label(level)
    );
    [("asked", asked), ("netAdminIsAllowed", open)]
}

/// Every container, as an expression.
const ALL: &str =
    "(object.spec.containers + (has(object.spec.initContainers) ? object.spec.initContainers : []))";

fn conditions(uid: u32) -> Vec<Value> {
    let condition = |name: &str, expression: String| json!({"name": name, "expression": expression});
    let own =
        |map: &str| format!("has(object.metadata.{map}) && 'meshtrace.io/inject' in object.metadata.{map}");
    let value = |map: &str| format!("object.metadata.{map}['meshtrace.io/inject'] == 'true'");
    let not_declined = format!(
        "({}) ? {} : ({}) ? {} : true",
        own("labels"),
        value("labels"),
        own("annotations"),
        value("annotations"),
    );
    let tcp = ["livenessProbe", "readinessProbe", "startupProbe"]
        .map(|probe| format!("has(c.{probe}) && has(c.{probe}.tcpSocket)"))
        .join(" || ");
    let ports = format!("[{ADMIN_PORT}, {INBOUND_PORT}, {OUTBOUND_PORT}]");
    let pod_user = "has(object.spec.securityContext) && has(object.spec.securityContext.runAsUser)";
    vec![
        condition("not-declined", not_declined),
        condition(
            "no-sidecar-yet",
            format!(
                "!{ALL}.exists(c, c.name in ['meshtrace', 'meshtrace-init', 'meshtrace-shim', 'istio-proxy', 'linkerd-proxy'])"
            ),
        ),
        condition(
            "nothing-is-asked-that-only-the-webhook-can-do",
            "!has(object.metadata.annotations) || object.metadata.annotations.all(k, !k.startsWith('meshtrace.io/') \
             || k in ['meshtrace.io/inject', 'meshtrace.io/service-name'] || (k == 'meshtrace.io/capture' && \
             object.metadata.annotations[k] in ['auto', 'redirect']) || (k == 'meshtrace.io/propagation' && \
             object.metadata.annotations[k] in ['on', 'off']))"
                .to_owned(),
        ),
        condition("not-host-network", "!has(object.spec.hostNetwork) || !object.spec.hostNetwork".to_owned()),
        condition("not-windows", "!has(object.spec.os) || object.spec.os.name != 'windows'".to_owned()),
        condition("no-probe-that-would-always-succeed", format!("!{ALL}.exists(c, {tcp})")),
        condition(
            "ports-are-free",
            format!("!{ALL}.exists(c, has(c.ports) && c.ports.exists(p, p.containerPort in {ports}))"),
        ),
        condition(
            "user-is-free",
            format!(
                "!({pod_user} && object.spec.securityContext.runAsUser == {uid}) && !{ALL}.exists(c, \
                 has(c.securityContext) && has(c.securityContext.runAsUser) && c.securityContext.runAsUser == {uid})"
            ),
        ),
    ]
}

/// Whether requests and limits are equal in every container, so that ours have to be too.
fn guaranteed() -> String {
    let equal = ["cpu", "memory"].map(|what| {
        format!(
            "'{what}' in c.resources.limits && (!has(c.resources.requests) || !('{what}' in c.resources.requests) || \
             quantity(c.resources.requests['{what}']).compareTo(quantity(c.resources.limits['{what}'])) == 0)"
        )
    });
    format!("{ALL}.all(c, has(c.resources) && has(c.resources.limits) && {} && {})", equal[0], equal[1])
}

/// What the containers are made of that only the pod knows. The image stands here so that it can be patched.
fn variables(install: &Install) -> Vec<Value> {
    let variable = |name: &str, expression: String| json!({"name": name, "expression": expression});
    let annotation =
        |key: &str| format!("has(object.metadata.annotations) && '{key}' in object.metadata.annotations");
    let (ours, otel) = ("meshtrace.io/service-name", "resource.opentelemetry.io/service.name");
    let hash = "object.metadata.labels['pod-template-hash']";
    let image = text(&install.settings.defaults.proxy_image);
    let default = install.settings.defaults.service_name.as_deref().map(text);
    let [asked, open] = of_the_namespace().map(|(name, expression)| variable(name, expression));
    let [for_shim, shim] = policy_shim::variables(&install.settings.defaults)
        .map(|(name, expression)| variable(name, expression));
    vec![
        variable("image", image),
        asked,
        open,
        variable("guaranteed", guaranteed()),
        variable(
            "owners",
            "has(object.metadata.ownerReferences) ? object.metadata.ownerReferences.filter(o, has(o.controller) \
             && o.controller) : []"
                .to_owned(),
        ),
        variable(
            "ofDeployment",
            format!(
                "size(variables.owners) > 0 && variables.owners[0].kind == 'ReplicaSet' && \
                 has(object.metadata.labels) && 'pod-template-hash' in object.metadata.labels && \
                 variables.owners[0].name.endsWith('-' + {hash})"
            ),
        ),
        variable(
            "workload",
            format!(
                "size(variables.owners) == 0 ? (has(object.metadata.name) && object.metadata.name != '' ? \
                 object.metadata.name : has(object.metadata.generateName) ? object.metadata.generateName : \
                 object.spec.containers[0].name) : variables.ofDeployment ? \
                 variables.owners[0].name.substring(0, size(variables.owners[0].name) - size({hash}) - 1) : \
                 variables.owners[0].name"
            ),
        ),
        variable(
            "service",
            format!(
                "({}) ? object.metadata.annotations['{ours}'] : ({}) ? object.metadata.annotations['{otel}'] : {}",
                annotation(ours),
                annotation(otel),
                default.unwrap_or_else(|| "variables.workload".to_owned()),
            ),
        ),
        for_shim,
        shim,
    ]
}

/// The JSON Patch. Everything static is written out; what depends on the pod is an expression in its place.
fn mutation(install: &Install) -> String {
    let containers = containers(install);
    let status = json!({
        "version": env!("CARGO_PKG_VERSION"), "capture": "redirect", "sidecar": "native",
        "containers": [render::INIT, render::SIDECAR], "undo": {"labels": ["meshtrace.io/injected"]},
    });
    let make = |map: &str| {
        format!(
            "(has(object.metadata.{map}) ? [] : [JSONPatch{{op: 'add', path: '/metadata/{map}', value: {{}}}}])"
        )
    };
    let add = |path: &str, value: &str| format!("JSONPatch{{op: 'add', path: '{path}', value: {value}}}");
    let list = "(has(object.spec.initContainers) ? [] : [JSONPatch{op: 'add', path: '/spec/initContainers', value: []}])";
    let [init, sidecar] = containers.map(|container| literal(CONTAINER, &container));
    // It ends with the braces of `undo` and of the whole, and there is no quote in it.
    let status = status.to_string();
    let status = format!("'{}' + {} + '}}}}'", status.trim_end_matches('}'), policy_shim::undo());
    [
        "!variables.asked || !variables.netAdminIsAllowed ? [] :".to_owned(),
        format!("{list} +"),
        format!("{} +", make("annotations")),
        format!("{} + [", make("labels")),
        format!("{},", add("/spec/initContainers/0", &sidecar)),
        format!("{},", add("/spec/initContainers/0", &init)),
        format!("{},", add("/metadata/labels/meshtrace.io~1injected", "'true'")),
        format!("{}] +", add("/metadata/annotations/meshtrace.io~1status", &status)),
        format!("{}\n", policy_shim::operations()),
    ]
    .join("\n")
}

/// Whom the rules spare, since the policy always captures.
fn uid(install: &Install) -> u32 {
    match install.settings.defaults.proxy_uid {
        Some(User::Fixed(uid)) => uid,
        _ => install.settings.uid,
    }
}

/// The two containers, with expressions where they depend on the pod.
fn containers(install: &Install) -> [Value; 2] {
    let settings = &install.settings;
    let plan = |quality| Plan {
        options: &settings.defaults,
        capture: Capture::Redirect,
        form: Form::Native,
        uid: Some(uid(install)),
        // Pods with a mesh's proxy are not matched.
        mesh_uid: None,
        quality,
        inbound_ports: match &settings.defaults.inbound_ports {
            Some(InboundPorts::Only(ports)) => ports.to_string(),
            _ => "*".to_owned(),
        },
        listeners: Vec::new(),
        app_ports: Vec::new(),
        service_name: String::new(),
        attributes: String::new(),
        probes: Default::default(),
        shim: true,
    };
    let (usual, guaranteed) = (plan(Quality::Burstable), plan(Quality::Guaranteed));
    let pairs = [
        (render::init(&usual), render::init(&guaranteed)),
        (render::sidecar(&usual), render::sidecar(&guaranteed)),
    ];
    pairs.map(|(mut usual, guaranteed)| {
        let path = format!("{CONTAINER}.resources");
        let resources =
            ["resources"].map(|key| (literal(&path, &guaranteed[key]), literal(&path, &usual[key])));
        let [(guaranteed, other)] = resources;
        usual["resources"] = expression(format!("variables.guaranteed ? {guaranteed} : {other}"));
        usual["image"] = expression("variables.image".to_owned());
        where_there_is_a_shim(&mut usual);
        for variable in super::pod::list_if_any(&mut usual, "env") {
            match variable["name"].as_str() {
                Some("OTEL_SERVICE_NAME") => {
                    variable["value"] = expression("variables.service.replace('$', '$$')".to_owned());
                }
                Some("OTEL_RESOURCE_ATTRIBUTES") => variable["value"] = expression(attributes()),
                _ => {}
            }
        }
        usual
    })
}

/// Makes what only serves the shim depend on it.
fn where_there_is_a_shim(container: &mut Value) {
    if container.get("volumeMounts").is_none() {
        return;
    }
    let mounts = literal(&format!("{CONTAINER}.volumeMounts"), &handing_on::writable());
    container["volumeMounts"] = expression(format!("variables.shim ? {mounts} : []"));
    let (shim, others): (Vec<Value>, Vec<Value>) = super::pod::list(container, "args")
        .iter()
        .cloned()
        .partition(|arg| arg.as_str().is_some_and(|arg| arg.starts_with("--install-shim")));
    let [others, shim] = [others, shim].map(|args| literal(CONTAINER, &Value::from(args)));
    container["args"] = expression(format!("{others} + (variables.shim ? {shim} : [])"));
}

/// The type of a container that is added.
const CONTAINER: &str = "Object.spec.initContainers";

/// What Kubernetes itself fills in.
const ATTRIBUTES: &str = "k8s.namespace.name=$(POD_NAMESPACE),k8s.pod.name=$(POD_NAME),k8s.pod.uid=$(POD_UID),\
                          k8s.node.name=$(NODE_NAME),service.namespace=$(POD_NAMESPACE)";

fn attributes() -> String {
    let container = "',k8s.container.name=' + object.spec.containers[0].name";
    let instance = "',service.instance.id=$(POD_NAMESPACE).$(POD_NAME).' + object.spec.containers[0].name";
    let workload = "(variables.ofDeployment ? ',k8s.deployment.name=' + variables.workload : '')";
    format!("{} + {container} + {instance} + {workload}", text(ATTRIBUTES))
}

/// Marks text that is an expression already. No text of ours begins with this character.
const MARK: char = '\u{1}';

fn expression(text: String) -> Value {
    Value::from(format!("{MARK}{text}"))
}

/// A value as an expression of the type that the field at this path has.
fn literal(path: &str, value: &Value) -> String {
    match value {
        Value::Object(map) => object(path, map),
        Value::Array(list) => {
            let elements: Vec<String> = list.iter().map(|element| literal(path, element)).collect();
            format!("[{}]", elements.join(", "))
        }
        Value::String(value) => value.strip_prefix(MARK).map_or_else(|| text(value), str::to_owned),
        other => other.to_string(),
    }
}

fn object(path: &str, map: &Map<String, Value>) -> String {
    let field =
        |(key, value): (&String, &Value)| format!("{key}: {}", literal(&format!("{path}.{key}"), value));
    format!("{path}{{{}}}", map.iter().map(field).collect::<Vec<_>>().join(", "))
}

/// A string of CEL. The escapes of JSON are among its own.
fn text(value: &str) -> String {
    if value.contains(['\'', '\\', '"']) || value.contains(char::is_control) {
        Value::from(value).to_string()
    } else {
        format!("'{value}'")
    }
}
