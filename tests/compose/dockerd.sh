#!/bin/sh
# A docker daemon of our own for the compose test: data, socket and process id lie under one directory, so that it meets
# no other daemon of the machine and leaves nothing behind.
#
#   tests/compose/dockerd.sh start   installs what is missing (as root, Debian or Ubuntu), starts it, prints DOCKER_HOST
#   tests/compose/dockerd.sh stop    stops it and removes its containers, networks and images
#
# Both may be called twice. The directory is MESHTRACE_DOCKER_DIR, by default target/compose-docker.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
dir=${MESHTRACE_DOCKER_DIR:-$root/target/compose-docker}
# Sockets live apart, because their paths may have 107 bytes at most.
run=/run/meshtrace-test-$(echo "$dir" | cksum | cut -d ' ' -f 1)
socket=$run/docker.sock

say() { echo "dockerd.sh: $*" >&2; }

install_missing() {
    packages=
    command -v dockerd >/dev/null || packages="$packages docker.io"
    command -v iptables >/dev/null || packages="$packages iptables"
    [ -n "${MESHTRACE_TEST_COMPOSE:-}" ] || docker compose version >/dev/null 2>&1 ||
        command -v docker-compose >/dev/null || packages="$packages docker-compose"
    [ -z "$packages" ] && return
    say "installing$packages"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q >"$dir/apt.log" 2>&1
    # shellcheck disable=SC2086 # the list is split on purpose
    apt-get install -y -q --no-install-recommends $packages >>"$dir/apt.log" 2>&1 || { tail -20 "$dir/apt.log" >&2; exit 1; }
}

# A process that ended but was not waited for yet still has its number: it does not count.
running() { [ -r "/proc/$1/status" ] && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status"; }

alive() { [ -s "$run/pid" ] && running "$(cat "$run/pid")"; }

answers() { docker -H "unix://$socket" version >/dev/null 2>&1; }

start() {
    mkdir -p "$dir" "$run"
    install_missing
    if ! alive; then
        # The id that a killed daemon left behind would make the new one refuse to start.
        rm -f "$run/pid" "$socket"
        ip link show docker0 >/dev/null 2>&1 || touch "$dir/made-docker0"
        setsid dockerd --data-root "$dir/data" --exec-root "$run/exec" --pidfile "$run/pid" \
            --host "unix://$socket" --log-level warn >"$dir/dockerd.log" 2>&1 </dev/null &
    fi
    tries=0
    until answers; do
        tries=$((tries + 1))
        if [ "$tries" -gt 120 ]; then
            say "no answer within 60 s; the end of its log:"
            tail -20 "$dir/dockerd.log" >&2
            exit 1
        fi
        sleep 0.5
    done
    echo "unix://$socket"
}

stop() {
    if alive; then
        pid=$(cat "$run/pid")
        if answers; then
            containers=$(docker -H "unix://$socket" ps -aq)
            # shellcheck disable=SC2086 # one argument for each id
            [ -z "$containers" ] || docker -H "unix://$socket" rm -f $containers >/dev/null
            docker -H "unix://$socket" network prune -f >/dev/null
        fi
        kill "$pid"
        tries=0
        while running "$pid" && [ "$tries" -lt 60 ]; do
            tries=$((tries + 1))
            sleep 0.5
        done
        if running "$pid"; then
            say "process $pid did not stop within 30 s"
            exit 1
        fi
    fi
    # A daemon that was killed leaves its directory mounted on itself.
    if grep -q " $dir/data " /proc/self/mounts; then
        umount "$dir/data"
    fi
    if [ -e "$dir/made-docker0" ]; then
        ip link delete docker0 2>/dev/null || true
    fi
    rm -rf "$dir/data" "$dir/dockerd.log" "$dir/apt.log" "$dir/made-docker0" "$run"
    rmdir "$dir" 2>/dev/null || true
}

case "${1:-}" in
    start) start ;;
    stop) stop ;;
    *) echo "usage: $0 start | stop" >&2; exit 2 ;;
esac
