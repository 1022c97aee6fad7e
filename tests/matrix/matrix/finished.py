"""What earlier starts of the same run came to, so that an interrupted one goes on where it was.

One line of JSON for each cell that ran, passed or failed. A later start takes a
line only where everything that decides the outcome is the same: the program, the
harness with its agents, the pins of the cell's packages, the seed, and the count.
A failure stays one: nothing is tried again until it passes.
"""

import hashlib
import json
import pathlib
import time
from collections import Counter

from . import agents

HERE = pathlib.Path(__file__).resolve().parent.parent


def digest(*paths):
    """One digest of some files, by name and content."""
    whole = hashlib.sha256()
    for path in sorted(paths):
        whole.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()[:16]


class Finished:
    """The outcomes in one file; without a file nothing is kept."""

    def __init__(self, path, run):
        self.path = pathlib.Path(path) if path else None
        sources = [*HERE.glob("matrix/*.py"), *HERE.glob("python/*.py"), *HERE.glob("node/*.[cm]js")]
        self.same = [digest(pathlib.Path(run.binary)), digest(*sources), run.seed, run.direct]
        self.known = {}
        self.reused = 0
        if self.path and self.path.exists():
            for line in self.path.read_text().splitlines():
                held = json.loads(line)
                self.known[json.dumps(held["of"])] = held

    def take(self, cell, shim, count):
        """The outcome of this very cell, or None."""
        held = self.known.get(json.dumps(self._of(cell, shim, count)))
        if held is None:
            return None
        self.reused += 1
        found = {kind: Counter(counts) for kind, counts in held["found"].items()}
        conflicts = Counter({(kind, verdict): many for kind, verdict, many in held["conflicts"]})
        return agents.Outcome(found, held["complaints"], conflicts)

    def keep(self, cell, shim, count, outcome):
        """Writes one down."""
        if not self.path:
            return
        line = {
            "of": self._of(cell, shim, count),
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "found": outcome.found,
            "complaints": outcome.complaints,
            "conflicts": [[*key, many] for key, many in outcome.conflicts.items()],
        }
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _of(self, cell, shim, count):
        pins = digest(agents.INSTALLED / cell.runtime / ".installed")
        return [*self.same, pins, cell.name, shim, count]
