#!/usr/bin/env bash
# Builds meshtrace for production: the `dist` profile, statically linked, without symbols, and guided by a profile of the
# traffic that benches/train.py sends, which saves a quarter of the instructions of a request.
#
#   deploy/build.sh OUTPUT
#
# needs Python 3.9, nghttp2 (h2load, nghttpd) and llvm-profdata: that of `rustup component add llvm-tools`, or of an LLVM
# not much older than the compiler's. It builds twice, with half a minute of load between.
#
#   LLVM_PROFDATA=PROGRAM    another llvm-profdata
#   CARGO_TARGET_DIR=DIR     another place for what is built on the way
set -euo pipefail
output=$(realpath -m "${1:?say where the binary goes: deploy/build.sh OUTPUT}")
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
built="${CARGO_TARGET_DIR:-$PWD/target}/$host/dist/meshtrace"
# The C library is linked in, because the image has none.
static="-C target-feature=+crt-static"

# Naming the target keeps the flags away from build scripts and procedural macros.
build() {
  RUSTFLAGS="$static $1" cargo build --locked --profile dist --bin meshtrace --target "$host"
}

profdata() {
  local own newest
  own="$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata"
  newest=$(compgen -c llvm-profdata- | sort -t- -k3 -n | tail -n 1 || true)
  if [ -n "${LLVM_PROFDATA:-}" ]; then
    command -v "$LLVM_PROFDATA"
  else
    command -v "$own" || command -v "${newest:-llvm-profdata}"
  fi
}

fail() {
  echo "deploy/build.sh: $1" >&2
  exit 1
}

profdata=$(profdata) || fail "no ${LLVM_PROFDATA:-llvm-profdata}; rustup component add llvm-tools, or set LLVM_PROFDATA"
for program in python3 h2load nghttpd; do
  command -v "$program" >/dev/null || fail "no $program; Debian: apt-get install python3 nghttp2"
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

build "-C profile-generate=$work/raw"
cp "$built" "$work/instrumented"
python3 benches/train.py --meshtrace "$work/instrumented"
# An older tool cannot read what a newer compiler's program wrote, and then says so.
"$profdata" merge -o "$work/profile" "$work"/raw/*.profraw
build "-C profile-use=$work/profile"
mkdir -p "$(dirname "$output")"
cp "$built" "$output"
