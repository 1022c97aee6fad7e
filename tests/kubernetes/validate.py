"""Validates files against the strict schemas of every Kubernetes version that is supported, and counts."""

import sys

import kubernetes_validate
import yaml

VERSIONS = [f"1.{minor}" for minor in range(29, 38)]

# Kinds of other projects, and since when Kubernetes knows the kinds that are new.
FOREIGN = {"cert-manager.io/v1"}
SINCE = {"MutatingAdmissionPolicy": 36, "MutatingAdmissionPolicyBinding": 36}


def documents(path):
    with open(path, encoding="utf-8") as file:
        for document in yaml.safe_load_all(file):
            if document is None or document["apiVersion"] in FOREIGN:
                continue
            yield from document["items"] if document["kind"] == "List" else [document]


def main():
    passed = failed = 0
    for path in sys.argv[1:]:
        for document in documents(path):
            for version in VERSIONS:
                if int(version.split(".")[1]) < SINCE.get(document["kind"], 0):
                    continue
                try:
                    kubernetes_validate.validate(document, version, strict=True)
                    passed += 1
                except kubernetes_validate.ValidationError as error:
                    failed += 1
                    print(f"{path}: {document['kind']} for {version}: {'.'.join(map(str, error.path))}: {error.message}")
    # A validator that takes anything would pass all of the above.
    try:
        broken = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"contaners": []}}
        kubernetes_validate.validate(broken, "1.36", strict=True)
        failed += 1
        print("the validator takes a misspelt field")
    except kubernetes_validate.ValidationError:
        passed += 1
    print(f"schemas: {passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


sys.exit(main())
