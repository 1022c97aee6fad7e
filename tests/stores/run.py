"""Real stores behind the sidecar: Redis, PostgreSQL and MariaDB, called by their own clients from a captured pod.

None of it is HTTP: each connection has to pass as if nobody stood between, once found out by who speaks first, once on ports
that are never looked into. The servers run outside of the pod, a network namespace of its own.
"""

import glob
import hashlib
import http.server
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

BINARY = os.environ.get("MESHTRACE_BIN", "target/release/meshtrace")
SPACE = f"mt-stores-{os.getpid()}"
NODE, POD = {4: "10.215.77.1", 6: "fd00:215:77::1"}, {4: "10.215.77.2", 6: "fd00:215:77::2"}
REDIS, POSTGRES, MARIADB, HTTP, NOBODY = 16_379, 15_432, 13_306, 18_080, 65_534
AGENT = 1000
results = {"passed": 0, "failed": 0}


def check(what, good, detail=""):
    results["passed" if good else "failed"] += 1
    print(f"{'ok  ' if good else 'FAIL'} {what}" + ("" if good else f": {detail}"), flush=True)


def run(*command, text=None, timeout=60):
    done = subprocess.run([str(part) for part in command], input=text, capture_output=True, timeout=timeout, check=False)
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def must(*command, **more):
    code, out, err = run(*command, **more)
    if code != 0:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{out}{err}")
    return out


def in_pod(*command, **more):
    """As a process of the agent, whose connections are captured."""
    user = ["setpriv", f"--reuid={AGENT}", f"--regid={AGENT}", "--clear-groups"]
    return run("ip", "netns", "exec", SPACE, *user, *command, **more)


def network():
    must("ip", "netns", "add", SPACE)
    must("ip", "link", "add", "mtstores0", "type", "veth", "peer", "name", "mtstores1", "netns", SPACE)
    for where, link, addresses in [([], "mtstores0", NODE), (["-n", SPACE], "mtstores1", POD)]:
        must("ip", *where, "address", "add", f"{addresses[4]}/24", "dev", link)
        must("ip", *where, "address", "add", f"{addresses[6]}/64", "dev", link, "nodad")
        must("ip", *where, "link", "set", link, "up")
    must("ip", "-n", SPACE, "link", "set", "lo", "up")


class Servers:
    """Each in a folder of its own, as a user without rights."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []

    def start(self, name, command, user=NOBODY):
        log = open(self.folder / f"{name}.log", "w", encoding="utf-8")
        prefix = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        process = subprocess.Popen([*prefix, *map(str, command)], stdout=log, stderr=log, cwd=self.folder)
        self.processes.append(process)
        return process

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()

    def redis(self):
        self.start("redis", ["redis-server", "--port", REDIS, "--bind", NODE[4], NODE[6], "--protected-mode", "no", "--save", ""])

    def postgres(self):
        programs = pathlib.Path(sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1])
        data = self.folder / "postgres"
        self.start("initdb", [programs / "initdb", "-D", data, "-A", "trust", "-U", "agent", "--no-sync"]).wait(60)
        with open(data / "pg_hba.conf", "a", encoding="utf-8") as rules:
            rules.write(f"host all all {POD[4]}/24 trust\nhost all all {POD[6]}/64 trust\n")
        self.start("postgres", [programs / "postgres", "-D", data, "-h", f"{NODE[4]},{NODE[6]}", "-p", POSTGRES, "-k", self.folder])

    def mariadb(self):
        data = self.folder / "mariadb"
        data.mkdir()
        shutil.chown(data, NOBODY, NOBODY)
        options = [f"--datadir={data}", f"--socket={self.folder}/mariadb.sock", f"--pid-file={self.folder}/mariadb.pid"]
        setup = ["mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", *options[:1]]
        self.start("mariadb-install-db", setup).wait(90)
        self.start("mariadb", ["mariadbd", "--no-defaults", *options, f"--port={MARIADB}", "--bind-address=*",
                               "--skip-grant-tables", "--skip-networking=0", "--max-allowed-packet=64M"])


class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        """Not one line for each request."""


def wait_until(what, condition, seconds=60):
    end = time.time() + seconds
    while time.time() < end:
        try:
            if condition():
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"{what}: not within {seconds} s")


def digest(data):
    return hashlib.sha256(data.encode()).hexdigest()


def stores(mode, family):
    """The same questions to each store, in a way that a broken byte or an end too early would show."""
    node, title = NODE[family], f"{mode}, IPv{family}"
    big = "0123456789abcdef" * 131_072

    redis = ["redis-cli", "-h", node, "-p", REDIS]
    code, out, err = in_pod(*redis, "PING")
    check(f"{title}: Redis answers", (code, out.strip()) == (0, "PONG"), out + err)
    in_pod(*redis, "-x", "SET", "big", text=big.encode())
    code, out, err = in_pod(*redis, "--raw", "GET", "big")
    check(f"{title}: Redis takes and gives 2 MiB", digest(out[:-1]) == digest(big), f"{len(out)} {err}")
    code, out, err = in_pod("redis-benchmark", "-h", node, "-p", REDIS, "-n", 20_000, "-c", 20, "-P", 16, "-t", "set,get", "--csv")
    check(f"{title}: Redis, 20 connections, pipelined", code == 0 and '"GET"' in out, out + err)

    psql = ["psql", "-X", "-At", "-h", node, "-p", POSTGRES, "-U", "agent", "postgres", "-c"]
    code, out, err = in_pod(*psql, "select 6 * 7")
    check(f"{title}: PostgreSQL answers", (code, out.strip()) == (0, "42"), out + err)
    code, out, err = in_pod(*psql, "copy (select i, md5(i::text) from generate_series(1, 100000) i) to stdout")
    last = f"100000\t{hashlib.md5(b'100000').hexdigest()}"
    check(f"{title}: PostgreSQL streams 100,000 rows", code == 0 and out.count("\n") == 100_000 and out.strip().endswith(last), err)

    mariadb = ["mariadb", "--no-defaults", "-h", node, "-P", MARIADB, "-u", "root", "--skip-ssl", "--max-allowed-packet=64M",
               "-N", "-B", "-e"]
    code, out, err = in_pod(*mariadb, "select 6 * 7")
    check(f"{title}: MariaDB, which speaks first, answers", (code, out.strip()) == (0, "42"), out + err)
    code, out, err = in_pod(*mariadb, "select repeat('0123456789abcdef', 131072)")
    check(f"{title}: MariaDB gives 2 MiB", digest(out[:-1]) == digest(big), f"{len(out)} {err}")

    start = time.monotonic()
    code, out, err = in_pod("redis-cli", "-h", node, "-p", 16_380, "PING")
    check(f"{title}: where nobody listens, the client hears it at once", code != 0 and time.monotonic() - start < 10, out + err)


def metric(name):
    code, out, err = in_pod(sys.executable, "-c",
                            "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:14020/metrics').read().decode())")
    assert code == 0, err
    return sum(float(line.rsplit(" ", 1)[1]) for line in out.splitlines() if line.startswith(name))


def with_sidecar(servers, mode, flags):
    sidecar = servers.start(f"sidecar-{mode}", [
        "ip", "netns", "exec", SPACE, BINARY, "proxy", "--capture", "--skip-outbound-ports", "none", "--workers", "2", *flags],
        user=None)
    wait_until("the sidecar", lambda: in_pod("redis-cli", "-h", NODE[4], "-p", REDIS, "PING")[1].strip() == "PONG"
               and metric("meshtrace_connections_total") > 0)
    for family in (4, 6):
        stores(mode, family)
    through = metric("meshtrace_connections_total")
    check(f"{mode}: every connection came through the sidecar", through >= 2 * (1 + 1 + 1 + 40 + 4), through)
    check(f"{mode}: none was taken for HTTP", metric("meshtrace_parent_total") == 0, metric("meshtrace_parent_total"))
    in_pod(sys.executable, "-c", f"import urllib.request; urllib.request.urlopen('http://{NODE[4]}:{HTTP}/').read()")
    check(f"{mode}: what is HTTP beside them was", metric("meshtrace_parent_total") == 1, metric("meshtrace_parent_total"))
    sidecar.terminate()
    check(f"{mode}: SIGTERM ends it with 0", sidecar.wait(30) == 0, sidecar.returncode)


def main():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="meshtrace-stores-"))
    folder.chmod(0o777)
    servers = Servers(folder)
    try:
        network()
        servers.redis()
        servers.postgres()
        servers.mariadb()
        local = ["mariadb", "--no-defaults", f"--socket={folder}/mariadb.sock", "-u", "root", "-e", "select 1"]
        wait_until("MariaDB", lambda: run(*local)[0] == 0)
        wait_until("PostgreSQL", lambda: run("psql", "-X", "-h", folder, "-p", POSTGRES, "-U", "agent", "postgres", "-c", "select 1")[0] == 0)
        web = http.server.ThreadingHTTPServer((NODE[4], HTTP), Web)
        threading.Thread(target=web.serve_forever, daemon=True).start()
        with_sidecar(servers, "detected", [])
        with_sidecar(servers, "opaque", ["--opaque-ports", f"{REDIS},{POSTGRES},{MARIADB}"])
    finally:
        servers.stop()
        run("ip", "netns", "delete", SPACE)
        run("ip", "link", "delete", "mtstores0")
        if results["failed"] or not results["passed"]:
            print(f"logs are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"stores: {results['passed']} passed, {results['failed']} failed")
    return 1 if results["failed"] or not results["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
