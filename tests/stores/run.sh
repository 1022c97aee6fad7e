#!/usr/bin/env bash
# Real Redis, PostgreSQL and MariaDB behind the sidecar. Installs what is missing (as root, Debian), without starting any of it.
set -euo pipefail
cd "$(dirname "$0")/../.."
missing=""
for pair in redis-server:redis-server redis-cli:redis-tools mariadbd:mariadb-server-core mariadb:mariadb-client-core psql:postgresql-client \
  ip:iproute2 setpriv:util-linux; do
  command -v "${pair%%:*}" >/dev/null || [ -x "/usr/sbin/${pair%%:*}" ] || missing="$missing ${pair##*:}"
done
compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || missing="$missing postgresql"
if [ -n "$missing" ]; then
  export DEBIAN_FRONTEND=noninteractive
  # No server of the distribution is to start, and no cluster is to be made.
  made=""
  [ -e /usr/sbin/policy-rc.d ] || { printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d; made=yes; }
  log=$(mktemp)
  # shellcheck disable=SC2086 # the list is split on purpose
  { apt-get update -q && apt-get install -y -q --no-install-recommends $missing; } >"$log" 2>&1 || { tail -20 "$log"; exit 1; }
  rm -f "$log"
  [ -z "$made" ] || rm -f /usr/sbin/policy-rc.d
fi
exec python3 tests/stores/run.py
