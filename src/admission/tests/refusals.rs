//! Who is asked, who is refused, and with which word.

use super::*;
use crate::admission::decide::REASONS;
use crate::admission::patch::Decision;

fn reason(pod: &Value, subject: &Subject, settings: &Settings) -> Option<&'static str> {
    let outcome = apply(pod, subject, settings);
    let Decision::Refused(refusal) = outcome.decision else { return None };
    assert!(REASONS.contains(&refusal.reason), "{} is not listed", refusal.reason);
    let mut expect = pod.clone();
    status::annotate(&mut expect, "meshtrace.io/status", "");
    let mut left = outcome.pod.clone();
    left["metadata"]["annotations"]["meshtrace.io/status"] = json!("");
    assert_eq!(left, expect, "a refused pod gets a status and nothing else");
    assert_eq!(super::status(&outcome.pod)["skipped"], refusal.reason);
    assert_eq!(super::status(&outcome.pod)["message"], refusal.message);
    assert_eq!(outcome.warnings, [format!("meshtrace was not injected: {}", refusal.message)]);
    assert!(outcome.warnings[0].len() < 256, "the API server cuts longer ones: {}", outcome.warnings[0]);
    Some(refusal.reason)
}

use crate::admission::status;

#[test]
fn the_label_beats_the_annotation_and_the_pod_its_namespace() {
    let pod = |label: Option<&str>, annotation: Option<&str>| {
        let mut pod = weather();
        pod["metadata"]["annotations"] = json!({});
        if let Some(text) = annotation {
            pod["metadata"]["annotations"]["meshtrace.io/inject"] = json!(text);
        }
        if let Some(text) = label {
            pod["metadata"]["labels"]["meshtrace.io/inject"] = json!(text);
        }
        pod
    };
    let (yes, no) = (Some("true"), Some("false"));
    for (label, annotation, namespace, expect) in [
        (None, None, false, false),
        (None, None, true, true),
        (None, yes, false, true),
        (None, no, true, false),
        (yes, None, false, true),
        (yes, no, false, true),
        (no, yes, true, false),
    ] {
        let subject = Subject { asked: namespace, ..Subject::default() };
        let pod = pod(label, annotation);
        let outcome = apply(&pod, &subject, &settings());
        let injected = matches!(outcome.decision, Decision::Injected(..));
        assert_eq!(injected, expect, "{label:?} {annotation:?} {namespace}");
        assert!(injected || outcome.pod == pod);
    }
    for odd in ["yes", "True", "1", "", "enabled"] {
        let subject = Subject { asked: true, ..Subject::default() };
        assert_eq!(reason(&pod(Some(odd), yes), &subject, &settings()), Some("invalid_inject"), "{odd}");
        assert_eq!(reason(&pod(None, Some(odd)), &subject, &settings()), Some("invalid_inject"), "{odd}");
    }
}

#[test]
fn pods_that_it_would_harm_are_refused() {
    let with = |path: &str, value: Value| {
        let mut pod = weather();
        let (parent, key) = path.rsplit_once('/').unwrap();
        pod.pointer_mut(parent).unwrap()[key] = value;
        pod
    };
    let cases = [
        (with("/spec/hostNetwork", json!(true)), "host_network"),
        (with("/spec/os", json!({"name": "windows"})), "windows"),
        (with("/spec/nodeSelector", json!({"kubernetes.io/os": "windows"})), "windows"),
        (with("/spec/containers/0/name", json!("meshtrace")), "sidecar_exists"),
        (with("/spec/initContainers/0/name", json!("meshtrace-init")), "sidecar_exists"),
        (with("/spec/initContainers/0/name", json!("istio-proxy")), "other_mesh"),
        (with("/spec/containers/0/name", json!("linkerd-proxy")), "other_mesh"),
        (with("/spec/securityContext", json!({"runAsUser": 14100})), "uid_in_use"),
        (with("/spec/containers/0/securityContext", json!({"runAsUser": 14100})), "uid_in_use"),
        (with("/spec/containers/0/ports/0/containerPort", json!(14001)), "port_in_use"),
        (with("/spec/containers/0/ports/0/containerPort", json!(14020)), "port_in_use"),
        (annotated("capture", "transparent"), "invalid_annotation"),
        (annotated("proxy-memory-limit", "1Mi"), "invalid_annotation"),
    ];
    for (pod, expect) in cases {
        assert_eq!(reason(&pod, &Subject::default(), &settings()), Some(expect), "{pod}");
    }
}

/// There is nothing of ours in them but the status, so nothing that is empty was emptied by us.
#[test]
fn a_pod_that_is_refused_again_keeps_what_is_empty() {
    let mut pod = weather();
    pod["spec"]["hostNetwork"] = json!(true);
    pod["spec"]["initContainers"] = json!([]);
    pod["metadata"]["labels"] = json!({});
    let once = patch::apply(&pod, &Subject::default(), &settings()).unwrap().pod;
    assert_eq!((&once["spec"]["initContainers"], &once["metadata"]["labels"]), (&json!([]), &json!({})));
    let twice = patch::apply(&once, &Subject::default(), &settings()).unwrap().pod;
    assert_eq!(twice, once);
    assert_eq!(patch::undo(&once).unwrap(), pod);
}

#[test]
fn what_only_looks_like_harm_is_not_refused() {
    let mut pod = weather();
    pod["spec"]["shareProcessNamespace"] = json!(true);
    pod["spec"]["securityContext"] = json!({"runAsUser": 14100});
    pod["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 1000});
    pod["spec"]["initContainers"][0]["securityContext"] = json!({"runAsUser": 1000});
    pod["spec"]["hostNetwork"] = json!(false);
    assert_eq!(reason(&pod, &Subject::default(), &settings()), None);
    let mut beside = annotated("capture", "explicit");
    beside["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "istio-proxy"}));
    assert_eq!(reason(&beside, &Subject::default(), &settings()), None, "asked for by hand");
}

#[test]
fn a_namespace_that_forbids_capabilities_never_gets_a_pod_that_it_would_deny() {
    let subject = Subject { restricted: true, ..Subject::default() };
    assert_eq!(reason(&annotated("capture", "redirect"), &subject, &settings()), Some("pod_security"));
    assert_eq!(reason(&annotated("capture", "auto"), &subject, &settings()), None);
}

#[test]
fn pods_that_end_get_no_sidecar_that_does_not() {
    let settings = Settings { kubernetes: Some((1, 30)), ..settings() };
    let mut job = weather();
    job["metadata"]["ownerReferences"][0] = json!({"kind": "Job", "name": "nightly", "controller": true});
    job["spec"]["restartPolicy"] = json!("Never");
    assert_eq!(reason(&job, &Subject::default(), &settings), Some("runs_to_completion"));
    job["metadata"]["annotations"]["meshtrace.io/native-sidecar"] = json!("true");
    assert_eq!(reason(&job, &Subject::default(), &settings), None);
    job["metadata"]["annotations"]["meshtrace.io/native-sidecar"] = json!("false");
    assert_eq!(reason(&job, &Subject::default(), &settings), None, "asked for by hand");
}

#[test]
fn a_status_that_we_did_not_write_moves_nothing_of_the_users() {
    let mut pod = weather();
    pod["metadata"]["annotations"]["meshtrace.io/inject"] = json!("false");
    pod["metadata"]["labels"]["meshtrace.io/team"] = json!("a");
    let before = pod.clone();
    for status in [
        json!({"containers": ["agent", "migrate"]}),
        json!({"undo": {"labels": ["meshtrace.io/team"], "annotations": ["meshtrace.io/inject"]}}),
        json!({"undo": {"env": {"agent": {"PATH": {"was": "/evil", "now": "/bin"}}}}}),
        json!({"undo": {"probes": {"agent/readinessProbe": {"port": 1}, "agent/livenessProbe": {"port": 1}}}}),
        json!({"undo": {"handlers": {"agent/livenessProbe": "http"}, "ports": {"agent": {"other": {"port": 8080}}}}}),
        json!({"undo": {"ports": {"agent": {"http": {"port": 9, "at": 0}}}}}),
        json!({"undo": 7}),
        json!("not an object"),
    ] {
        pod["metadata"]["annotations"]["meshtrace.io/status"] = json!(status.to_string());
        let stripped = crate::admission::undo(&pod).unwrap();
        let mut left = stripped.clone();
        left["metadata"]["annotations"].as_object_mut().unwrap().shift_remove("meshtrace.io/status");
        assert_eq!(left, before, "{status}");
    }
}
