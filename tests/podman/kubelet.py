"""What a kubelet does to a pod before it starts its containers, and podman 4 does not: fields become values, and `$(NAME)` in
arguments and variables becomes what the variable NAME holds.
"""

import re


def resolve(pod, fields):
    """Changes the pod in place. `fields` has a value for each field path of the downward API."""
    spec = pod["spec"]
    for container in spec.get("initContainers", []) + spec["containers"]:
        known = {}
        for variable in container.get("env", []):
            source = variable.pop("valueFrom", None)
            value = fields[source["fieldRef"]["fieldPath"]] if source else expand(variable.get("value", ""), known)
            known[variable["name"]] = variable["value"] = value
        for key in ("command", "args"):
            if key in container:
                container[key] = [expand(text, known) for text in container[key]]


def expand(text, known):
    """`$$` stands for one `$`; what names no variable stays."""
    def one(found):
        return "$" if found[0] == "$$" else known.get(found[1], found[0])

    return re.sub(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)", one, text)
