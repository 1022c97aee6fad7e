#!/usr/bin/env bash
# A pod that `meshtrace inject` wrote, run by podman in both modes. Needs root; installs podman where it is missing (Debian).
#
# MESHTRACE_BIN  the binary, target/release/meshtrace by default
#
# Where this machine lets podman start no container at all the reason is printed and the suite skipped; with
# MESHTRACE_TEST_PODMAN=required that is a failure. The last line is `podman: N passed, N failed`.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=$(realpath "${MESHTRACE_BIN:-target/release/meshtrace}")
work=$PWD/target/podman

missing=""
for pair in podman:podman runc:runc conmon:conmon catatonit:catatonit iptables:iptables ip:iproute2; do
  command -v "${pair%%:*}" >/dev/null || [ -x "/usr/libexec/podman/${pair%%:*}" ] || missing="$missing ${pair##*:}"
done
[ -d /usr/lib/cni ] || missing="$missing containernetworking-plugins"
if [ -n "$missing" ]; then
  log=$(mktemp)
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086 # the list is split on purpose
  { apt-get update -q && apt-get install -y -q --no-install-recommends $missing; } >"$log" 2>&1 || { tail -20 "$log"; exit 1; }
  rm -f "$log"
fi

venv=$work/venv
[ -x "$venv/bin/python" ] && "$venv/bin/python" -c "import yaml, opentelemetry.proto" 2>/dev/null || {
  mkdir -p "$work"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check pyyaml==6.0.3 -r tests/compose/sink-requirements.txt
}
mkdir -p "$work/run"
status=0
"$venv/bin/python" tests/podman/run.py "$work/run" "$bin" || status=$?
rm -rf "$work/run"
exit "$status"
