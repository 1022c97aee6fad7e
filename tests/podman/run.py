"""Runs a pod that `meshtrace inject` wrote, with podman in place of a kubelet, and looks for the traces that it makes.

podman 4 takes annotations for labels and refuses long ones, so the status is taken out. The agent copies no header; that its call hangs under its request shows that the shim came with the injection.
"""

import http.server
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import yaml

import kubelet

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "compose"))
import images  # noqa: E402  pylint: disable=wrong-import-position

WORK = pathlib.Path(sys.argv[1]).resolve()
BINARY = sys.argv[2]
SUBNET, GATEWAY, POD_IP = "10.214.77.0/24", "10.214.77.1", "10.214.77.5"
NETWORK = f"meshtrace-test-{os.getpid()}"
BACKEND, SINK = 14_801, 14_802
IMAGE, AGENT = "localhost/meshtrace-test/meshtrace:1", "localhost/meshtrace-test/agent:1"
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
results = {"passed": 0, "failed": 0}


def check(what, good, detail=""):
    results["passed" if good else "failed"] += 1
    print(f"{'ok  ' if good else 'FAIL'} {what}" + ("" if good else f": {detail}"), flush=True)


def podman(*arguments, quiet=False, timeout=120):
    command = ["podman", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode != 0 and not quiet:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def configure():
    """A store of its own, with settings that need no overlay, no systemd and no unified cgroups."""
    (WORK / "containers.conf").write_text(
        '[containers]\ndefault_ulimits = ["nofile=16384:16384","nproc=16384:16384"]\n'
        '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        f'[network]\nnetwork_config_dir = "{WORK}/networks"\n')
    (WORK / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{WORK}/root"\nrunroot = "/run/{NETWORK}"\n')
    os.environ["CONTAINERS_CONF"] = str(WORK / "containers.conf")
    os.environ["CONTAINERS_STORAGE_CONF"] = str(WORK / "storage.conf")


def make_images():
    root = images.Root(WORK / "agent")
    python = images.interpreter_of(root)
    root.program("/bin/cat", "/bin/cat")
    root.at("/app").mkdir()
    shutil.copy(HERE / "agent.py", root.at("/app/agent.py"))
    root.import_as(AGENT, "podman", "import", env=os.environ)
    # With its libraries, so that a binary will do that is not linked statically.
    sidecar = images.Root(WORK / "sidecar")
    sidecar.program(BINARY, "/meshtrace")
    changes = ["--change", 'ENTRYPOINT ["/meshtrace"]', "--change", "USER 14100:14100"]
    sidecar.import_as(IMAGE, "podman", "import", *changes, env=os.environ)
    return str(python)


class Backend(http.server.BaseHTTPRequestHandler):
    """Answers with the headers that it was sent."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Not one line for each request."""


def ask(url, headers=None):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=10) as answer:
        return json.loads(answer.read())


def wait_until(what, condition, seconds=60):
    end = time.time() + seconds
    while time.time() < end:
        try:
            if found := condition():
                return found
        except (OSError, urllib.error.URLError, ValueError):
            pass
        time.sleep(0.3)
    raise SystemExit(f"{what}: not within {seconds} s\n{logs()}")


def logs():
    names = podman("ps", "-a", "--format", "{{.Names}} {{.Status}}", quiet=True).splitlines()
    texts = [f"-- {name}\n" + podman("logs", "--tail", 15, name.split()[0], quiet=True) for name in names]
    return "\n".join(texts)


def injected(name, capture, python):
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {
            # podman 4 knows no native sidecars, and would restart init containers for ever under another policy than Never.
            "name": name, "annotations": {"meshtrace.io/native-sidecar": "false"}},
        "spec": {"restartPolicy": "Never", "containers": [{
            "name": "agent", "image": AGENT, "command": [python, "/app/agent.py"],
            "env": [{"name": "BACKEND", "value": f"http://{GATEWAY}:{BACKEND}"}],
            "ports": [{"name": "http", "containerPort": 8080}],
            "securityContext": {"runAsUser": 1000},
        }]},
    }
    command = [BINARY, "inject", "-f", "-", "--image", IMAGE]
    for setting in (f"capture={capture}", f"otlp-endpoint=http://{GATEWAY}:{SINK}",
                    "propagators=tracecontext,baggage"):
        command += ["--set", setting]
    done = subprocess.run(command, input=json.dumps(pod), capture_output=True, text=True, check=True)
    print(done.stderr.strip(), flush=True)
    made = yaml.safe_load(done.stdout)
    kubelet.resolve(made, {
        "metadata.name": name, "metadata.namespace": "default", "metadata.uid": f"uid-{name}", "status.podIP": POD_IP,
        "status.podIPs": POD_IP, "status.hostIP": GATEWAY, "spec.nodeName": "here",
    })
    check(f"{capture}: injected", json.loads(made["metadata"]["annotations"].pop("meshtrace.io/status"))["capture"] == capture)
    path = WORK / f"{name}.yaml"
    path.write_text(yaml.safe_dump(made))
    return path


def try_mode(capture, port, python):
    name = f"{capture}-agent"
    path = injected(name, capture, python)
    podman("play", "kube", "--network", NETWORK, "--ip", POD_IP, path)
    url = f"http://{POD_IP}:{port}"
    wait_until(f"{capture}: the agent", lambda: ask(f"{url}/warm-up"))
    said = ask(f"{url}/weather", {"traceparent": f"00-{TRACE}-{CALLER}-01", "baggage": "tenant=blue"})

    def spans():
        mine = [span for span in ask(f"http://127.0.0.1:{SINK}/spans")
                if span["trace_id"] == TRACE and span["service"] == name]
        return mine if len(mine) >= 2 else None

    spans = wait_until(f"{capture}: the spans", spans)
    server = [span for span in spans if span["kind"] == "SERVER"]
    client = [span for span in spans if span["kind"] == "CLIENT"]
    check(f"{capture}: one span in, one span out", (len(server), len(client)) == (1, 1), spans)
    server, client = server[0], client[0]
    check(f"{capture}: the request hangs under its caller", server["parent_id"] == CALLER, server)
    check(f"{capture}: the call hangs under the request, by the shim", client["parent_id"] == server["span_id"]
          and client["attributes"].get("meshtrace.parent.method") == "propagated.shim"
          and client["attributes"].get("meshtrace.parent.exact") is True, client)
    check(f"{capture}: the backend got the call's context and the baggage",
          said.get("traceparent", "")[:52] == f"00-{TRACE}-{client['span_id']}" and "tenant=blue" in said.get("baggage", ""), said)
    check(f"{capture}: the resource is the pod", server["resource"].get("k8s.pod.name") == name
          and server["resource"].get("k8s.node.name") == "here", server["resource"])
    status = podman("exec", f"{name}-agent", "/bin/cat", "/proc/1/status")
    check(f"{capture}: the agent is its own user", "\nUid:\t1000\t" in status, status)
    pid = podman("inspect", "--format", "{{.State.Pid}}", f"{name}-meshtrace")
    status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    check(f"{capture}: the sidecar has no rights", "\nUid:\t14100\t" in status and "\nCapEff:\t0000000000000000" in status, status)
    podman("pod", "stop", "--time", 20, name)
    code = podman("inspect", "--format", "{{.State.ExitCode}}", f"{name}-meshtrace")
    check(f"{capture}: SIGTERM ends the sidecar with 0", code == "0", f"{code}\n{logs()}")
    podman("pod", "rm", "--force", name)
    podman("volume", "rm", "--force", "meshtrace-shim", quiet=True)


def obstacle():
    """Why no container at all can be started here; nothing where one can."""
    command = ["podman", "run", "--rm", "--network", "none", "--pull", "never", AGENT, "/bin/cat", "/proc/1/status"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return "" if done.returncode == 0 else f"{done.stdout}{done.stderr}".strip() or f"exit code {done.returncode}"


def main():
    configure()
    sink = None
    try:
        python = make_images()
        if reason := obstacle():
            print(f"podman: skipped: no container starts here: {reason}")
            return 1 if os.environ.get("MESHTRACE_TEST_PODMAN") == "required" else 0
        podman("network", "create", "--subnet", SUBNET, NETWORK)
        sink = subprocess.Popen([sys.executable, HERE.parent / "compose/sink.py", str(SINK)])
        backend = http.server.ThreadingHTTPServer(("", BACKEND), Backend)
        threading.Thread(target=backend.serve_forever, daemon=True).start()
        try_mode("redirect", 8080, python)
        try_mode("explicit", 14_030, python)
        errors = ask(f"http://127.0.0.1:{SINK}/errors")
        check("everything that was sent can be read", errors == [], errors)
    finally:
        if sink:
            sink.terminate()
        podman("pod", "rm", "--all", "--force", "--time", 1, quiet=True)
        podman("network", "rm", "--force", NETWORK, quiet=True)
        podman("rmi", "--all", "--force", quiet=True)
        shutil.rmtree(f"/run/{NETWORK}", ignore_errors=True)
    print(f"podman: {results['passed']} passed, {results['failed']} failed")
    return 1 if results["failed"] or not results["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
