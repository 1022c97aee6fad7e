#!/bin/sh
# Brings up examples/compose as it is shipped, on images made from local files, and checks the trace of its README's curl:
# first the explicit form, then the captured one, whose agent is restarted in between.
#
#   tests/compose/run.sh
#
# MESHTRACE_BIN      a statically linked binary to put into the image; without it one is built
# MESHTRACE_PROFILE  the cargo profile for that, `dist` by default
# MESHTRACE_TEST_COMPOSE  the compose program; without it `docker compose`, or else docker-compose
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
form=compose
override=override
mkdir -p "$work/bin"

say() { echo "run.sh: $*" >&2; }

compose() {
    set -- -f "$root/examples/compose/$form.yaml" -f "$here/$override.yaml" "$@"
    if [ -n "${MESHTRACE_TEST_COMPOSE:-}" ]; then
        "$MESHTRACE_TEST_COMPOSE" "$@"
    elif docker compose version >/dev/null 2>&1; then
        docker compose "$@"
    else
        docker-compose "$@"
    fi
}

down() {
    compose down --volumes --timeout 5 >"$work/down.log" 2>&1 || tail -5 "$work/down.log" >&2
}

tear_down() {
    code=$?
    trap - EXIT INT TERM
    if [ -n "${DOCKER_HOST:-}" ]; then
        if [ "$code" -ne 0 ]; then
            compose logs --no-color --tail 40 >&2 || true
        fi
        down
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

say "compose $(compose version --short), dockerd $(docker version --format '{{.Server.Version}}')"
say "making the base images"
quietly images python3 "$here/images.py" "$work/images"

# What is checked of a form goes out at once, what it sums up to when everything is torn down.
passed=0
failed=0

# The image is one file. Only the profile `dist` strips it, so it is measured without its symbols whatever it was built with.
small() {
    strip -o "$work/stripped" "$root/target/image/meshtrace"
    bytes=$(stat -c %s "$work/stripped")
    what="the image's one file, ${MESHTRACE_PROFILE:-dist}, without symbols: $bytes bytes, less than 15000000"
    if [ "$bytes" -lt 15000000 ]; then
        passed=$((passed + 1))
        echo "ok   $what"
    else
        failed=$((failed + 1))
        echo "FAIL $what"
    fi
}

small
check() { # check CHECK_ARGUMENTS...
    say "building and starting examples/compose/$form.yaml"
    quietly up compose up --build --detach client otel-collector
    client=$(compose ps -q client)
    code=$(timeout 120 docker wait "$client") || fail "the client did not end within 120 s"
    [ "$code" = 0 ] || { docker logs "$client" >&2; fail "the client ended with $code"; }
    sink=$(compose port otel-collector 4318)
    status=0
    # shellcheck disable=SC2046 # one argument for each container
    python3 "$here/check.py" "http://$sink" "$root/examples/compose/README.md" "$@" \
        $(compose ps -q research-sidecar) $(compose ps -q weather-sidecar) >"$work/check.log" || status=$?
    sed '$d' "$work/check.log"
    counts=$(tail -1 "$work/check.log")
    case "$counts" in
        *" passed, "*" failed") ;;
        *) fail "the checks did not come to their end: $counts" ;;
    esac
    passed=$((passed + ${counts%% *}))
    counts=${counts#*, }
    failed=$((failed + ${counts%% *}))
    summary="$passed passed, $failed failed"
    [ "$status" -eq 0 ] || [ "$failed" -gt 0 ] || fail "the checks ended with $status"
}

check
down
form=captured
override=override-captured
summary="0 passed, 1 failed"
check --restart research-agent --project "$COMPOSE_PROJECT_NAME"
[ "$failed" -eq 0 ]
