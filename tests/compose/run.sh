#!/bin/sh
# Brings up examples/compose as it is shipped, on images made from local files, and checks the trace of its README's curl.
#
#   tests/compose/run.sh
#
# MESHTRACE_BIN      a statically linked binary to put into the image; without it one is built
# MESHTRACE_PROFILE  the cargo profile for that, `dist` by default
# Needs root, python3 with venv, node and npm; installs docker and compose where they are missing. The last line is
# `N passed, N failed`, the exit code 0 only if nothing failed, and everything started here is gone afterwards.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target_dir=${CARGO_TARGET_DIR:-$root/target}
work=$root/target/compose-test
export MESHTRACE_DOCKER_DIR="${MESHTRACE_DOCKER_DIR:-$root/target/compose-docker}"
export COMPOSE_PROJECT_NAME=meshtrace-test DOCKER_BUILDKIT=1 COMPOSE_DOCKER_CLI_BUILD=1
# Nobody else's daemon is meant, not even when something goes wrong before ours is up.
unset DOCKER_HOST
summary="0 passed, 1 failed"
mkdir -p "$work/bin"

say() { echo "run.sh: $*" >&2; }

compose() {
    if docker compose version >/dev/null 2>&1; then
        docker compose -f "$root/examples/compose/compose.yaml" -f "$here/override.yaml" "$@"
    else
        docker-compose -f "$root/examples/compose/compose.yaml" -f "$here/override.yaml" "$@"
    fi
}

tear_down() {
    code=$?
    trap - EXIT INT TERM
    if [ -n "${DOCKER_HOST:-}" ]; then
        if [ "$code" -ne 0 ]; then
            compose logs --no-color --tail 40 >&2 || true
        fi
        compose down --volumes --timeout 5 >"$work/down.log" 2>&1 || tail -5 "$work/down.log" >&2
    fi
    "$here/dockerd.sh" stop || code=1
    rm -rf "$work" "$root/target/image"
    echo "$summary"
    exit "$code"
}

fail() {
    say "$*"
    exit 1
}

quietly() {
    log=$work/$1.log
    shift
    "$@" >"$log" 2>&1 || { tail -30 "$log" >&2; fail "failed: $*"; }
}

static_binary() {
    mkdir -p "$root/target/image"
    if [ -z "${MESHTRACE_BIN:-}" ]; then
        target=$(rustc -vV | sed -n 's/^host: //p')
        say "building a static binary, profile ${MESHTRACE_PROFILE:-dist}"
        (cd "$root" && RUSTFLAGS="-C target-feature=+crt-static" CARGO_TARGET_DIR="$target_dir" \
            quietly cargo cargo build --locked --profile "${MESHTRACE_PROFILE:-dist}" --bin meshtrace --target "$target")
        MESHTRACE_BIN=$target_dir/$target/${MESHTRACE_PROFILE:-dist}/meshtrace
    fi
    cp "$MESHTRACE_BIN" "$root/target/image/meshtrace"
}

trap tear_down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

static_binary
DOCKER_HOST=$("$here/dockerd.sh" start) || fail "no docker daemon"
export DOCKER_HOST
# The image's Dockerfile needs BuildKit. A newer client has it in a plug-in; the distribution's has it built in.
if ! docker buildx version >/dev/null 2>&1 && [ -x /usr/bin/docker ]; then
    ln -sf /usr/bin/docker "$work/bin/docker"
    PATH="$work/bin:$PATH"
fi

say "making the base images"
quietly images python3 "$here/images.py" "$work/images"
say "building and starting the example"
quietly up compose up --build --detach client otel-collector
client=$(compose ps -q client)
code=$(timeout 120 docker wait "$client") || fail "the client did not end within 120 s"
[ "$code" = 0 ] || { docker logs "$client" >&2; fail "the client ended with $code"; }

sink=$(compose port otel-collector 4318)
sidecars="$(compose ps -q research-sidecar) $(compose ps -q weather-sidecar)"
# shellcheck disable=SC2086 # one argument for each container
python3 "$here/check.py" "http://$sink" "$root/examples/compose/README.md" $sidecars >"$work/check.log" || code=$?
# What the checks say goes out now, their last line when everything is torn down.
sed '$d' "$work/check.log"
summary=$(tail -1 "$work/check.log")
exit "$code"
