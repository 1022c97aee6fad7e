//! The shim in the application's containers.

use super::*;
use crate::admission::decide::Subject;

fn agent(pod: &Value) -> &Value {
    find(&pod["spec"]["containers"], "agent")
}

fn value<'a>(pod: &'a Value, variable: &str) -> &'a Value {
    &find(&agent(pod)["env"], variable)["value"]
}

/// The pod with one list of the agent's container replaced.
fn with(field: &str, list: Value) -> Value {
    let mut pod = weather();
    pod["spec"]["containers"][0][field] = list;
    pod
}

#[test]
fn the_sidecar_writes_what_the_agent_reads() {
    let pod = inject(&weather());
    assert_eq!(pod["spec"]["volumes"], json!([{"name": "meshtrace-shim", "emptyDir": {"sizeLimit": "1Mi"}}]));
    assert_eq!(
        agent(&pod)["volumeMounts"],
        json!([{"name": "meshtrace-shim", "mountPath": "/meshtrace-shim", "readOnly": true}])
    );
    assert_eq!(value(&pod, "PYTHONPATH"), "/meshtrace-shim");
    assert_eq!(value(&pod, "NODE_OPTIONS"), "--require /meshtrace-shim/meshtrace.cjs");
    assert!(value(&pod, "MCP_MESH_PROPAGATE_HEADERS").is_null(), "it is no agent of MCP Mesh");
    let sidecar = find(&pod["spec"]["initContainers"], "meshtrace");
    assert_eq!(sidecar["volumeMounts"], json!([{"name": "meshtrace-shim", "mountPath": "/meshtrace-shim"}]));
    assert!(sidecar["args"].as_array().unwrap().contains(&json!("--install-shim=/meshtrace-shim")));
    let migrate = find(&pod["spec"]["initContainers"], "migrate");
    assert_eq!(migrate, find(&weather()["spec"]["initContainers"], "migrate"));
}

#[test]
fn a_classic_sidecar_leaves_the_writing_to_an_init_container() {
    for (capture, expect) in [
        ("redirect", vec!["migrate", "meshtrace-shim", "meshtrace-init"]),
        ("explicit", vec!["migrate", "meshtrace-shim"]),
        ("none", vec!["migrate", "meshtrace-shim"]),
    ] {
        let mut pod = annotated("native-sidecar", "false");
        pod["metadata"]["annotations"]["meshtrace.io/capture"] = json!(capture);
        let injected = inject(&pod);
        assert_eq!(names(&injected, "initContainers"), expect);
        let shim = find(&injected["spec"]["initContainers"], "meshtrace-shim");
        assert_eq!(shim["args"], json!(["shim", "install", "/meshtrace-shim"]));
        assert_eq!(shim["securityContext"]["runAsUser"], 14100);
        assert!(!find(&injected["spec"]["containers"], "meshtrace").to_string().contains("shim"));
        assert_eq!(value(&injected, "PYTHONPATH"), "/meshtrace-shim");
        assert_eq!(crate::admission::undo(&injected).unwrap(), pod);
    }
}

#[test]
fn declined_by_the_pod_or_the_installation_nothing_of_it_is_there() {
    let mut settings = settings();
    settings.defaults.set("propagation", "off").unwrap();
    let without = |pod: &Value, settings: &Settings| {
        let injected = apply(pod, &Subject::default(), settings).pod;
        !injected["spec"].to_string().contains("shim")
    };
    assert!(without(&annotated("propagation", "off"), &super::settings()));
    assert!(without(&weather(), &settings));
    assert!(!without(&annotated("propagation", "on"), &settings), "the pod beats the installation");
    let outcome = apply(&annotated("propagation", "yes"), &Subject::default(), &settings);
    assert_eq!(status(&outcome.pod)["skipped"], "invalid_annotation");
}

#[test]
fn what_the_agent_has_set_is_kept() {
    let pod = with(
        "env",
        json!([
            {"name": "HOME", "value": "/app"},
            {"name": "NODE_OPTIONS", "value": "--enable-source-maps --max-old-space-size=$(HEAP)"},
            {"name": "PYTHONPATH", "value": "$(HOME)/lib"},
            {"name": "MCP_MESH_REGISTRY_URL", "value": "http://registry"},
            {"name": "MCP_MESH_PROPAGATE_HEADERS"},
        ]),
    );
    let injected = inject(&pod);
    assert_eq!(
        value(&injected, "NODE_OPTIONS"),
        "--enable-source-maps --max-old-space-size=$(HEAP) --require /meshtrace-shim/meshtrace.cjs"
    );
    assert_eq!(value(&injected, "PYTHONPATH"), "/meshtrace-shim:$(HOME)/lib");
    assert_eq!(value(&injected, "MCP_MESH_PROPAGATE_HEADERS"), "traceparent,tracestate,baggage");
    let order = |pod: &Value| -> Vec<Value> {
        agent(pod)["env"].as_array().unwrap().iter().map(|v| v["name"].clone()).collect()
    };
    assert_eq!(order(&injected), order(&pod), "a variable can name only those before it");
    assert_eq!(crate::admission::undo(&injected).unwrap(), pod);
}

#[test]
fn of_a_variable_that_is_there_twice_the_last_one_holds() {
    let pod = with(
        "env",
        json!([
            {"name": "PYTHONPATH", "value": "/meshtrace-shim:/b"}, {"name": "PYTHONPATH", "value": "/b"}
        ]),
    );
    let injected = inject(&pod);
    assert_eq!(agent(&injected)["env"][1]["value"], "/meshtrace-shim:/b");
    assert_eq!(crate::admission::undo(&injected).unwrap(), pod);
}

#[test]
fn what_comes_from_elsewhere_is_left_alone_and_said() {
    let from = json!({"configMapKeyRef": {"name": "c", "key": "k"}});
    for (field, list, left_alone) in [
        ("env", json!([{"name": "NODE_OPTIONS", "valueFrom": from}]), vec!["NODE_OPTIONS"]),
        ("envFrom", json!([{"configMapRef": {"name": "c"}}]), vec!["PYTHONPATH", "NODE_OPTIONS"]),
        ("envFrom", json!([{"prefix": "NODE_", "configMapRef": {"name": "c"}}]), vec!["NODE_OPTIONS"]),
        ("envFrom", json!([{"prefix": "APP_", "configMapRef": {"name": "c"}}]), vec![]),
    ] {
        let pod = with(field, list.clone());
        let outcome = apply(&pod, &Subject::default(), &settings());
        for variable in ["PYTHONPATH", "NODE_OPTIONS"] {
            assert_eq!(
                value(&outcome.pod, variable).is_null(),
                left_alone.contains(&variable),
                "{list} {variable}"
            );
        }
        let said = format!("{:?}", outcome.warnings);
        assert_eq!(outcome.warnings.len(), left_alone.len(), "{said}");
        assert!(
            left_alone.iter().all(|variable| said.contains(&format!("takes {variable} from elsewhere"))),
            "{said}"
        );
        if !left_alone.is_empty() {
            assert_eq!(status(&outcome.pod)["warnings"], json!(outcome.warnings));
        }
        assert!(agent(&outcome.pod)["volumeMounts"].is_array(), "so that it can be named there");
    }
    let mut both = with("env", json!([{"name": "PYTHONPATH", "value": "/app"}]));
    both["spec"]["containers"][0]["envFrom"] = json!([{"prefix": "PY", "configMapRef": {"name": "c"}}]);
    let outcome = apply(&both, &Subject::default(), &settings());
    assert_eq!(value(&outcome.pod, "PYTHONPATH"), "/meshtrace-shim:/app", "env hides what envFrom brings");
}

#[test]
fn nothing_is_mounted_where_something_is() {
    for (field, path) in [
        ("volumeMounts", json!([{"name": "v", "mountPath": "/meshtrace-shim/"}])),
        ("volumeMounts", json!([{"name": "v", "mountPath": "//meshtrace-shim/x"}])),
        ("volumeDevices", json!([{"name": "v", "devicePath": "/meshtrace-shim"}])),
    ] {
        let pod = with(field, path);
        let outcome = apply(&pod, &Subject::default(), &settings());
        assert_eq!(agent(&outcome.pod)[field], pod["spec"]["containers"][0][field]);
        assert!(agent(&outcome.pod).get("env").is_none() && outcome.pod["spec"].get("volumes").is_none());
        assert!(
            outcome.warnings[0].starts_with("container agent mounts /meshtrace-shim"),
            "{:?}",
            outcome.warnings
        );
    }
    let mut pod = with("volumeMounts", json!([{"name": "v", "mountPath": "/meshtrace-shims"}]));
    assert!(apply(&pod, &Subject::default(), &settings()).warnings.is_empty());
    pod["spec"]["volumes"] = json!([{"name": "meshtrace-shim", "emptyDir": {}}]);
    let outcome = apply(&pod, &Subject::default(), &settings());
    assert!(
        outcome.warnings[0].starts_with("there is a volume meshtrace-shim already"),
        "{:?}",
        outcome.warnings
    );
    assert_eq!(crate::admission::undo(&outcome.pod).unwrap(), pod, "it is not ours to take");
}

#[test]
fn a_pod_whose_annotations_are_full_is_left_as_it_is() {
    let mut pod = annotated("capture", "none");
    let free = |pod: &Value| {
        let map = pod["metadata"]["annotations"].as_object().unwrap().iter();
        256 * 1024 - map.map(|(key, value)| key.len() + value.as_str().unwrap().len()).sum::<usize>()
    };
    for (left, reason) in [(4_096, None), (400, Some("annotations_full")), (10, None)] {
        pod["metadata"]["annotations"]["filler"] = json!("");
        let filler = "x".repeat(free(&pod) - left);
        pod["metadata"]["annotations"]["filler"] = json!(filler);
        let outcome = apply(&pod, &Subject::default(), &settings());
        assert!(free(&outcome.pod) <= left);
        match (left, reason) {
            (10, _) => assert_eq!(outcome.pod, pod, "not even the reason has room"),
            (_, None) => assert!(status(&outcome.pod).get("skipped").is_none()),
            (_, Some(reason)) => assert_eq!(status(&outcome.pod)["skipped"], reason),
        }
    }
}
