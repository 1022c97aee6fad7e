//! The manifests of an installation: what `meshtrace install` prints.
//!
//! The namespaces, labels and Pod Security levels that decide about a pod are left to the API server's selectors: they
//! cost nothing for pods that nobody asks for, and the webhook needs no right to read namespaces.

use serde_json::{Value, json};

use crate::admission::decide::Settings;
use crate::admission::policy;
use crate::admission::review::Entry;
use crate::admission::yaml;

/// How pods get their sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A webhook that makes its own certificates.
    Webhook,
    /// A webhook whose certificates cert-manager makes.
    CertManager,
    /// A MutatingAdmissionPolicy, evaluated by the API server itself (Kubernetes 1.36 and later).
    Policy,
}

impl Mode {
    /// Every mode, with its name.
    pub const ALL: [(&'static str, Mode); 3] =
        [("webhook", Mode::Webhook), ("cert-manager", Mode::CertManager), ("policy", Mode::Policy)];
}

/// What is installed.
#[derive(Clone, Debug)]
pub struct Install {
    /// How pods get their sidecar.
    pub mode: Mode,
    /// The namespace of what is ours.
    pub namespace: String,
    /// What is added to pods.
    pub settings: Settings,
    /// The flags that led to `settings`, for the injector's own command line.
    pub flags: Vec<String>,
}

/// The name of everything that needs one.
pub const NAME: &str = "meshtrace-injector";

/// The port of the webhook.
pub const PORT: u16 = 14_043;

/// Where the token and the authority of the API server are mounted, as in any pod.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Namespaces that are never looked at: the cluster has to work without us.
pub(super) fn system_namespaces(own: &str) -> Vec<String> {
    ["kube-system", "kube-public", "kube-node-lease", own].map(str::to_owned).into()
}

impl Install {
    /// The manifests as a stream of YAML documents.
    ///
    /// # Errors
    /// When one cannot be written, which is a bug.
    pub fn render(&self) -> Result<String, String> {
        let documents = self.manifests();
        let texts = documents.iter().map(yaml::write).collect::<Result<Vec<_>, _>>()?;
        Ok(texts.join("---\n"))
    }

    /// The manifests, in an order in which they can be applied.
    pub fn manifests(&self) -> Vec<Value> {
        match self.mode {
            Mode::Policy => policy::manifests(self),
            Mode::Webhook => {
                let mut list = vec![self.namespace(), self.account()];
                list.extend(self.rights());
                list.extend([
                    self.secret(),
                    self.service(),
                    self.deployment(),
                    self.budget(),
                    self.webhooks(),
                ]);
                list
            }
            Mode::CertManager => {
                let mut list = vec![self.namespace(), self.account()];
                list.extend(self.certificate());
                list.extend([self.service(), self.deployment(), self.budget(), self.webhooks()]);
                list
            }
        }
    }

    fn metadata(&self) -> Value {
        json!({"name": NAME, "namespace": self.namespace, "labels": labels()})
    }

    fn namespace(&self) -> Value {
        let labels = json!({
            "app.kubernetes.io/name": "meshtrace",
            "pod-security.kubernetes.io/enforce": "restricted",
        });
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}})
    }

    fn account(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": self.metadata(),
            "automountServiceAccountToken": false,
        })
    }

    /// One Secret and one webhook configuration, by their names, and nothing else in the cluster.
    fn rights(&self) -> [Value; 4] {
        let subjects = json!([{"kind": "ServiceAccount", "name": NAME, "namespace": self.namespace}]);
        let reference =
            |kind: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": NAME});
        let api = "rbac.authorization.k8s.io/v1";
        let secret = json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": [NAME], "verbs": ["get", "update"]});
        let webhook = json!({
            "apiGroups": ["admissionregistration.k8s.io"], "resources": ["mutatingwebhookconfigurations"],
            "resourceNames": [NAME], "verbs": ["get", "patch"],
        });
        let cluster = json!({"name": NAME, "labels": labels()});
        [
            json!({"apiVersion": api, "kind": "Role", "metadata": self.metadata(), "rules": [secret]}),
            json!({
                "apiVersion": api, "kind": "RoleBinding", "metadata": self.metadata(),
                "roleRef": reference("Role"), "subjects": subjects,
            }),
            json!({"apiVersion": api, "kind": "ClusterRole", "metadata": cluster, "rules": [webhook]}),
            json!({
                "apiVersion": api, "kind": "ClusterRoleBinding", "metadata": cluster,
                "roleRef": reference("ClusterRole"), "subjects": subjects,
            }),
        ]
    }

    /// Empty: the replicas fill it, and may therefore update this one and create none.
    fn secret(&self) -> Value {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": self.metadata(), "type": "Opaque"})
    }

    fn certificate(&self) -> [Value; 2] {
        let api = "cert-manager.io/v1";
        let host = format!("{NAME}.{}.svc", self.namespace);
        [
            json!({"apiVersion": api, "kind": "Issuer", "metadata": self.metadata(), "spec": {"selfSigned": {}}}),
            json!({
                "apiVersion": api, "kind": "Certificate", "metadata": self.metadata(),
                "spec": {
                    "secretName": NAME,
                    "dnsNames": [host],
                    "privateKey": {"algorithm": "ECDSA", "rotationPolicy": "Always"},
                    "usages": ["server auth"],
                    "issuerRef": {"name": NAME, "kind": "Issuer"},
                },
            }),
        ]
    }

    fn service(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": self.metadata(),
            "spec": {
                "selector": labels(),
                "ports": [{"name": "https", "port": 443, "targetPort": "https", "protocol": "TCP"}],
            },
        })
    }

    fn deployment(&self) -> Value {
        let spread = json!([{
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": labels()},
        }]);
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": self.metadata(),
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels()},
                "strategy": {"rollingUpdate": {"maxUnavailable": 0}},
                "template": {
                    "metadata": {
                        "labels": labels(),
                        "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "14020"},
                    },
                    "spec": {
                        "serviceAccountName": NAME,
                        "automountServiceAccountToken": false,
                        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                        "topologySpreadConstraints": spread,
                        "containers": [self.container()],
                        "volumes": self.volumes(),
                    },
                },
            },
        })
    }

    fn container(&self) -> Value {
        let mut args = vec!["injector".to_owned()];
        let mut mounts = vec![json!({"name": "account", "mountPath": ACCOUNT, "readOnly": true})];
        if self.mode == Mode::CertManager {
            args.extend(["--certificate=/tls/tls.crt", "--key=/tls/tls.key"].map(str::to_owned));
            mounts.push(json!({"name": "tls", "mountPath": "/tls", "readOnly": true}));
        }
        args.extend(self.flags.iter().cloned());
        let image = &self.settings.defaults.proxy_image;
        let get = |path: &str| json!({"httpGet": {"path": path, "port": "admin"}, "periodSeconds": 5});
        json!({
            "name": "injector",
            "image": image,
            "args": args,
            // The sidecars' image, which is the injector's own unless it is said otherwise.
            "env": [{"name": "MESHTRACE_IMAGE", "value": image}],
            "ports": [
                {"name": "https", "containerPort": PORT, "protocol": "TCP"},
                {"name": "admin", "containerPort": 14020, "protocol": "TCP"},
            ],
            "readinessProbe": get("/ready"),
            "livenessProbe": get("/live"),
            "resources": {
                "requests": {"cpu": "10m", "memory": "32Mi"},
                "limits": {"memory": "256Mi"},
            },
            "securityContext": {
                "runAsUser": 14100,
                "runAsGroup": 14100,
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": mounts,
        })
    }

    fn volumes(&self) -> Vec<Value> {
        let account = json!({
            "name": "account",
            "projected": {"sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            ]},
        });
        match self.mode {
            Mode::CertManager => vec![account, json!({"name": "tls", "secret": {"secretName": NAME}})],
            _ => vec![account],
        }
    }

    fn budget(&self) -> Value {
        json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": self.metadata(),
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels()}},
        })
    }

    fn webhooks(&self) -> Value {
        let mut metadata = json!({"name": NAME, "labels": labels()});
        if self.mode == Mode::CertManager {
            let from = format!("{}/{NAME}", self.namespace);
            metadata["annotations"] = json!({"cert-manager.io/inject-ca-from": from});
        }
        let entries = Entry::ALL.into_iter().flat_map(|(path, entry)| {
            let askers: &[Asker] =
                if entry.asked { &[Asker::Namespace] } else { &[Asker::Label, Asker::Annotation] };
            askers.iter().map(move |asker| self.webhook(*asker, entry, path))
        });
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": metadata,
            "webhooks": entries.collect::<Vec<_>>(),
        })
    }

    /// One of the entries, which exclude each other, so that a pod costs one call at most.
    fn webhook(&self, asker: Asker, entry: Entry, path: &str) -> Value {
        let level = if entry.restricted { "In" } else { "NotIn" };
        let namespace = if entry.asked { "In" } else { "NotIn" };
        let name = format!("{}-{}", asker.as_str(), if entry.restricted { "restricted" } else { "open" });
        json!({
            "name": format!("{name}.inject.meshtrace.io"),
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            // Tracing must never stop a pod.
            "failurePolicy": "Ignore",
            "reinvocationPolicy": "IfNeeded",
            "timeoutSeconds": 3,
            "matchPolicy": "Equivalent",
            "clientConfig": {
                "service": {
                    "name": NAME, "namespace": self.namespace, "port": 443, "path": format!("/inject/{path}"),
                },
            },
            "rules": [{
                "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
                "scope": "Namespaced",
            }],
            "namespaceSelector": {"matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": system_namespaces(&self.namespace)},
                {"key": "meshtrace.io/inject", "operator": namespace, "values": ["true"]},
                {"key": "pod-security.kubernetes.io/enforce", "operator": level, "values": ["baseline", "restricted"]},
            ]},
            "objectSelector": {"matchExpressions": asker.object()},
            "matchConditions": asker.conditions(),
        })
    }
}

/// Who asks for a pod to be injected.
#[derive(Clone, Copy)]
enum Asker {
    Namespace,
    Label,
    Annotation,
}

impl Asker {
    fn as_str(self) -> &'static str {
        match self {
            Asker::Namespace => "namespace",
            Asker::Label => "label",
            Asker::Annotation => "annotation",
        }
    }

    /// Which pods are sent, by their label. A value that is neither yes nor no is sent, to be complained of.
    fn object(self) -> Value {
        let key = "meshtrace.io/inject";
        let not_declined = json!({"key": key, "operator": "NotIn", "values": ["false"]});
        match self {
            Asker::Namespace => json!([not_declined]),
            Asker::Label => json!([{"key": key, "operator": "Exists"}, not_declined]),
            Asker::Annotation => json!([{"key": key, "operator": "DoesNotExist"}]),
        }
    }

    /// Which pods are sent, by what only an expression can look at. A pod that asks itself is sent whatever it is like, so
    /// that it is told why it is refused.
    fn conditions(self) -> Value {
        let annotation =
            "has(object.metadata.annotations) && 'meshtrace.io/inject' in object.metadata.annotations";
        let value = "object.metadata.annotations['meshtrace.io/inject']";
        match self {
            Asker::Label => json!([]),
            Asker::Annotation => json!([
                {"name": "asked", "expression": format!("{annotation} && {value} != 'false'")},
            ]),
            Asker::Namespace => json!([
                {
                    "name": "not-host-network",
                    "expression": "!has(object.spec.hostNetwork) || !object.spec.hostNetwork",
                },
                {"name": "not-windows", "expression": "!has(object.spec.os) || object.spec.os.name != 'windows'"},
            ]),
        }
    }
}

pub(super) fn labels() -> Value {
    json!({"app.kubernetes.io/name": "meshtrace", "app.kubernetes.io/component": "injector"})
}
