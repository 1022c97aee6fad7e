#!/bin/sh
# Installs MCP Mesh, pinned, under MESHTRACE_MESH_DIR (default: target/mesh of
# this project): the Python packages of its agents, and from npm its registry.
# What has not changed since it was installed is left alone. PYTHON and NPM name
# the tools.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
into=${MESHTRACE_MESH_DIR:-$here/../../target/mesh}
python=${PYTHON:-python3}
npm=${NPM:-npm}
mkdir -p "$into"
into=$(cd "$into" && pwd)

if ! cmp -s "$here/requirements.txt" "$into/.installed"; then
    echo "installing MCP Mesh"
    rm -rf "${into:?}/python" "$into/node_modules"
    "$python" -m venv "$into/python"
    "$into/python/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        -r "$here/requirements.txt"
    (cd "$into" && "$npm" install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error \
        @mcpmesh/cli-linux-x64@3.7.1)
    cp "$here/requirements.txt" "$into/.installed"
fi
echo "MCP Mesh is in place"
