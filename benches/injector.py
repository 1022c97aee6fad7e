"""How long the injector takes to answer a review, over TLS on kept connections as an API server has them.

    benches/injector.py [reviews] [connections]

Prints the median and the 99th percentile as the caller sees them, and the CPU that the injector used for each review, beside those of a review of the same size about a pod for
which nobody asked. That one is read and answered too, so the difference is what the change and its patch cost.
"""

import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

BINARY = os.environ.get("MESHTRACE_BIN", "target/release/meshtrace")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def review(annotations):
    container = {
        "name": "agent", "image": "weather:1.2", "ports": [{"name": "http", "containerPort": 8080}],
        "env": [{"name": f"VARIABLE_{index}", "value": "x" * 40} for index in range(40)],
        "livenessProbe": {"tcpSocket": {"port": "http"}}, "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
    }
    pod = {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "weather-", "annotations": annotations},
        "spec": {"containers": [dict(container, name=f"agent-{index}") for index in range(3)]},
    }
    request = {"uid": "0", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE", "object": pod}
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


def measure(port, context, path, body, count, times):
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _ in range(count):
        start = time.perf_counter()
        connection.request("POST", path, body)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status}")
        times.append(time.perf_counter() - start)


def cpu(process):
    """Seconds of CPU that it has used, which other processes do not add to."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentiles(process, port, context, path, body, reviews, connections):
    times, before = [], cpu(process)
    work = [threading.Thread(target=measure, args=(port, context, path, body, reviews // connections, times))
            for _ in range(connections)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    times.sort()
    used = (cpu(process) - before) / len(times)
    return times[len(times) // 2] * 1e3, times[len(times) * 99 // 100] * 1e3, used * 1e3


def main():
    reviews = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    connections = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = Path(folder, "tls.crt"), Path(folder, "tls.key")
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x"]
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        port, admin = free_port(), free_port()
        injector = subprocess.Popen([
            BINARY, "injector", "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}",
            "--certificate", certificate, "--key", key], env={"OTEL_LOG_LEVEL": "warn"})
        try:
            for _ in range(100):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{admin}/ready", timeout=1)
                    break
                except OSError:
                    time.sleep(0.1)
            context = ssl._create_unverified_context()
            body = review({"meshtrace.io/inject": "true"})
            unasked = review({"example.com/inject_": "true"})
            path = "/inject/pod/open"
            percentiles(injector, port, context, path, body, 200, connections)
            # In turns, so that what else the machine does falls on both.
            rounds = [[percentiles(injector, port, context, path, which, reviews, connections) for which in (unasked, body)]
                      for _ in range(3)]
            print(f"{reviews} reviews of {len(body)} bytes on {connections} connection(s), 3 rounds, load {os.getloadavg()[0]:.1f}")
            for base, asked in rounds:
                print(", ".join(f"{what}: p50 {p50:.2f} ms p99 {p99:.2f} ms CPU {used:.2f} ms"
                                for what, (p50, p99, used) in (("nobody asked", base), ("injected", asked))))
        finally:
            injector.terminate()
            injector.wait(20)


main()
