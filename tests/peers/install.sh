#!/bin/sh
# Installs the real peers of the suite, every one at a pinned version, under
# MESHTRACE_PEERS_DIR (default: target/peers of this project):
#
#   mcp2/ mcp1/ fastmcp/   Python environments, one for each SDK
#   others/ a2a03/         the clients of models and agents, and agents
#   node/                  the npm SDK with its dependencies
#   everything/            npm server-everything with the same SDK
#   rmcp/                  the build directory of the Rust peer
#
# A part whose pins have not changed since it was installed is left alone, so
# a second run costs next to nothing. PYTHON, NPM and CARGO name the tools.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
into=${MESHTRACE_PEERS_DIR:-$here/../../target/peers}
python=${PYTHON:-python3}
npm=${NPM:-npm}
cargo=${CARGO:-cargo}
mkdir -p "$into"
into=$(cd "$into" && pwd)

# fresh PART PINS: true when PART was installed from exactly these pins.
fresh() {
    cmp -s "$2" "$into/$1/.installed"
}

# keep PART PINS: remembers what PART was installed from.
keep() {
    cp "$2" "$into/$1/.installed"
}

for pins in "$here"/python/*.txt "$here"/others/*.txt; do
    sdk=$(basename "$pins" .txt)
    fresh "$sdk" "$pins" && continue
    echo "installing $sdk"
    rm -rf "${into:?}/$sdk"
    "$python" -m venv "$into/$sdk"
    "$into/$sdk/bin/python" -m pip install --quiet --no-deps --only-binary :all: -r "$pins"
    "$into/$sdk/bin/python" -m pip check
    keep "$sdk" "$pins"
done

for peer in node everything; do
    pins=$here/$peer/package-lock.json
    fresh "$peer" "$pins" && continue
    echo "installing $peer"
    rm -rf "${into:?}/$peer"
    mkdir -p "$into/$peer"
    cp "$here/$peer/package.json" "$pins" "$into/$peer/"
    (cd "$into/$peer" && "$npm" ci --ignore-scripts --no-audit --no-fund --loglevel=error)
    keep "$peer" "$pins"
done

# Cargo knows by itself what is fresh.
"$cargo" build --quiet --locked --manifest-path "$here/rmcp/Cargo.toml" --target-dir "$into/rmcp"
echo "peers are in place"
