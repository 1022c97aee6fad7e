//! Pods made of a seed: valid by the rules of Kubernetes, and otherwise as odd as they come.

use serde_json::{Map, Value, json};

/// A small generator of numbers (splitmix64), so that a failure names a seed that repeats it.
pub(in crate::admission) struct Dice(pub(in crate::admission) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `most`.
    pub(in crate::admission) fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// What all containers of a pod do about resources.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::admission) enum Qos {
    BestEffort,
    Burstable,
    Guaranteed,
}

/// A pod that asks to be injected.
pub(in crate::admission) fn pod(dice: &mut Dice) -> (Value, Qos) {
    let qos = *dice.pick(&[Qos::BestEffort, Qos::Burstable, Qos::Guaranteed]);
    let mut metadata = Map::new();
    if dice.chance(70) {
        metadata.insert("name".to_owned(), json!("solo"));
    } else {
        metadata.insert("generateName".to_owned(), json!("many-"));
    }
    metadata.insert("labels".to_owned(), labels(dice));
    metadata.insert("annotations".to_owned(), annotations(dice));
    if dice.chance(60) {
        let (kind, name) = dice.pick(&[
            ("ReplicaSet", "web-abc"),
            ("StatefulSet", "db"),
            ("DaemonSet", "ds"),
            ("Job", "j-29384720"),
            ("X", "x"),
        ]);
        let owner = json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": "u", "controller": dice.chance(90)});
        metadata.insert("ownerReferences".to_owned(), json!([owner]));
    }
    let count = 1 + dice.below(3);
    let mut spec = Map::new();
    spec.insert(
        "containers".to_owned(),
        (0..count).map(|i| container(dice, &format!("c{i}"), qos, false)).collect(),
    );
    if dice.chance(40) {
        let count = 1 + dice.below(2);
        let init = (0..count).map(|i| container(dice, &format!("i{i}"), qos, true)).collect();
        spec.insert("initContainers".to_owned(), init);
    }
    if dice.chance(30) {
        of_a_mesh(dice, &mut spec);
    }
    if dice.chance(30) {
        let name = dice.pick(&["data", "data", "data", "data", "meshtrace-shim"]);
        spec.insert("volumes".to_owned(), json!([{"name": name, "emptyDir": {}}]));
    }
    for (field, value) in [
        ("serviceAccountName", json!("agent")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("shareProcessNamespace", json!(true)),
        ("restartPolicy", json!("Always")),
        ("hostNetwork", json!(false)),
        ("securityContext", json!({"runAsNonRoot": true, "fsGroup": 2000})),
        ("dnsPolicy", json!("ClusterFirst")),
    ] {
        if dice.chance(25) {
            spec.insert(field.to_owned(), value);
        }
    }
    (json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}), qos)
}

/// Makes one of the containers the proxy of a service mesh.
fn of_a_mesh(dice: &mut Dice, spec: &mut Map<String, Value>) {
    let list = if spec.contains_key("initContainers") { "initContainers" } else { "containers" };
    let container = &mut spec[list][0];
    container["name"] = json!(dice.pick(&["istio-proxy", "linkerd-proxy"]));
    if dice.chance(50) {
        container["securityContext"] = json!({"runAsUser": 2999});
    }
}

fn labels(dice: &mut Dice) -> Value {
    let mut labels = Map::new();
    labels.insert("app".to_owned(), json!("x"));
    if dice.chance(40) {
        labels.insert("pod-template-hash".to_owned(), json!("abc"));
    }
    if dice.chance(30) {
        labels.insert("app.kubernetes.io/version".to_owned(), json!("1.0"));
    }
    Value::Object(labels)
}

fn annotations(dice: &mut Dice) -> Value {
    let mut map = Map::new();
    map.insert("meshtrace.io/inject".to_owned(), json!("true"));
    let mut own = |dice: &mut Dice, key: &str, values: &[&str]| {
        if dice.chance(25) {
            map.insert(key.to_owned(), json!(dice.pick(values)));
        }
    };
    own(dice, "meshtrace.io/capture", &["auto", "redirect", "explicit", "none"]);
    own(dice, "meshtrace.io/native-sidecar", &["auto", "true", "false"]);
    own(dice, "meshtrace.io/probe-mode", &["rewrite-tcp", "none"]);
    own(dice, "meshtrace.io/propagation", &["on", "off"]);
    own(dice, "meshtrace.io/inbound-ports", &["*", "8080", "8000-9000"]);
    own(dice, "meshtrace.io/skip-inbound-ports", &["9090", ""]);
    own(dice, "meshtrace.io/opaque-ports", &["3306", "8080-8090"]);
    own(dice, "meshtrace.io/proxy-uid", &["1000659999", "cluster"]);
    own(dice, "meshtrace.io/egress-tls-origination", &["api.example.com", "*.a:8443, b"]);
    own(dice, "meshtrace.io/service-name", &["$(A),=", "plain"]);
    own(dice, "resource.opentelemetry.io/team", &["a=b,c", "käse"]);
    own(dice, "prometheus.io/scrape", &["true"]);
    own(dice, "kubectl.kubernetes.io/default-container", &["c0", "gone"]);
    own(dice, "example.com/note", &["~0/~1", ""]);
    Value::Object(map)
}

fn container(dice: &mut Dice, name: &str, qos: Qos, init: bool) -> Value {
    let mut map = Map::new();
    map.insert("name".to_owned(), json!(name));
    map.insert(
        "image".to_owned(),
        json!(dice.pick(&["agent", "r:5000/a/b:1.2", "a@sha256:00", "a:1@sha256:00"])),
    );
    let stays = init && dice.chance(40);
    if stays {
        map.insert("restartPolicy".to_owned(), json!("Always"));
    }
    let ports = dice.below(4);
    let ports: Vec<Value> = (0..ports).map(|index| port(dice, index)).collect();
    if !ports.is_empty() {
        map.insert("ports".to_owned(), json!(ports));
    }
    if !init || stays {
        for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
            if dice.chance(45) {
                map.insert(probe.to_owned(), handler(dice, &ports, true));
            }
        }
        if dice.chance(20) {
            map.insert("lifecycle".to_owned(), json!({"preStop": handler(dice, &ports, false)}));
        }
    }
    if dice.chance(40) {
        let mut env = vec![json!({"name": "A", "value": "1"})];
        if dice.chance(20) {
            env.push(json!({"name": "http_proxy", "value": "http://p:1"}));
        }
        if dice.chance(30) {
            env.push(json!({"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}));
        }
        env.extend(of_the_shim(dice));
        map.insert("env".to_owned(), json!(env));
    }
    if dice.chance(20) {
        let from = [
            json!({"configMapRef": {"name": "c"}}),
            json!({"prefix": "APP_", "secretRef": {"name": "s"}}),
            json!({"prefix": "PYTHON", "configMapRef": {"name": "c"}}),
        ];
        map.insert("envFrom".to_owned(), json!([dice.pick(&from)]));
    }
    if dice.chance(15) {
        let path = dice.pick(&["/data", "/meshtrace-shim", "/meshtrace-shim/below/"]);
        let mounts = [json!([]), json!([{"name": "data", "mountPath": path}])];
        map.insert("volumeMounts".to_owned(), dice.pick(&mounts).clone());
    }
    if let Some(resources) = resources(dice, qos) {
        map.insert("resources".to_owned(), resources);
    }
    Value::Object(map)
}

/// Variables that the shim would set, as they may be there already.
fn of_the_shim(dice: &mut Dice) -> Vec<Value> {
    let mut env = Vec::new();
    for name in ["PYTHONPATH", "NODE_OPTIONS", "MCP_MESH_PROPAGATE_HEADERS", "MCP_MESH_REGISTRY_URL"] {
        if dice.chance(30) {
            env.push(match dice.below(5) {
                0 => json!({"name": name, "value": ""}),
                1 => json!({"name": name}),
                2 => json!({"name": name, "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}),
                _ => json!({"name": name, "value": dice.pick(&["/app:$(A)", "--require /meshtrace-shim/meshtrace.cjs", "x"])}),
            });
            if dice.chance(10) {
                env.push(json!({"name": name, "value": "twice"}));
            }
        }
    }
    env
}

fn port(dice: &mut Dice, index: u64) -> Value {
    let mut map = Map::new();
    let number = *dice.pick(&[80, 8080, 9090, 3306, 14030, 14031, 50051]);
    if dice.chance(70) {
        map.insert("name".to_owned(), json!(format!("p{index}")));
    }
    map.insert("containerPort".to_owned(), json!(number));
    if dice.chance(60) {
        map.insert("protocol".to_owned(), json!(dice.pick(&["TCP", "TCP", "UDP"])));
    }
    Value::Object(map)
}

fn handler(dice: &mut Dice, ports: &[Value], probe: bool) -> Value {
    let named = ports.iter().find_map(|port| port["name"].as_str());
    let port = match named {
        Some(name) if dice.chance(50) => json!(name),
        _ => json!(dice.pick(&[8080, 9090, 7])),
    };
    let mut map = Map::new();
    match dice.below(if probe { 4 } else { 2 }) {
        0 => drop(map.insert("httpGet".to_owned(), json!({"path": "/", "port": port}))),
        1 => drop(map.insert("exec".to_owned(), json!({"command": ["true"]}))),
        2 => drop(map.insert("grpc".to_owned(), json!({"port": 50051}))),
        _ => drop(map.insert("tcpSocket".to_owned(), json!({"port": port, "host": "127.0.0.1"}))),
    }
    if probe && dice.chance(50) {
        map.insert("timeoutSeconds".to_owned(), json!(3));
        map.insert("periodSeconds".to_owned(), json!(7));
    }
    Value::Object(map)
}

fn resources(dice: &mut Dice, qos: Qos) -> Option<Value> {
    match qos {
        Qos::BestEffort if dice.chance(50) => None,
        Qos::BestEffort => Some(json!({})),
        Qos::Burstable => Some(json!({"requests": {"cpu": dice.pick(&["1", "100m", "0.25"])}})),
        Qos::Guaranteed if dice.chance(50) => Some(json!({"limits": {"cpu": "1", "memory": "1Gi"}})),
        Qos::Guaranteed => Some(json!({
            "limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"},
        })),
    }
}
