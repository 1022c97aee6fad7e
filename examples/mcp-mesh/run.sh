#!/bin/sh
# Two agents on MCP Mesh with a sidecar each, and a registry, on loopback.
#
#   pip install -r requirements.txt && npm install @mcpmesh/cli-linux-x64@3.7.1
#   MESHTRACE_BIN=meshtrace PYTHON=python3 REGISTRY=node_modules/@mcpmesh/cli-linux-x64/bin/mcp-mesh-registry ./run.sh
#
# The agents bind 127.0.0.2 and announce 127.0.0.1, where their sidecars
# listen; their calls leave through HTTP_PROXY. In a cluster the injector does
# both without any of this. Spans go to OTEL_EXPORTER_OTLP_ENDPOINT, or to this
# terminal with OTEL_TRACES_EXPORTER=console. Ctrl-C ends everything.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
meshtrace=${MESHTRACE_BIN:-meshtrace}
python=${PYTHON:-python3}
work=$(mktemp -d)
pids=""
trap 'kill $pids 2>/dev/null; wait 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 0' INT TERM

(cd "$work" && HOST=127.0.0.1 PORT=8000 exec "${REGISTRY:-mcp-mesh-registry}") >"$work/registry.log" 2>&1 &
pids="$pids $!"

# agent NAME PORT OUTBOUND: one agent and its sidecar.
agent() {
    OTEL_SERVICE_NAME="$1-agent" "$meshtrace" proxy --admin off \
        --inbound "127.0.0.1:$2=127.0.0.2:$2" --outbound "127.0.0.1:$3" &
    pids="$pids $!"
    # The mesh has places of its own for headers, which it fills when told to.
    MCP_MESH_PROPAGATE_HEADERS=traceparent,tracestate,baggage \
        HTTP_PROXY="http://127.0.0.1:$3" http_proxy="http://127.0.0.1:$3" \
        MCP_MESH_REGISTRY_URL=http://127.0.0.1:8000 \
        HOST=127.0.0.2 MCP_MESH_HTTP_HOST=127.0.0.1 MCP_MESH_HTTP_PORT="$2" \
        "$python" "$here/$1.py" >"$work/$1.log" 2>&1 &
    pids="$pids $!"
}

agent weather 9002 14012
until curl -sf http://127.0.0.1:8000/agents | grep -q weather-agent; do sleep 1; done
agent planner 9001 14011
echo "logs of the mesh are in $work; once the planner is up, try:"
cat <<'TRY'
curl -s http://127.0.0.1:9001/mcp -H 'content-type: application/json' \
  -H 'accept: application/json, text/event-stream' \
  -H 'traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' \
  -d '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"plan","arguments":{"city":"Oslo"}}}'
TRY
wait
