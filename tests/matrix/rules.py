"""Does the shim keep its word, on every Python and Node that is installed?

    rules.py

It hands the three names on with its mark; it leaves alone what the program sets by itself;
it installs no signal handler, no hook for exits or errors, and starts nothing; what fails in
it steps aside for the original; one variable switches it off. Run it as `run.py`; exit code
1 says that it broke one of these.
"""

import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "peers"))

from matrix import agents  # noqa: E402

PARENT = ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]
STATE, BAGGAGE = ["mt=b7ad6b7169203331;s,a=1"], ["b=2"]
OWN = [["00-1af7651916cd43dd8448eb211c80319c-c7ad6b7169203332-01"], ["c=3"], ["d=4"]]
NOTHING = [None, None, None]
# What the agent's calls hold without the shim, and with it.
BARE = {
    "plain": NOTHING,
    "own": OWN,
    "own-baggage": [None, None, OWN[2]],
    "broken-request": NOTHING,
}
FOLLOWED = {
    "plain": [PARENT, STATE, BAGGAGE],
    "own": OWN,
    "own-baggage": [PARENT, STATE, OWN[2]],
    "broken-request": NOTHING,
}
# On Python the call carries nothing of its own, on Node a context.
BROKEN = {"python": NOTHING, "node": OWN}


def runtimes():
    """Every runtime that is installed: its kind, its name, and the program."""
    for part in sorted(agents.INSTALLED.glob("web*")):
        yield "python", part.name.replace("web", "python "), [str(part / "bin" / "python"), str(HERE / "rules" / "agent.py")]
    for part in sorted(agents.INSTALLED.glob("node*")):
        yield "node", part.name.replace("node", "node "), [str(part / "bin" / "node"), str(HERE / "rules" / "agent.cjs")]


def facts(words, variables):
    """What the agent says of itself."""
    clean = {name: text for name, text in os.environ.items() if name not in ("PYTHONPATH", "NODE_OPTIONS")}
    ran = subprocess.run(words, env={**clean, **variables}, capture_output=True, text=True, timeout=120)
    if ran.returncode != 0:
        return {}, [f"ended with {ran.returncode}: {ran.stderr[-600:]}"]
    return json.loads(ran.stdout), [f"said {ran.stderr[-300:]!r}"] if ran.stderr else []


def broken(kind, words, variables):
    """The promises that one runtime sees broken."""
    bare, said = facts(words, {})
    for name, more, wanted in (
        ("without the shim", {}, BARE),
        ("with the shim", variables, FOLLOWED),
        ("switched off", {**variables, "MESHTRACE_SHIM": "off"}, BARE),
    ):
        found, failed = facts(words, more)
        said += [f"{name}: {line}" for line in failed]
        for what, value in {**wanted, "broken-call": BROKEN[kind], "installed": bare.get("installed")}.items():
            if found.get(what) != value:
                said.append(f"{name}: {what}: {found.get(what)} instead of {value}")
    return said


def main():
    """Runs all; returns the exit code."""
    binary = os.environ.get("MESHTRACE_BIN", "")
    if not os.access(binary, os.X_OK):
        print(f"MESHTRACE_BIN is no program: {binary!r}", file=sys.stderr)
        return 2
    variables = agents.Run(binary, True, 0).variables
    failed = total = 0
    for kind, name, words in runtimes():
        said = broken(kind, words, variables)
        print(f"{'FAILED' if said else 'passed'}  {name}", flush=True)
        for line in said:
            print(f"    {line}")
        failed += bool(said)
        total += 1
    return 1 if failed or not total else 0


if __name__ == "__main__":
    sys.exit(main())
