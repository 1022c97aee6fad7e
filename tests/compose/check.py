#!/usr/bin/env python3
"""The assertions of the compose test. Everything is up when this starts.

    check.py SINK_URL README [--restart SERVICE --project NAME] SIDECAR_CONTAINER...

Runs the curl of the README as it stands there, then the same call for a city that has no forecast, and compares the spans that
the stand-in collector at SINK_URL received; then looks at the rights of the sidecars' containers, and stops them. Prints a
line for each check; the last one is `N passed, N failed`. With `--restart` the container of that service is restarted in between, and
has to be traced as before; the containers that install rules may have NET_ADMIN, and have to have ended well.
"""

import argparse

import json
import pathlib
import re
import subprocess
import sys
import time
import urllib.request

PATIENCE_SECONDS = 30
# Compares equal to nothing, itself included, so that no check holds of a span that is not there.
NOWHERE = float("nan")
MISSING = {"span_id": NOWHERE, "parent_id": NOWHERE, "attributes": {}, "status": "missing", "start": NOWHERE, "end": NOWHERE}

passed = failed = 0


def check(what, holds, seen=""):
    global passed, failed
    if holds:
        passed += 1
        print(f"ok      {what}")
    else:
        failed += 1
        print(f"FAILED  {what}" + (f"\n        seen: {seen}" if seen != "" else ""))


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def curl_of(readme):
    block = re.search(r"^```sh\n(curl .*?)^```", readme.read_text(), re.S | re.M)
    if not block:
        sys.exit(f"check.py: no curl in {readme}")
    return block.group(1)


def call(command):
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    try:
        return json.loads(done.stdout)["result"]
    except (ValueError, KeyError):
        return {"content": [{"text": f"exit code {done.returncode}: {done.stdout}{done.stderr}"}], "isError": None}


def spans_of(sink, trace_id, complete):
    """The spans of a trace, once `complete` says that they are all there, or what there is when patience ends."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        spans = [s for s in get(f"{sink}/spans") if s["trace_id"] == trace_id]
        if complete(spans) or time.monotonic() > end:
            return spans
        time.sleep(0.2)


def tree(spans):
    """The spans as indented lines, for the reader of a failure."""
    ids = {s["span_id"] for s in spans}
    lines = []

    def show(span, depth):
        if depth < 20:
            lines.append(f"{'   ' * depth}{span['name']} {span['kind']} {span['service']} {span['status']} "
                         f"{span['span_id']} <- {span['parent_id'] or 'none'}")
            for child in spans:
                if child["parent_id"] == span["span_id"]:
                    show(child, depth + 1)

    for span in sorted(spans, key=lambda s: s["start"]):
        if span["parent_id"] not in ids:
            show(span, 0)
    return "\n              ".join(lines) or "no span"


def only(spans, service, kind, name):
    """The one span of that description, or an empty one."""
    found = [s for s in spans if (s["service"], s["kind"], s["name"]) == (service, kind, name)]
    check(f"one {kind} span {name!r} of {service}", len(found) == 1, tree(spans))
    return found[0] if len(found) == 1 else MISSING


def whole_call(spans):
    """The outermost span ends last; after it nothing of the same call is missing but what the other sidecar still batches."""
    names = [(s["service"], s["kind"], s["name"]) for s in spans]
    return {("research-agent", "SERVER", "tools/call plan_trip"), ("research-agent", "CLIENT", "tools/call get_forecast"),
            ("weather-agent", "SERVER", "tools/call get_forecast")} <= set(names)


def check_chain(spans, caller, status):
    """SERVER of the first agent, CLIENT of the first agent, SERVER of the second: each the parent of the next."""
    served = only(spans, "research-agent", "SERVER", "tools/call plan_trip")
    asked = only(spans, "research-agent", "CLIENT", "tools/call get_forecast")
    answered = only(spans, "weather-agent", "SERVER", "tools/call get_forecast")
    check("the caller's span is the parent of the first agent's", served["parent_id"] == caller, tree(spans))
    check("the first agent's SERVER span is the parent of its call", asked["parent_id"] == served["span_id"], tree(spans))
    check("that call is the parent of the second agent's SERVER span", answered["parent_id"] == asked["span_id"], tree(spans))
    for span, tool in ((served, "plan_trip"), (asked, "get_forecast"), (answered, "get_forecast")):
        seen = {key: span["attributes"].get(key) for key in ("mcp.method.name", "gen_ai.tool.name", "gen_ai.operation.name")}
        wanted = {"mcp.method.name": "tools/call", "gen_ai.tool.name": tool, "gen_ai.operation.name": "execute_tool"}
        check(f"its attributes name the tool {tool}", seen == wanted, seen)
        check(f"its status is {status}", span["status"] == status, span["status"])
    check("each span lies within its parent", served["start"] <= asked["start"] <= answered["start"]
          and answered["end"] <= asked["end"] <= served["end"], tree(spans))
    return served, asked, answered


def check_others(spans, caller):
    """Whatever else the SDKs sent belongs to the same call and hangs in the same tree."""
    by_id = {s["span_id"]: s for s in spans}
    check("the trace has four spans at least, each with an id of its own", 4 <= len(spans) == len(by_id), tree(spans))
    lost = [s["name"] for s in spans if s["parent_id"] != caller and s["parent_id"] not in by_id]
    check("every span's parent is in the trace", spans and not lost, f"{lost}\n              {tree(spans)}")
    pairs = [(s, by_id.get(s["parent_id"], {})) for s in spans if s["service"] == "weather-agent" and s["kind"] == "SERVER"]
    wrong = [s["name"] for s, parent in pairs if (parent.get("kind"), parent.get("name")) != ("CLIENT", s["name"])]
    check("every span of the second agent hangs below the first agent's call of the same name", pairs and not wrong, tree(spans))


def inspect(container):
    done = subprocess.run(["docker", "inspect", container], capture_output=True, text=True, timeout=60)
    return json.loads(done.stdout)[0]


def check_rights(container):
    seen = inspect(container)
    name, host = seen["Name"].lstrip("/"), seen["HostConfig"]
    rights = {
        "user": seen["Config"]["User"],
        "read-only root": host["ReadonlyRootfs"],
        "privileged": host["Privileged"],
        "capabilities": (host["CapAdd"] or [], host["CapDrop"]),
        "new privileges": "no-new-privileges:true" not in (host["SecurityOpt"] or []),
    }
    wanted = {"user": "14100:14100", "read-only root": True, "privileged": False, "capabilities": ([], ["ALL"]), "new privileges": False}
    check(f"{name} has no right that it does not need", rights == wanted, rights)
    check(f"{name} is healthy and was never restarted", (seen["State"]["Health"]["Status"], seen["RestartCount"]) == ("healthy", 0),
          (seen["State"], seen["RestartCount"]))


def check_stop(container):
    began = time.monotonic()
    subprocess.run(["docker", "stop", container], capture_output=True, timeout=60)
    seen = inspect(container)
    took = time.monotonic() - began
    check(f"{seen['Name'].lstrip('/')} ends by itself on SIGTERM, with exit code 0", seen["State"]["ExitCode"] == 0,
          f"exit code {seen['State']['ExitCode']} after {took:.1f} s")


def container_of(project, service):
    done = subprocess.run(["docker", "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={project}",
                           "--filter", f"label=com.docker.compose.service={service}"], capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


def check_rules(container):
    seen = inspect(container)
    host = seen["HostConfig"]
    rights = (host["CapAdd"], host["CapDrop"], host["Privileged"], host["ReadonlyRootfs"])
    allowed = (["NET_ADMIN"], ["CAP_NET_ADMIN"])
    check("the rules take NET_ADMIN and nothing else", rights[0] in allowed and rights[1:] == (["ALL"], False, True), rights)
    check("and are in place", seen["State"]["ExitCode"] == 0 and not seen["State"]["Running"], seen["State"])


def check_restart(sink, curl, trace_id, caller, container):
    """The agent comes back into the same network, whose rules are still there."""
    subprocess.run(["docker", "restart", container], capture_output=True, timeout=60)
    end = time.monotonic() + PATIENCE_SECONDS
    while inspect(container)["State"]["Health"]["Status"] != "healthy" and time.monotonic() < end:
        time.sleep(0.2)
    again = "b" * 32
    result = call(curl.replace(trace_id, again))
    check("the restarted agent answers", result["isError"] is False, result)
    spans = spans_of(sink, again, whole_call)
    check_chain(spans, caller, "UNSET")
    check_others(spans, caller)
    return again


def main():
    parser = argparse.ArgumentParser()
    for name in ("sink", "readme"):
        parser.add_argument(name)
    for name in ("--restart", "--project"):
        parser.add_argument(name)
    parser.add_argument("sidecars", nargs="+")
    args = parser.parse_args()
    sink, sidecars, curl = args.sink, args.sidecars, curl_of(pathlib.Path(args.readme))
    trace_id, caller = re.search(r"traceparent: 00-([0-9a-f]{32})-([0-9a-f]{16})-01", curl).groups()

    result = call(curl)
    check("the README's curl is answered", "umbrella" in result["content"][0]["text"] and result["isError"] is False, result)
    spans = spans_of(sink, trace_id, whole_call)
    print(f"\n        the trace: {tree(spans)}\n")
    check_chain(spans, caller, "UNSET")
    check_others(spans, caller)

    other = "a" * 32
    result = call(curl.replace(trace_id, other).replace("Paris", "Atlantis"))
    check("a city without forecast is the tool's error", result["isError"] is True, result)
    spans = spans_of(sink, other, whole_call)
    for span in check_chain(spans, caller, "ERROR"):
        check("its error.type is tool_error", span["attributes"].get("error.type") == "tool_error", span["attributes"])

    again = None
    if args.restart:
        for agent in ("research", "weather"):
            check_rules(container_of(args.project, f"{agent}-rules"))
        again = check_restart(sink, curl, trace_id, caller, container_of(args.project, args.restart))

    own = [s for s in get(f"{sink}/spans") if s["trace_id"] not in (trace_id, other, again)]
    roots = [s for s in own if s["name"] == "tools/call plan_trip" and not s["parent_id"]]
    check("the client's own call, made without any context, starts a trace", len(roots) == 1, tree(own))
    if roots:
        check("and reaches the second agent in the same trace", whole_call([s for s in own if s["trace_id"] == roots[0]["trace_id"]]), tree(own))
    for sidecar in sidecars:
        check_rights(sidecar)
    for sidecar in sidecars:
        check_stop(sidecar)
    errors = get(f"{sink}/errors")
    check("everything that arrived was decodable OTLP", not errors, errors)

    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
