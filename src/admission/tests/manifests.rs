//! Streams of manifests.

use super::settings;
use crate::admission::manifests::{Change, Rewritten, rewrite};

const STREAM: &str = "\
# What nobody touches keeps its comments.
apiVersion: v1
kind: ConfigMap   # not a workload
metadata: {name: c}
data: {answer: yes, mode: 0644}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: weather
spec:
  template:
    metadata:
      labels: {app: weather}
    spec:
      containers:
      - name: agent
        image: weather:1
        ports: [{containerPort: 8080}]
        env:
        - {name: QUOTED, value: \"yes\"}
        - {name: OCTAL, value: '0644'}
        volumeMounts: [{name: keys, mountPath: /keys}]
      volumes:
      - name: keys
        secret: {secretName: keys, defaultMode: 0644, optional: yes}
---
# the end
";

fn run(text: &str, change: Change<'_>) -> Rewritten {
    rewrite(text, change).unwrap()
}

fn inject(text: &str) -> Rewritten {
    run(text, Change::Inject(&settings()))
}

#[test]
fn only_what_has_to_change_changes() {
    let new = inject(STREAM);
    let (head, rest) = new.text.split_once("---\n").unwrap();
    assert_eq!(head, STREAM.split_once("---\n").unwrap().0);
    assert!(rest.ends_with("---\n# the end\n"), "{rest}");
    assert!(rest.contains("name: meshtrace-init\n"), "{rest}");
    assert_eq!(new.changed, 1);
    assert_eq!(new.notes, ["Deployment weather: injected, capture redirect, native sidecar"]);
}

#[test]
fn yaml_means_what_kubectl_takes_it_to_mean() {
    let text = inject(STREAM).text;
    assert!(text.contains("defaultMode: 420\n"), "0644 is octal for kubectl: {text}");
    assert!(text.contains("optional: true\n"), "{text}");
    for quoted in ["value: \"yes\"", "value: '0644'"] {
        let other = quoted.replace('"', "'");
        assert!(
            text.contains(quoted) || text.contains(&other) || text.contains(&quoted.replace('\'', "\"")),
            "{text}"
        );
    }
}

#[test]
fn undo_takes_it_back_and_twice_is_once() {
    let new = inject(STREAM);
    assert_eq!(inject(&new.text).text, new.text);
    let back = run(&new.text, Change::Undo);
    assert_eq!(back.changed, 1);
    assert!(!back.text.contains("meshtrace"), "{}", back.text);
    assert_eq!(run(&back.text, Change::Undo).text, back.text);
    assert_eq!(inject(&back.text).text, new.text);
    assert_eq!(run(STREAM, Change::Undo).text, STREAM, "nothing to take back");
}

#[test]
fn every_kind_of_workload_is_found() {
    let pod = "{spec: {containers: [{name: a}]}}";
    let stream = [
        ("v1", "Pod", "metadata: {name: x}\nspec: {containers: [{name: a}]}".to_owned(), true),
        ("apps/v1", "Deployment", format!("spec: {{template: {pod}}}"), true),
        ("apps/v1", "StatefulSet", format!("spec: {{template: {pod}}}"), true),
        ("apps/v1", "DaemonSet", format!("spec: {{template: {pod}}}"), true),
        ("apps/v1", "ReplicaSet", format!("spec: {{template: {pod}}}"), true),
        ("v1", "ReplicationController", format!("spec: {{template: {pod}}}"), true),
        ("batch/v1", "Job", format!("spec: {{template: {pod}}}"), true),
        ("batch/v1", "CronJob", format!("spec: {{jobTemplate: {{spec: {{template: {pod}}}}}}}"), true),
        (
            "v1",
            "List",
            format!("items: [{{apiVersion: apps/v1, kind: Deployment, spec: {{template: {pod}}}}}]"),
            true,
        ),
        ("example.com/v1", "Deployment", format!("spec: {{template: {pod}}}"), false),
        ("apps/v1", "Service", "spec: {}".to_owned(), false),
    ];
    for (version, kind, rest, expect) in stream {
        let text = format!("apiVersion: {version}\nkind: {kind}\n{rest}\n");
        let new = inject(&text);
        assert_eq!(new.changed == 1, expect, "{text}");
        assert_eq!(new.text == text, !expect, "{text}");
    }
}

#[test]
fn json_is_yaml_too() {
    let text = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [{"name": "a"}]}}"#;
    assert_eq!(inject(text).changed, 1);
}

#[test]
fn who_declines_is_left_alone_and_who_cannot_is_told() {
    let pod = |annotation: &str, more: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: x, annotations: {{{annotation}}}}}\n\
             spec: {{{more}containers: [{{name: a}}]}}\n"
        )
    };
    let declines = pod("meshtrace.io/inject: 'false'", "");
    assert_eq!(inject(&declines).text, declines);
    assert_eq!(inject(&declines).notes, ["Pod x: declines"]);
    let host = inject(&pod("", "hostNetwork: true, "));
    assert!(
        host.notes[0].starts_with("Pod x: meshtrace was not injected: the pod uses its node's"),
        "{:?}",
        host.notes
    );
    assert!(host.text.contains("host_network"));
}

#[test]
fn what_is_wrong_is_said_with_document_and_line() {
    let first = "kind: A\n---\n";
    for (text, expect) in [
        ("a: [b\n", "3:4: document 2: unclosed"),
        ("a: 1\na: 2\n", "4:1: document 2: "),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n", "3: document 2: Pod x: there is no spec"),
        (
            "\n# why\napiVersion: apps/v1\nkind: Deployment\n",
            "5: document 2: Deployment without a name has no pod template",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {annotations: {meshtrace.io/inject: true}}\nspec: {}\n",
            "3: document 2: Pod without a name: metadata.annotations: the value of meshtrace.io/inject has to be in quotes",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {annotations: {meshtrace.io/capture: all}}\nspec: {containers: [{name: a}]}\n",
            "3: document 2: Pod without a name: meshtrace.io/capture \"all\": expected auto, redirect, explicit or none",
        ),
    ] {
        let problem =
            rewrite(&format!("{first}{text}"), Change::Inject(&settings())).unwrap_err().to_string();
        assert!(problem.starts_with(expect), "{problem}");
    }
}

#[test]
fn the_workloads_own_annotation_is_pointed_out() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, annotations: {meshtrace.io/inject: 'true'}}\n\
                spec: {template: {spec: {containers: [{name: a}]}}}\n";
    let notes = inject(text).notes;
    assert!(notes[0].contains("has no effect here; it belongs to the pod template"), "{notes:?}");
}

#[test]
fn text_of_all_shapes_survives() {
    let long = "x ".repeat(200);
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: x\nspec:\n  containers:\n  - name: a\n    args:\n    \
         - |\n      one\n        two\n\n    - '{long}'\n    - \" leading\"\n    - 'tab\t'\n    - \"nul\\0 bell\\a\"\n    \
         - '- dash'\n    - '#'\n    - 1.0\n    - 1e3\n    - 2001-12-14\n    - ~\n    - .5\n    - 0x1F\n    - '0x1F'\n    \
         - 12:30:45\n    - \"\\u2028\"\n    - '---'\n"
    );
    let once = inject(&text).text;
    assert_eq!(inject(&once).text, once);
    assert!(once.contains(&long), "long lines are not folded");
}
