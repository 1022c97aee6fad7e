//! `meshtrace inject` as people type it.

use super::process::run;
use crate::support::mesh::Scratch;

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: weather}
spec:
  containers:
  - name: agent
    image: weather:1
    ports: [{name: http, containerPort: 8080}]
";

#[tokio::test]
async fn pods_in_and_pods_out() {
    let pod = Scratch::new(POD);
    let other = Scratch::new("# kept\nkind: ConfigMap");
    let (pod, other) = (pod.0.to_str().unwrap(), other.0.to_str().unwrap());
    let flags = ["--image", "registry/meshtrace:2", "--set", "otlp-endpoint=http://collector:4318"];
    let args = [&["inject", "-f", other, "-f", pod][..], &flags].concat();
    let done = run(&args, &[]).await;
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(
        done.out.starts_with("# kept\nkind: ConfigMap\n---\napiVersion: v1\nkind: Pod\n"),
        "{}",
        done.out
    );
    for line in ["image: registry/meshtrace:2", "value: http://collector:4318", "restartPolicy: Always"] {
        assert!(done.out.contains(line), "{line} in {}", done.out);
    }
    let note = format!("meshtrace: {pod}: Pod weather: injected, capture redirect, native sidecar\n");
    assert_eq!(done.err, note);

    let injected = Scratch::new(&done.out);
    let undone = run(&["inject", "--undo", "-f", injected.0.to_str().unwrap()], &[]).await;
    assert_eq!(undone.code, Some(0));
    assert!(!undone.out.contains("meshtrace"), "{}", undone.out);
}

#[tokio::test]
async fn what_cannot_be_used_exits_2_and_prints_no_half_stream() {
    let good = Scratch::new(POD);
    let bad = Scratch::new("a: 1\n---\na: 1\na: 2\n");
    let (good, bad) = (good.0.to_str().unwrap(), bad.0.to_str().unwrap());
    let done = run(&["inject", "-f", good, "-f", bad], &[]).await;
    assert_eq!((done.code, done.out.as_str()), (Some(2), ""));
    assert!(done.err.contains(&format!("{bad}:4:1: document 2: ")), "{}", done.err);

    for (args, expect) in [
        (&["inject", "-f", "/nowhere.yaml"][..], "/nowhere.yaml: "),
        (
            &["inject", "-f", good, "--set", "capture=all"],
            "--set meshtrace.io/capture \"all\": expected auto",
        ),
        (&["inject"], "--filename"),
    ] {
        let done = run(args, &[]).await;
        assert_eq!((done.code, done.out.as_str()), (Some(2), ""), "{args:?}");
        assert!(done.err.contains(expect), "{}", done.err);
    }
}
