"""Where each call hangs, against where it belongs."""

from collections import Counter

from . import cells

EXACT = "exact"  # hangs where it belongs, and says that this is proved
INFERRED = "inferred"  # hangs where it belongs, and says that this is a guess
LINKED = "linked"  # hangs nowhere, and links to where it belongs because of what it holds
AMBIGUOUS = "ambiguous"  # hangs nowhere, and says so
OWN = "own"  # hangs in a trace that the agent's own SDK began
MISSING = "missing"  # hangs nowhere, although nothing says why
MISLED = "misled"  # hangs elsewhere, but says that this is a guess
WRONG = "wrong"  # hangs elsewhere, and says that this is proved
COLUMNS = (EXACT, INFERRED, LINKED, AMBIGUOUS, OWN, MISSING, MISLED, WRONG)


def by_headers(made, calls, shim):
    """Without sidecars: what arrives must be what that very request brought.

    `shim` says whether the shim's mark has to be on it.
    """
    found = {}
    for call in calls:
        request, context = made[call.n], call.context()
        parent = context.get("traceparent")
        if parent is None:
            verdict = MISSING
        elif parent != request.traceparent:
            verdict = WRONG
        else:
            verdict = EXACT
            member = f"mt={request.span}"
            if shim and f"{member};s" not in context.get("tracestate", "").split(","):
                # `_meta` that the library writes by itself has no mark and needs none.
                verdict = EXACT if call.meta.get("traceparent") == parent else MISSING
        found.setdefault(call.kind, Counter())[verdict] += 1
    return found


def by_spans(made, calls, spans, service):
    """With sidecars: the CLIENT span of each call, followed up to a SERVER span.

    Spans of the agent's own may stand between the two.
    """
    known = {(span.trace, span.id): span for span in spans}
    by_id = {span.id: span for span in spans if span.service == service}
    served = {}
    for span in spans:
        if span.service == service and span.kind == "SERVER":
            served.setdefault(span.trace, []).append(span)
    found, conflicts = {}, Counter()
    for call in calls:
        context = call.context()
        client = by_id.get(context.get("traceparent", "")[36:52])
        truths = served.get(made[call.n].trace, [])
        verdict = verdict_of(client, truths, known)
        found.setdefault(call.kind, Counter())[verdict] += 1
        if client is not None and client.attributes.get("meshtrace.parent.conflict"):
            conflicts[(call.kind, verdict)] += 1
    return found, conflicts


def verdict_of(client, truths, known):
    """The verdict on one CLIENT span."""
    if client is None:
        return MISSING
    exact = client.attributes.get("meshtrace.parent.exact") is True
    if not client.parent:
        method = client.attributes.get("meshtrace.parent.method")
        if method == "inferred.unique_value" and not exact:
            right = {(span.trace, span.id) for span in truths}
            return LINKED if right.intersection(client.links) else MISLED
        return AMBIGUOUS if method in ("ambiguous", "background") and not exact else MISSING
    above = client
    for _ in range(20):
        below, above = above, known.get((above.trace, above.parent))
        if above is None or above.service == client.service:
            break
    if above is not None and above in truths:
        return EXACT if exact else INFERRED
    if above is None and below is not client and not below.parent:
        return OWN
    return WRONG if exact else MISLED


def orphans(made, spans):
    """Complaints about spans that hang under nothing, or that exist twice."""
    known = {(span.trace, span.id) for span in spans}
    callers = {(request.trace, request.span) for request in made}
    lost = [
        span.brief()
        for span in spans
        if span.parent and (span.trace, span.parent) not in known and (span.trace, span.parent) not in callers
    ]
    said = [f"{len(lost)} spans hang under nothing, such as {lost[0]}"] if lost else []
    return said + (["spans exist twice"] if len(known) != len(spans) else [])


def mixed_up(found, conflicts, kind):
    """How many calls of a kind hang elsewhere, and how many of those are said to be doubtful."""
    counts = found.get(kind, Counter())
    return counts[MISLED] + counts[WRONG], conflicts[(kind, MISLED)]


def complaints(cell, found, conflicts, made, shim, direct=False):
    """What of a cell's outcome is not as it must be. Without sidecars nobody claims anything."""
    said = []
    for kind, expected in cell.kinds.items():
        counts = found.get(kind, Counter())
        total = sum(counts.values())
        wanted = cells.made(kind, len(made))
        if total != wanted:
            said.append(f"{kind}: {total} calls arrived, {wanted} were made")
        if counts[WRONG] and not expected.listed and (shim or not direct):
            said.append(f"{kind}: {counts[WRONG]} wrong parents that claim to be proved")
        elsewhere, flagged = mixed_up(found, conflicts, kind)
        if shim and not direct and flagged < expected.flagged * elsewhere:
            said.append(f"{kind}: {flagged} of {elsewhere} mixed up calls are said to be doubtful")
        must = expected.shim if shim else expected.bare and not direct
        if must and counts[EXACT] != total:
            said.append(f"{kind}: {counts[EXACT]} of {total} exact: {dict(counts)}")
    return said
