"""A real API server admits pods through the webhook and through the policy.

Needs etcd, kube-apiserver, openssl and the meshtrace binary; see README.md beside this file.
"""

import base64
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from application import Application

APISERVER = os.environ.get("MESHTRACE_TEST_APISERVER")
ETCD = os.environ.get("MESHTRACE_TEST_ETCD")
MESHTRACE = os.environ.get("MESHTRACE_BIN", "target/release/meshtrace")
TOKEN = "test-token"
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
NAME = "meshtrace-injector"
SYSTEM = "meshtrace-system"

results = {"passed": 0, "failed": 0}


def check(what, good, detail=""):
    results["passed" if good else "failed"] += 1
    print(f"{'ok  ' if good else 'FAIL'} {what}" + ("" if good else f": {detail}"), flush=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    """etcd and an API server in a folder of their own."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        self.port, etcd, peer = free_port(), free_port(), free_port()
        self.start("etcd", [
            ETCD, "--data-dir", folder / "etcd", "--listen-client-urls", f"http://127.0.0.1:{etcd}",
            "--advertise-client-urls", f"http://127.0.0.1:{etcd}", "--listen-peer-urls", f"http://127.0.0.1:{peer}",
            "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
            "--initial-cluster", f"default=http://127.0.0.1:{peer}",
        ])
        key = folder / "sa.key"
        run(["openssl", "genrsa", "-out", key, "2048"])
        (folder / "tokens.csv").write_text(f"{TOKEN},admin,1,system:masters\n")
        self.start("apiserver", [
            APISERVER, f"--etcd-servers=http://127.0.0.1:{etcd}", f"--secure-port={self.port}",
            "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--cert-dir={folder / 'certs'}",
            "--service-cluster-ip-range=10.96.0.0/16", f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}", "--service-account-issuer=https://kubernetes.default.svc",
            f"--token-auth-file={folder / 'tokens.csv'}", "--authorization-mode=RBAC",
            # No controllers run that would make accounts.
            "--disable-admission-plugins=ServiceAccount",
        ])
        self.wait_until("the API server", lambda: self.get("/readyz", raw=True) == "ok", 120)

    def start(self, name, command, env=None):
        log = open(self.folder / f"{name}.log", "w", encoding="utf-8")
        process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, env=env)
        self.processes.append(process)
        return process

    def stop(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()

    def wait_until(self, what, condition, seconds=60):
        end = time.time() + seconds
        while time.time() < end:
            try:
                if condition():
                    return
            except (OSError, AssertionError):
                pass
            time.sleep(0.5)
        raise SystemExit(f"{what} did not come up within {seconds} s; see {self.folder}")

    def call(self, method, path, body=None, content="application/json"):
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": content}
        url = f"https://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, context=ssl._create_unverified_context(), timeout=30) as answer:
                return answer.status, answer.read().decode(), answer.headers.get_all("Warning") or []
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(), []

    def get(self, path, raw=False):
        status, text, _ = self.call("GET", path)
        assert status == 200, text
        return text if raw else json.loads(text)

    def apply(self, manifest):
        """Creates an object."""
        group, kind = manifest["apiVersion"], manifest["kind"].lower()
        base = f"/api/{group}" if "/" not in group else f"/apis/{group}"
        namespace = manifest["metadata"].get("namespace")
        plural = kind[:-1] + "ies" if kind.endswith("y") else kind + "s"
        path = base + (f"/namespaces/{namespace}" if namespace else "") + f"/{plural}"
        status, text, _ = self.call("POST", path, manifest)
        if status not in (200, 201, 409):
            raise SystemExit(f"{path}: {status} {text}")

    def create(self, namespace, pod):
        """Asks for a pod without keeping it. Returns status, pod and warnings."""
        path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All"
        status, text, warnings = self.call("POST", path, pod)
        return status, json.loads(text), warnings


def run(command):
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


def pod(annotations=None, labels=None, **spec):
    container = {
        "name": "agent", "image": "agent:1", "ports": [{"name": "http", "containerPort": 8080}],
        "livenessProbe": {"tcpSocket": {"port": "http"}},
    }
    container.update(spec.pop("container", {}))
    metadata = {"generateName": "agent-", "annotations": annotations or {}, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container], **spec}}


RESTRICTED = {
    "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True, "runAsUser": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}
YES = {"meshtrace.io/inject": "true"}


def status_of(found):
    return json.loads(found["metadata"].get("annotations", {}).get("meshtrace.io/status", "{}"))


def inits(found):
    return [container["name"] for container in found.get("spec", {}).get("initContainers", [])]


def manifests(mode):
    import yaml  # pylint: disable=import-outside-toplevel

    text = subprocess.run([MESHTRACE, "install", "--mode", mode], check=True, capture_output=True, text=True).stdout
    return [document for document in yaml.safe_load_all(text) if document]


def namespaces(cluster):
    for name, labels in {
        "plain": {}, "asking": {"meshtrace.io/inject": "true"},
        "locked": {"pod-security.kubernetes.io/enforce": "restricted"},
        "both": {"meshtrace.io/inject": "true", "pod-security.kubernetes.io/enforce": "baseline"},
    }.items():
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})


def admitted(cluster, policy):
    """What both ways have in common: who asks, and who is left alone."""
    word = "policy" if policy else "webhook"
    probe = {"livenessProbe": {"httpGet": {"path": "/", "port": "http"}}} if policy else {}
    for what, namespace, made, expect in [
        ("nobody asks", "plain", pod(container=probe), False),
        ("the annotation asks", "plain", pod(YES, container=probe), True),
        ("the label asks", "plain", pod(labels=YES, container=probe), True),
        ("the namespace asks", "asking", pod(container=probe), True),
        ("the pod declines", "asking", pod({"meshtrace.io/inject": "false"}, container=probe), False),
        ("the label beats the annotation", "plain", pod(YES, {"meshtrace.io/inject": "false"}, container=probe), False),
        ("host network", "asking", pod(hostNetwork=True, container={"ports": [], **probe}), False),
    ]:
        status, found, _ = cluster.create(namespace, made)
        names = ["meshtrace-init", "meshtrace"] if expect else []
        check(f"{word}: {what}", status == 201 and inits(found) == names, f"{status} {json.dumps(found)[:2000]}")
    application = Application(word, cluster, pod, check, MESHTRACE)
    application.shim()
    application.origination()


def webhook(cluster, folder):
    port, admin = free_port(), free_port()
    for manifest in manifests("webhook"):
        if manifest["kind"] in ("Deployment", "PodDisruptionBudget"):
            continue
        # No network of a cluster is here, so the Service leads to this machine. Its name is what the certificate is for.
        if manifest["kind"] == "Service":
            manifest["spec"] = {"type": "ExternalName", "externalName": "localhost"}
        if manifest["kind"] == "MutatingWebhookConfiguration":
            for entry in manifest["webhooks"]:
                entry["clientConfig"]["service"]["port"] = port
        cluster.apply(manifest)
    # Nobody answers yet, and the pod is admitted all the same.
    status, found, _ = cluster.create("plain", pod(YES))
    check("webhook: down, the pod is admitted as it is", status == 201 and inits(found) == [], found)

    path = f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/{NAME}/token"
    token = json.loads(cluster.call("POST", path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})[1])
    ACCOUNT.mkdir(parents=True, exist_ok=True)
    (ACCOUNT / "token").write_text(token["status"]["token"])
    (ACCOUNT / "namespace").write_text(SYSTEM)
    shutil.copy(folder / "certs/apiserver.crt", ACCOUNT / "ca.crt")
    env = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(cluster.port), "OTEL_LOG_LEVEL": "debug"}
    second = free_port()
    for name, listen, at in [("injector", port, admin), ("injector2", second, free_port())]:
        command = [MESHTRACE, "injector", "--listen", f"127.0.0.1:{listen}", "--admin", f"127.0.0.1:{at}"]
        cluster.start(name, command + ["--image", "example.com/meshtrace:1", "--name", NAME], env)
    ready = f"http://127.0.0.1:{admin}/ready"
    cluster.wait_until("the injector", lambda: urllib.request.urlopen(ready, timeout=5).status == 200)
    configuration = f"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{NAME}"
    bundles = {entry["clientConfig"].get("caBundle") for entry in cluster.get(configuration)["webhooks"]}
    check("webhook: all entries trust one bundle", len(bundles) == 1 and None not in bundles, bundles)
    # The API server hears of the bundle a moment later.
    cluster.wait_until("the bundle", lambda: inits(cluster.create("plain", pod(YES))[1]) != [])
    return ready, second, base64.b64decode(bundles.pop()).decode()


def through_the_webhook(cluster, folder):
    ready, second, bundle = webhook(cluster, folder)
    admitted(cluster, policy=False)

    status, found, _ = cluster.create("plain", pod(YES))
    version = status_of(found)
    check("webhook: the status says what was done", version.get("capture") == "redirect" and version.get("sidecar") == "native", version)
    probe = found["spec"]["containers"][0]["livenessProbe"]["httpGet"]
    check("webhook: the TCP probe asks the sidecar", probe["path"] == "/app-probe/agent/livenessProbe", probe)

    plain = {"securityContext": RESTRICTED}
    status, found, _ = cluster.create("locked", pod(YES, container=plain))
    check("webhook: a restricted namespace gets the explicit mode, and takes the pod",
          status == 201 and status_of(found).get("capture") == "explicit", f"{status} {json.dumps(found)[:1500]}")
    ports = [p for c in found["spec"].get("initContainers", []) + found["spec"]["containers"] for p in c.get("ports", []) if p.get("name") == "http"]
    check("webhook: the named port is the sidecar's", [p["containerPort"] for p in ports] == [14030], ports)
    status, found, _ = cluster.create("both", pod())
    check("webhook: a baseline namespace that asks", status == 201 and status_of(found).get("capture") == "explicit", found)
    status, found, warnings = cluster.create("locked", pod({**YES, "meshtrace.io/capture": "redirect"}, container=plain))
    check("webhook: what the namespace would deny is refused, and the pod admitted",
          status == 201 and status_of(found).get("skipped") == "pod_security" and inits(found) == [], found)
    check("webhook: the refusal is a warning", any("NET_ADMIN" in text for text in warnings), warnings)
    for key, value, reason in [("inject", "maybe", "invalid_inject"), ("capture", "all", "invalid_annotation")]:
        status, found, warnings = cluster.create("plain", pod({**YES, f"meshtrace.io/{key}": value}))
        check(f"webhook: {reason}", status == 201 and status_of(found).get("skipped") == reason and warnings, found)
    status, found, warnings = cluster.create("plain", pod(labels={"meshtrace.io/inject": "maybe"}))
    check("webhook: a label that is neither yes nor no", status_of(found).get("skipped") == "invalid_inject" and warnings, found)
    status, found, _ = cluster.create("plain", pod(YES, hostNetwork=True, container={"ports": []}))
    check("webhook: host network is told why", status_of(found).get("skipped") == "host_network", found)
    status, found, _ = cluster.create(SYSTEM, pod(YES, container=plain))
    check("webhook: our own namespace is left alone", inits(found) == [], found)

    status, found, _ = cluster.create("plain", pod(YES))
    again = json.loads(json.dumps(found))
    for key in ("uid", "creationTimestamp", "name", "managedFields", "resourceVersion", "namespace"):
        again["metadata"].pop(key, None)
    again.pop("status", None)
    status, twice, _ = cluster.create("plain", again)
    same = twice["spec"]["initContainers"] == found["spec"]["initContainers"]
    check("webhook: an injected pod that comes again is the same", status == 201 and same, twice)

    other_replica = ssl.create_default_context(cadata=bundle)
    with socket.create_connection(("127.0.0.1", second)) as tcp:
        with other_replica.wrap_socket(tcp, server_hostname=f"{NAME}.{SYSTEM}.svc") as tls:
            check("webhook: the other replica serves what the bundle trusts", bool(tls.version()))
    reinvoked(cluster)

    metrics = urllib.request.urlopen(ready.replace("/ready", "/metrics"), timeout=5).read().decode()
    check("webhook: metrics", 'reviews_total{result="injected"}' in metrics, metrics)
    for process in cluster.processes[-2:]:
        process.send_signal(signal.SIGTERM)
        check("webhook: SIGTERM ends it with 0", process.wait(20) == 0, process.returncode)
    status, found, _ = cluster.create("plain", pod(YES))
    check("webhook: gone, the pod is admitted as it is", status == 201 and inits(found) == [], found)
    cluster.call("DELETE", f"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{NAME}")


def reinvoked(cluster):
    """A policy that adds a container after us makes the API server call the webhook again."""
    api = "admissionregistration.k8s.io/v1"
    expression = (
        "object.spec.containers.exists(c, c.name == 'late') ? [] : [JSONPatch{op: 'add', path: '/spec/containers/-', "
        "value: Object.spec.containers{name: 'late', image: 'late', ports: "
        "[Object.spec.containers.ports{containerPort: 9999}]}}]"
    )
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    cluster.apply({
        "apiVersion": api, "kind": "MutatingAdmissionPolicy", "metadata": {"name": "late"},
        "spec": {
            "matchConstraints": {"resourceRules": rules}, "failurePolicy": "Fail", "reinvocationPolicy": "IfNeeded",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
        },
    })
    cluster.apply({"apiVersion": api, "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": "late"}, "spec": {"policyName": "late"}})
    names = lambda found: [container["name"] for container in found["spec"]["containers"]]
    cluster.wait_until("the second policy", lambda: "late" in names(cluster.create("plain", pod())[1]))
    status, found, _ = cluster.create("plain", pod(YES))
    ports = [arg for c in found["spec"]["initContainers"] for arg in c.get("args", []) if arg.startswith("--inbound-ports=")]
    check("webhook: a container that came later is seen too",
          status == 201 and names(found) == ["agent", "late"] and ports == ["--inbound-ports=8080,9999"], found)
    for kind in ("mutatingadmissionpolicybindings", "mutatingadmissionpolicies"):
        cluster.call("DELETE", f"/apis/{api}/{kind}/late")
    cluster.wait_until("the end of the second policy", lambda: "late" not in names(cluster.create("plain", pod())[1]))


def through_the_policy(cluster):
    for manifest in manifests("policy"):
        cluster.apply(manifest)
    http = {"livenessProbe": {"httpGet": {"path": "/", "port": "http"}}}
    asked = pod(YES, container=http)
    cluster.wait_until("the policy", lambda: inits(cluster.create("plain", asked)[1]) != [])
    admitted(cluster, policy=True)
    status, found, _ = cluster.create("plain", pod(YES))
    check("policy: a TCP probe keeps the pod out", status == 201 and inits(found) == [], found)
    plain = {"securityContext": RESTRICTED, **http}
    status, found, _ = cluster.create("locked", pod(YES, container=plain))
    check("policy: a restricted namespace keeps the pod out", status == 201 and inits(found) == [], found)
    owned = pod({"meshtrace.io/inject": "true"}, {"pod-template-hash": "abc"}, container=http)
    owned["metadata"]["ownerReferences"] = [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "weather-abc", "uid": "1", "controller": True}]
    status, found, _ = cluster.create("plain", owned)
    env = {e["name"]: e.get("value") for c in found["spec"]["initContainers"] for e in c.get("env", [])}
    check("policy: the workload's name", env.get("OTEL_SERVICE_NAME") == "weather" and
          "k8s.deployment.name=weather" in env.get("OTEL_RESOURCE_ATTRIBUTES", ""), env)
    guaranteed = pod(YES, container={**http, "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}})
    status, found, _ = cluster.create("plain", guaranteed)
    check("policy: a Guaranteed pod stays one", found.get("status", {}).get("qosClass") == "Guaranteed", found.get("status"))
    other = pod({**YES, "meshtrace.io/capture": "none"}, container=http)
    check("policy: an option that it does not know keeps the pod out", inits(cluster.create("plain", other)[1]) == [])
    taken = pod(YES, container={**http, "ports": [{"containerPort": 14020}]})
    check("policy: a taken port keeps the pod out", inits(cluster.create("plain", taken)[1]) == [])
    user = pod(YES, container={**http, "securityContext": {"runAsUser": 14100}})
    check("policy: a taken user keeps the pod out", inits(cluster.create("plain", user)[1]) == [])


def main():
    if not (APISERVER and ETCD):
        print("apiserver: skipped: MESHTRACE_TEST_APISERVER and MESHTRACE_TEST_ETCD name no binaries")
        return 0
    if ACCOUNT.exists() and any(ACCOUNT.iterdir()) and not os.environ.get("MESHTRACE_TEST_OVERWRITE"):
        print(f"apiserver: skipped: {ACCOUNT} is in use; MESHTRACE_TEST_OVERWRITE=1 overwrites it")
        return 0
    folder = Path(tempfile.mkdtemp(prefix="meshtrace-apiserver-"))
    print(subprocess.run([APISERVER, "--version"], check=True, capture_output=True, text=True).stdout.strip())
    cluster = None
    try:
        cluster = Cluster(folder)
        namespaces(cluster)
        through_the_webhook(cluster, folder)
        through_the_policy(cluster)
    finally:
        if cluster:
            cluster.stop()
        shutil.rmtree(ACCOUNT, ignore_errors=True)
        if not results["failed"] and not os.environ.get("KEEP"):
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"logs are in {folder}")
    print(f"apiserver: {results['passed']} passed, {results['failed']} failed")
    return 1 if results["failed"] or not results["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
