"""What an API server makes of the application's containers: the shim, and what the sidecar is told by annotation."""

import json
import subprocess

SHIM = "/meshtrace-shim"
HTTP = {"livenessProbe": {"httpGet": {"path": "/", "port": "http"}}}
YES = {"meshtrace.io/inject": "true"}
KEY = {"configMapKeyRef": {"name": "c", "key": "k"}}


def named(items, name):
    return next((item for item in items if item["name"] == name), {})


def values(container):
    return {variable["name"]: variable.get("value") for variable in container.get("env", [])}


def mounts(container):
    return [(mount["mountPath"], mount.get("readOnly", False)) for mount in container.get("volumeMounts", [])]


def undone(meshtrace, found):
    """The pod as `meshtrace inject --undo` gives it back."""
    manifest = json.dumps({"apiVersion": "v1", "kind": "Pod", **found})
    command = [meshtrace, "inject", "--undo", "-f", "-"]
    return subprocess.run(command, input=manifest, check=True, capture_output=True, text=True).stdout


class Application:
    """Asks one API server, through the webhook or through the policy."""

    def __init__(self, word, cluster, pod, check, meshtrace):
        self.word, self.cluster, self.pod, self.check, self.meshtrace = word, cluster, pod, check, meshtrace

    def create(self, annotations=None, spec=None, **container):
        made = self.pod({**YES, **(annotations or {})}, container={**HTTP, **container}, **(spec or {}))
        return self.cluster.create("plain", made)

    def expect(self, what, good, found):
        self.check(f"{self.word}: {what}", good, json.dumps(found)[:3000])

    def shim(self):
        status, found, _ = self.create()
        agent = found["spec"]["containers"][0]
        sidecar = named(found["spec"]["initContainers"], "meshtrace")
        volume = named(found["spec"].get("volumes", []), "meshtrace-shim")
        self.expect("the shim's volume", status == 201 and volume.get("emptyDir", {}).get("sizeLimit") == "1Mi", found)
        self.expect("the agent reads it", mounts(agent) == [(SHIM, True)], found)
        self.expect("the sidecar writes it", mounts(sidecar) == [(SHIM, False)]
                    and f"--install-shim={SHIM}" in sidecar["args"], found)
        self.expect("the variables", values(agent) == {
            "PYTHONPATH": SHIM, "NODE_OPTIONS": f"--require {SHIM}/meshtrace.cjs"}, found)
        self.expect("undo takes all of it", "meshtrace-shim" not in undone(self.meshtrace, found), found)

        _, found, _ = self.create({"meshtrace.io/propagation": "off"})
        self.expect("propagation off: the sidecar without the shim", "--install-shim" not in str(found["spec"])
                    and "meshtrace-shim" not in str(found["spec"]) and len(found["spec"]["initContainers"]) == 2, found)

        second = {"name": "second", "image": "b", "env": [{"name": "MCP_MESH_REGISTRY_URL", "value": "http://r"}]}
        status, found, _ = self.cluster.create("plain", self.with_second(second))
        agent, second = found["spec"]["containers"]
        self.expect("an agent on MCP Mesh is told what to hand on", status == 201 and values(second).get(
            "MCP_MESH_PROPAGATE_HEADERS") == "traceparent,tracestate,baggage" and mounts(second) == [(SHIM, True)], found)
        self.expect("and no other one is", "MCP_MESH_PROPAGATE_HEADERS" not in values(agent), found)

        status, found, warnings = self.create(
            env=[{"name": "PYTHONPATH", "valueFrom": KEY}], envFrom=[{"prefix": "NODE_", "configMapRef": {"name": "c"}}])
        agent = found["spec"]["containers"][0]
        self.expect("what comes from elsewhere is left alone", status == 201 and values(agent) == {"PYTHONPATH": None}, found)
        if self.word == "webhook":
            said = [text for text in warnings if "from elsewhere" in text]
            self.expect("and is a warning", len(said) == 2 and "NODE_OPTIONS" in str(said), warnings)

        status, found, _ = self.create(env=[{"name": "PYTHONPATH", "value": "/app"}])
        expect = f"{SHIM}:/app" if self.word == "webhook" else "/app"
        agent = found["spec"]["containers"][0]
        self.expect("what stands there is kept", status == 201 and values(agent)["PYTHONPATH"] == expect, found)
        self.expect("and given back", "value: /app\n" in undone(self.meshtrace, found), found)

        data = {"volumes": [{"name": "data", "emptyDir": {}}]}
        status, found, _ = self.create(spec=data, volumeMounts=[{"name": "data", "mountPath": SHIM}])
        agent = found["spec"]["containers"][0]
        self.expect("a taken path is left alone", status == 201 and len(found["spec"]["initContainers"]) == 2
                    and mounts(agent) == [(SHIM, False)] and not values(agent), found)

    def with_second(self, second):
        made = self.pod(YES, container=HTTP)
        made["spec"]["containers"].append(second)
        return made

    def origination(self):
        annotation = {"meshtrace.io/egress-tls-origination": "api.example.com, *.example.org:8443"}
        status, found, _ = self.create(annotation)
        sidecar = named(found["spec"].get("initContainers", []), "meshtrace")
        if self.word == "policy":
            self.expect("origination of TLS keeps the pod out", status == 201 and not sidecar, found)
            return
        told = values(sidecar).get("MESHTRACE_TLS_ORIGINATE")
        self.expect("origination of TLS", status == 201 and told == "api.example.com,*.example.org:8443", found)
