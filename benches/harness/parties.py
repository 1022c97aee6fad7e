"""Who takes part: the reference proxies, meshtrace in each of its settings, the upstream, the
sink and the load generator."""

import json
import subprocess
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import machine

BENCHES = Path(__file__).resolve().parent.parent
# Name of a reference: its program, its further flags.
REFERENCES = {
    "hyper-raw": ("hyper-raw", []),
    "hyper-nopool": ("hyper-nopool", []),
    "hyper, names kept": ("hyper-nopool", ["--keep-case"]),
}

KEEP_CONFIG = "sampling:\n  keep: { errors: true, slower_than: 500ms }\n"
ALWAYS = {"OTEL_TRACES_SAMPLER": "parentbased_always_on"}
ONE_PERCENT = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"}
# Name of a setting: its environment, its further flags.
SETTINGS = {
    "meshtrace": (ALWAYS, []),
    "meshtrace 1 %": (ONE_PERCENT, []),
    "meshtrace 1 %, keep": (ONE_PERCENT, ["--config", "KEEP"]),
    "meshtrace 1 %, keep, notices": (ONE_PERCENT, ["--config", "KEEP", "--admin", "127.0.0.1:0"]),
    "meshtrace, 2 workers": (ALWAYS, ["--workers", "2"]),
    "meshtrace outbound": (ALWAYS, ["--outbound"]),
    "meshtrace outbound 1 %, keep": (ONE_PERCENT, ["--outbound", "--config", "KEEP"]),
}


def build(target_dir=None):
    """Builds the programs of `load/` and returns the directory they are in."""
    command = ["cargo", "build", "--release", "--locked", "--manifest-path", BENCHES / "load/Cargo.toml"]
    target = Path(target_dir) if target_dir else BENCHES / "load/target"
    subprocess.run([*command, "--target-dir", target], check=True)
    return target / "release"


@dataclass
class Bench:
    """One run's fixed parties, and the proxies as they are asked for."""

    programs: Path
    meshtrace: Path
    scratch: Path
    upstream_port: int = 0
    sink_port: int = 0

    @contextmanager
    def parties(self):
        """Starts the upstream and the sink for the length of the block."""
        self.upstream_port, self.sink_port = machine.free_port(), machine.free_port()
        with self.helper("upstream", self.upstream_port) as self.upstream:
            with self.helper("sink", self.sink_port) as self.sink:
                yield self

    @contextmanager
    def another_upstream(self):
        """A second upstream, which proxies started inside the block lead to."""
        first = self.upstream_port
        self.upstream_port = machine.free_port()
        try:
            with self.helper("upstream", self.upstream_port) as upstream:
                yield self.upstream_port
        finally:
            self.upstream_port = first

    def helper(self, name, port):
        command = [self.programs / name, "--listen", f"127.0.0.1:{port}"]
        return machine.Process(command, machine.OTHER_CPU, port=port, log=self.scratch / f"{name}.log")

    def proxy(self, name, wrap=(), further=None, patience=10.0):
        """Starts a proxy pinned to its CPU. `wrap` comes before its command line, and `further`
        is added to its environment."""
        port = machine.free_port()
        command, env = self.command(name, port)
        env |= further or {}
        log = self.scratch / (name.replace(" ", "-").replace("%", "pct") + ".log")
        process = machine.Process(
            [*wrap, *command], machine.PROXY_CPU, env, port, patience=patience, log=log
        )
        process.name, process.port = name, port
        return process

    def command(self, name, port):
        """The command line and the environment of a proxy on `port`."""
        upstream = f"127.0.0.1:{self.upstream_port}"
        plain = ["--listen", f"127.0.0.1:{port}", "--upstream", upstream]
        if name in REFERENCES:
            program, flags = REFERENCES[name]
            return [self.programs / program, *plain, *flags], {}
        if self.meshtrace.name in REFERENCES:
            # A reference stands in, to see how much of a ratio is noise.
            return [self.meshtrace, *plain], {}
        env, flags = SETTINGS[name]
        way = ["--inbound", f"127.0.0.1:{port}={upstream}"]
        if "--outbound" in flags:
            way = ["--outbound", f"127.0.0.1:{port}=http://{upstream}"]
        flags = [str(self.keep_config()) if flag == "KEEP" else flag for flag in flags if flag != "--outbound"]
        workers = [] if "--workers" in flags else ["--workers", "1"]
        admin = [] if "--admin" in flags else ["--admin", "off"]
        export = {
            "OTEL_SERVICE_NAME": "bench",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.sink_port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }
        command = [self.meshtrace, "proxy", *way, *admin, *workers, *flags]
        return command, env | export

    def keep_config(self):
        path = self.scratch / "keep.yaml"
        path.write_text(KEEP_CONFIG)
        return path

    def ask_upstream(self, what="stats", port=None):
        """Asks an upstream at its control path; see `load/src/bin/upstream.rs`."""
        return fetch(f"http://127.0.0.1:{port or self.upstream_port}/ctl/{what}")

    def spans(self):
        """What the sink has counted since it started."""
        return fetch(f"http://127.0.0.1:{self.sink_port}/count")

    @contextmanager
    def awake(self):
        """Keeps both CPUs from sleeping for the length of the block: a virtual one takes longer to wake up than a
        proxy takes for a request, and not each time as long."""
        command = [self.programs / "load", "awake"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with ExitStack() as stack:
            for cpu in {machine.OTHER_CPU, machine.PROXY_CPU}:
                spinner = Load(command, cpu, log=self.scratch / "load.log", idle=True, **pipes)
                stack.enter_context(spinner).expect("READY")
            yield

    def load(self, mode, port, **options):
        """Starts the load generator and returns when it is connected and warm."""
        command = [self.programs / "load", mode, "--target", f"127.0.0.1:{port}"]
        for key, value in options.items():
            command.append(f"--{key}")
            if value is not True:
                command.append(str(value))
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        load = Load(command, machine.OTHER_CPU, log=self.scratch / "load.log", **pipes)
        load.expect("READY")
        return load


class Load(machine.Process):
    """A load generator, which speaks in lines."""

    def expect(self, word):
        line = self.child.stdout.readline().strip()
        if line != word:
            said = Path(self.log).read_text(errors="replace")[-500:]
            raise RuntimeError(f"load said {line!r}, not {word!r}: {said}")

    def ask(self):
        """Sends one line and returns the JSON that answers it."""
        self.child.stdin.write("\n")
        self.child.stdin.flush()
        line = self.child.stdout.readline()
        if not line:
            raise RuntimeError(f"load left: {Path(self.log).read_text(errors='replace')[-500:]}")
        return json.loads(line)


def fetch(url):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=120) as answer:
        return json.load(answer)
