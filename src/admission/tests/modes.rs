//! What each mode makes of a pod, field by field.

use super::*;
use crate::admission::decide::Subject;

#[test]
fn redirect_puts_rules_and_sidecar_before_everything() {
    let pod = inject(&weather());
    assert_eq!(names(&pod, "initContainers"), ["meshtrace-init", "meshtrace", "migrate"]);
    assert_eq!(names(&pod, "containers"), ["agent"]);

    let init = &pod["spec"]["initContainers"][0];
    assert_eq!(
        init["args"],
        json!([
            "capture",
            "install",
            "--uid=14100",
            "--inbound-ports=8080",
            "--skip-outbound-ports=25,443,587,3306,4317,4318,4444,5432,6379,6443,9300,11211"
        ])
    );
    assert_eq!(
        init["securityContext"],
        json!({
            "runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": false, "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        })
    );

    let sidecar = &pod["spec"]["initContainers"][1];
    assert_eq!(sidecar["restartPolicy"], "Always");
    assert_eq!(sidecar["args"], json!(["proxy", "--redirected", "--install-shim=/meshtrace-shim"]));
    assert_eq!(sidecar["startupProbe"]["httpGet"], json!({"path": "/ready", "port": 14020}));
    assert_eq!(
        sidecar["securityContext"],
        json!({
            "runAsUser": 14100, "runAsGroup": 14100, "runAsNonRoot": true, "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        })
    );
    assert_eq!(find(&sidecar["env"], "OTEL_SERVICE_NAME")["value"], "weather");
    let attributes = find(&sidecar["env"], "OTEL_RESOURCE_ATTRIBUTES")["value"].as_str().unwrap();
    assert!(attributes.contains("k8s.deployment.name=weather,"), "{attributes}");
    assert!(attributes.ends_with("service.version=1.2"), "{attributes}");

    let metadata = &pod["metadata"];
    assert_eq!(metadata["labels"]["meshtrace.io/injected"], "true");
    assert_eq!(metadata["annotations"]["kubectl.kubernetes.io/default-container"], "agent");
    assert_eq!(metadata["annotations"]["prometheus.io/port"], "14020");
    let status = status(&pod);
    assert_eq!((&status["capture"], &status["sidecar"]), (&json!("redirect"), &json!("native")));
}

#[test]
fn beside_a_mesh_its_proxy_is_told_apart_and_left_alone() {
    let proxy = json!({
        "name": "istio-proxy", "restartPolicy": "Always", "securityContext": {"runAsUser": 1000660001},
        "ports": [{"name": "http-envoy-prom", "containerPort": 15090}],
        "startupProbe": {"tcpSocket": {"port": 15090}},
    });
    let beside = |capture: &str, proxy: &Value| {
        let mut pod = annotated("capture", capture);
        pod["spec"]["initContainers"].as_array_mut().unwrap().insert(0, proxy.clone());
        inject(&pod)
    };
    let pod = beside("redirect", &proxy);
    assert_eq!(names(&pod, "initContainers"), ["meshtrace-init", "meshtrace", "istio-proxy", "migrate"]);
    assert_eq!(find(&pod["spec"]["initContainers"], "istio-proxy"), &proxy);
    let args = |pod: &Value| find(&pod["spec"]["initContainers"], "meshtrace-init")["args"].clone();
    let mesh = args(&pod).as_array().unwrap()[3..5].to_vec();
    assert_eq!(mesh, ["--mesh-uid=1000660001", "--inbound-ports=8080"]);
    for (name, uid) in [("istio-proxy", 1337), ("linkerd-proxy", 2102)] {
        let args = args(&beside("auto", &json!({"name": name, "restartPolicy": "Always"})));
        assert_eq!(args[3], format!("--mesh-uid={uid}"));
    }
    let explicit = beside("explicit", &proxy);
    assert_eq!(find(&explicit["spec"]["initContainers"], "istio-proxy"), &proxy);

    let mut classic = annotated("capture", "explicit");
    let first = json!({"name": "linkerd-proxy", "ports": [{"name": "linkerd-admin", "containerPort": 4191}]});
    classic["spec"]["containers"].as_array_mut().unwrap().insert(0, first.clone());
    let classic = inject(&classic);
    assert_eq!(find(&classic["spec"]["containers"], "linkerd-proxy"), &first, "no port, variable or mount");
    let main = &classic["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"];
    assert_eq!(main, "agent", "not the mesh's");
}

#[test]
fn variables_are_declared_before_they_are_used() {
    let pod = inject(&weather());
    let env = pod["spec"]["initContainers"][1]["env"].as_array().unwrap();
    for (index, variable) in env.iter().enumerate() {
        for used in variable["value"].as_str().unwrap_or_default().split("$(").skip(1) {
            let used = used.split(')').next().unwrap();
            assert!(env[..index].iter().any(|earlier| earlier["name"] == used), "{used} in {variable}");
        }
    }
}

#[test]
fn tcp_probes_of_captured_ports_ask_the_sidecar() {
    let pod = inject(&weather());
    let agent = &pod["spec"]["containers"][0];
    assert_eq!(
        agent["livenessProbe"],
        json!({"httpGet": {"path": "/app-probe/agent/livenessProbe", "port": 14020}, "periodSeconds": 5})
    );
    assert_eq!(agent["readinessProbe"], weather()["spec"]["containers"][0]["readinessProbe"]);
    let probes =
        find(&pod["spec"]["initContainers"][1]["env"], "MESHTRACE_APP_PROBES")["value"].as_str().unwrap();
    let probes: Value = serde_json::from_str(probes).unwrap();
    assert_eq!(probes, json!({"agent/livenessProbe": {"port": 8080, "host": "", "timeoutSeconds": 1}}));

    for (key, value) in
        [("probe-mode", "none"), ("skip-inbound-ports", "8000-8999"), ("inbound-ports", "9090")]
    {
        let agent = inject(&annotated(key, value))["spec"]["containers"][0].clone();
        assert_eq!(
            agent["livenessProbe"],
            weather()["spec"]["containers"][0]["livenessProbe"],
            "{key} {value}"
        );
    }
}

#[test]
fn explicit_moves_named_ports_and_asks_for_no_privilege() {
    let subject = Subject { restricted: true, ..Subject::default() };
    let outcome = apply(&annotated("native-sidecar", "true"), &subject, &settings());
    let pod = outcome.pod;
    assert_eq!(names(&pod, "initContainers"), ["meshtrace", "migrate"]);
    let sidecar = &pod["spec"]["initContainers"][0];
    assert_eq!(
        sidecar["args"],
        json!([
            "proxy",
            "--inbound=[::]:14030=$(POD_IP):8080",
            "--outbound=127.0.0.1:14001",
            "--install-shim=/meshtrace-shim"
        ])
    );
    assert_eq!(find(&sidecar["ports"], "http")["containerPort"], 14030);
    assert!(!pod.to_string().contains("NET_ADMIN"));

    let agent = &pod["spec"]["containers"][0];
    assert_eq!(agent["ports"], json!([{"containerPort": 8080, "protocol": "TCP"}]));
    assert_eq!(agent["livenessProbe"]["tcpSocket"]["port"], 8080, "a name is looked up in its own container");
    assert_eq!(agent["readinessProbe"]["httpGet"]["port"], 8080);
    assert_eq!(find(&agent["env"], "HTTP_PROXY")["value"], "http://127.0.0.1:14001");
    assert!(find(&agent["env"], "NO_PROXY")["value"].as_str().unwrap().contains("127.0.0.1"));
    assert_eq!(outcome.warnings, Vec::<String>::new());
}

#[test]
fn explicit_leaves_a_container_alone_that_has_a_proxy_or_may_have_one() {
    for (field, value) in [
        ("env", json!([{"name": "http_proxy", "value": "http://corporate:3128"}])),
        ("env", json!([{"name": "HTTP_PROXY", "valueFrom": {"configMapKeyRef": {"name": "p", "key": "k"}}}])),
        ("envFrom", json!([{"secretRef": {"name": "keys"}}])),
    ] {
        let mut pod = annotated("capture", "explicit");
        pod["metadata"]["annotations"]["meshtrace.io/propagation"] = json!("off");
        pod["spec"]["containers"][0][field] = value.clone();
        let outcome = apply(&pod, &Subject::default(), &settings());
        let agent = find(&outcome.pod["spec"]["containers"], "agent");
        assert_eq!(agent[field], value);
        assert!(agent["env"].as_array().is_none_or(|env| env.len() == 1));
        assert!(outcome.warnings[0].contains("do not go through the sidecar"), "{:?}", outcome.warnings);
        assert_eq!(status(&outcome.pod)["warnings"], json!(outcome.warnings));
    }
}

#[test]
fn explicit_takes_no_port_that_the_pod_declares_and_so_many_at_most() {
    let mut pod = annotated("capture", "explicit");
    let port = |index: u16| json!({"name": format!("p{index}"), "containerPort": 14_030 + index});
    pod["spec"]["containers"][0]["ports"] = (0..40).map(port).collect();
    let outcome = apply(&pod, &Subject::default(), &settings());
    let sidecar = find(&outcome.pod["spec"]["containers"], "meshtrace");
    assert_eq!(sidecar["args"].as_array().unwrap().len(), 1 + 32 + 1);
    assert_eq!(sidecar["args"][1], "--inbound=[::]:14070=$(POD_IP):14030");
    assert!(
        outcome.warnings.iter().any(|warning| warning.contains("only the first 32")),
        "{:?}",
        outcome.warnings
    );
}

#[test]
fn none_changes_nothing_of_the_application() {
    let mut pod = annotated("capture", "none");
    pod["metadata"]["annotations"]["meshtrace.io/propagation"] = json!("off");
    let pod = inject(&pod);
    assert_eq!(pod["spec"]["containers"], weather()["spec"]["containers"]);
    assert!(pod["spec"].get("volumes").is_none());
    let sidecar = &pod["spec"]["initContainers"][0];
    assert_eq!(sidecar["args"][1], "--inbound=[::]:14030=$(POD_IP):8080");
    assert!(sidecar["ports"][1].get("name").is_none());
}

#[test]
fn classic_starts_before_the_application_and_after_its_init_containers() {
    let pod = inject(&annotated("native-sidecar", "false"));
    assert_eq!(names(&pod, "initContainers"), ["migrate", "meshtrace-shim", "meshtrace-init"]);
    assert_eq!(names(&pod, "containers"), ["meshtrace", "agent"]);
    let sidecar = &pod["spec"]["containers"][0];
    assert!(sidecar.get("restartPolicy").is_none() && sidecar.get("startupProbe").is_none());
    assert_eq!(find(&sidecar["env"], "MESHTRACE_STOP_AFTER")["value"], "8080");
    assert_eq!(
        sidecar["lifecycle"]["postStart"]["exec"]["command"],
        json!(["/meshtrace", "wait", "--timeout", "60s"])
    );
}

#[test]
fn the_form_follows_the_version_and_what_has_to_find_the_ports() {
    for (capture, version, expect) in [
        ("redirect", None, "native"),
        ("redirect", Some((1, 31)), "classic"),
        ("redirect", Some((1, 32)), "native"),
        ("explicit", None, "classic"),
        ("explicit", Some((1, 33)), "classic"),
        ("explicit", Some((1, 34)), "native"),
        ("none", Some((1, 32)), "native"),
    ] {
        let settings = Settings { kubernetes: version, ..settings() };
        let outcome = apply(&annotated("capture", capture), &Subject::default(), &settings);
        assert_eq!(status(&outcome.pod)["sidecar"], expect, "{capture} {version:?}");
    }
}

#[test]
fn the_installations_words_are_defaults_for_the_pods() {
    let mut settings = settings();
    settings.defaults.set("otlp-endpoint", "http://$(HOST_IP):4318").unwrap();
    settings.defaults.set("sampler", "always_off").unwrap();
    let pod = apply(&annotated("sampler", "traceidratio"), &Subject::default(), &settings).pod;
    let env = &pod["spec"]["initContainers"][1]["env"];
    assert_eq!(find(env, "OTEL_EXPORTER_OTLP_ENDPOINT")["value"], "http://$(HOST_IP):4318");
    assert_eq!(find(env, "OTEL_TRACES_SAMPLER")["value"], "traceidratio");
}

/// OpenShift gives each namespace a range of users and lets its pods run as no other.
#[test]
fn the_sidecars_user_is_the_installations_the_pods_or_the_clusters() {
    let context = |pod: &Value, name: &str| {
        let spec = &pod["spec"];
        let list = if find(&spec["containers"], name).is_null() { "initContainers" } else { "containers" };
        find(&spec[list], name).clone()
    };
    let pod = inject(&annotated("proxy-uid", "1000659999"));
    let sidecar = context(&pod, "meshtrace");
    assert_eq!(sidecar["securityContext"]["runAsUser"], 1_000_659_999);
    assert!(sidecar["args"].as_array().unwrap().contains(&json!("--uid=1000659999")), "{sidecar}");
    assert_eq!(context(&pod, "meshtrace-init")["args"][2], "--uid=1000659999");

    let mut pod = annotated("proxy-uid", "cluster");
    assert_eq!(status(&inject(&pod))["skipped"], "invalid_annotation", "the rules have to name somebody");
    for (capture, native) in [("explicit", "true"), ("explicit", "false"), ("none", "true")] {
        pod["metadata"]["annotations"]["meshtrace.io/capture"] = json!(capture);
        pod["metadata"]["annotations"]["meshtrace.io/native-sidecar"] = json!(native);
        let injected = inject(&pod);
        for name in ["meshtrace", "meshtrace-shim"] {
            let container = context(&injected, name);
            let said = &container["securityContext"];
            assert!(container.is_null() || (said.get("runAsUser").is_none() && said["runAsNonRoot"] == true));
        }
        assert!(!injected.to_string().contains("14100"), "{injected}");
    }
    let settings = Settings { uid: 15_000, ..settings() };
    let pod = apply(&weather(), &Subject::default(), &settings).pod;
    assert!(context(&pod, "meshtrace")["args"].as_array().unwrap().contains(&json!("--uid=15000")));
    assert!(!inject(&weather()).to_string().contains("--redirected\",\"--uid"), "it knows the usual one");
}

#[test]
fn hosts_for_tls_are_told_to_the_sidecar() {
    let pod = inject(&annotated("egress-tls-origination", "api.example.com, *.example.org:8443"));
    let env = &pod["spec"]["initContainers"][1]["env"];
    assert_eq!(find(env, "MESHTRACE_TLS_ORIGINATE")["value"], "api.example.com,*.example.org:8443");
    let pod = inject(&annotated("egress-tls-origination", ""));
    assert!(find(&pod["spec"]["initContainers"][1]["env"], "MESHTRACE_TLS_ORIGINATE").is_null());
}

#[test]
fn annotations_cannot_bring_in_variables() {
    let pod = inject(&annotated("service-name", "$(SECRET) $x"));
    assert_eq!(
        find(&pod["spec"]["initContainers"][1]["env"], "OTEL_SERVICE_NAME")["value"],
        "$$(SECRET) $$x"
    );
}

#[test]
fn what_is_there_already_is_kept() {
    let mut pod = weather();
    pod["metadata"]["annotations"]["prometheus.io/scrape"] = json!("false");
    pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] = json!("agent");
    let injected = inject(&pod);
    let annotations = &injected["metadata"]["annotations"];
    assert_eq!(annotations["prometheus.io/scrape"], "false");
    assert!(annotations.get("prometheus.io/port").is_none());
    assert_eq!(crate::admission::undo(&injected).unwrap(), pod);
}

#[test]
fn an_unknown_annotation_is_named() {
    let outcome = apply(&annotated("skip-outbound-port", "80"), &Subject::default(), &settings());
    assert_eq!(outcome.warnings, ["there is no annotation \"meshtrace.io/skip-outbound-port\""]);
}

#[test]
fn a_name_that_two_containers_have_means_the_first() {
    let mut pod = annotated("capture", "explicit");
    let second = json!({"name": "second", "ports": [
        {"name": "http", "containerPort": 9090}, {"name": "http", "containerPort": 53, "protocol": "UDP"}
    ]});
    pod["spec"]["containers"].as_array_mut().unwrap().push(second);
    let injected = inject(&pod);
    let sidecar = find(&injected["spec"]["containers"], "meshtrace");
    assert_eq!(sidecar["args"][1], "--inbound=[::]:14030=$(POD_IP):8080");
    let second = find(&injected["spec"]["containers"], "second");
    let left = json!([{"containerPort": 9090}, {"name": "http", "containerPort": 53, "protocol": "UDP"}]);
    assert_eq!(second["ports"], left, "the name must not lead past the sidecar");
    assert_eq!(crate::admission::undo(&injected).unwrap(), pod);
}
