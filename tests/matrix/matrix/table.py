"""The outcome as a table of Markdown."""

from collections import Counter
from dataclasses import dataclass

from .judge import COLUMNS, WRONG, mixed_up


@dataclass
class Row:
    """One cell, with or without the shim."""

    cell: object
    shim: bool
    outcome: object


@dataclass
class Skipped:
    """A cell that did not run."""

    cell: object
    reason: str


def skipped(cell, reason):
    """A row for what did not run."""
    return Skipped(cell, reason)


def text(rows):
    """All rows, the main cells in bold; kinds of one cell with the same outcome share a line."""
    lines = [
        "| agent | shim | calls | " + " | ".join(COLUMNS) + " |",
        "|---|---|---|" + "---|" * len(COLUMNS),
    ]
    for row in rows:
        if isinstance(row, Skipped):
            lines.append(f"| {row.cell.name} | *not run*: {row.reason} |" + " |" * (len(COLUMNS) + 1))
            continue
        shares = {}
        for kind, counts in row.outcome.found.items():
            lost = row.cell.kinds.get(kind)
            key = tuple(name for name in COLUMNS if counts[name])
            if lost is not None and not lost.shim:
                key = (kind,)
            shares.setdefault(key, []).append((kind, counts))
        for group in shares.values():
            total = sum((counts for _, counts in group), Counter())
            names = ", ".join(kind + flagged(row, kind) for kind, _ in group)
            cells = " | ".join(str(total[name] or "") for name in COLUMNS)
            name = f"**{row.cell.name}**" if row.cell.main else row.cell.name
            lines.append(f"| {name}: {names} | {'yes' if row.shim else 'no'} | {total.total()} | {cells} |")
    return "\n".join(lines)


def flagged(row, kind):
    """For the listed exception, how much of what it mixed up is said to be doubtful."""
    expected = row.cell.kinds.get(kind)
    if not (row.shim and expected and expected.listed):
        return ""
    elsewhere, doubtful = mixed_up(row.outcome.found, row.outcome.conflicts, kind)
    return f" ({doubtful} of {elsewhere} mixed up are flagged)"


def summary(rows):
    """The whole run in a line: each cell counts twice, without and with the shim."""
    ran = [row for row in rows if isinstance(row, Row)]
    failed = sum(bool(row.outcome.complaints) for row in ran)
    calls = wrong = listed = 0
    for row in ran:
        for kind, counts in row.outcome.found.items():
            expected = row.cell.kinds.get(kind)
            calls += counts.total()
            if expected and expected.listed:
                listed += counts[WRONG]
            else:
                wrong += counts[WRONG]
    cells = len({row.cell.name for row in ran})
    return (
        f"{cells} cells, {calls} calls: {len(ran) - failed} passed, {failed} failed, {len(rows) - len(ran)} not run; "
        f"{wrong} wrong parents claim to be proved, and {listed} in the listed exception"
    )
