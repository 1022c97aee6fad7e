#!/bin/sh
# Shows deploy/collector/config.yaml and deploy/jaeger/config.yaml to the programs that they are for.
#
#   MESHTRACE_TEST_COLLECTOR=/path/to/otelcol-contrib MESHTRACE_TEST_JAEGER=/path/to/jaeger tests/compose/validate-configs.sh
#
# Each program validates its file. With both, they are also started with those files, moved to loopback ports and nothing else
# changed, a span is sent to the collector, and Jaeger's query API has to have it. What has no program is said to be skipped.
# The last line is `N passed, N failed`.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
collector=${MESHTRACE_TEST_COLLECTOR:-}
jaeger=${MESHTRACE_TEST_JAEGER:-}
work=$(mktemp -d)
pids=
passed=0
failed=0

tear_down() {
    for pid in $pids; do
        kill "$pid" 2>/dev/null || true
    done
    wait
    rm -rf "$work"
}
trap tear_down EXIT

result() { # result WHAT STATUS LOG
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok      $1"
    else
        failed=$((failed + 1))
        echo "FAILED  $1"
        tail -15 "$3"
    fi
}

validates() { # validates NAME PROGRAM FILE
    status=0
    "$2" validate --config "$3" >"$work/$1.validate" 2>&1 || status=$?
    result "$1 accepts $(basename "$(dirname "$3")")/$(basename "$3")" "$status" "$work/$1.validate"
}

answers() { # answers SECONDS COMMAND...
    end=$(($(date +%s) + $1))
    shift
    until "$@" >"$work/answer" 2>&1; do
        [ "$(date +%s)" -lt "$end" ] || return 1
        sleep 0.3
    done
}

trace_id=5b8efff798038103d269b633813fc60c
otlp=127.0.0.1:24318
query=127.0.0.1:26686

send_span() {
    now=$(date +%s)000000000
    curl -sS --fail -m 5 "http://$otlp/v1/traces" -H 'content-type: application/json' -d '{"resourceSpans":[{"resource":{"attributes":
        [{"key":"service.name","value":{"stringValue":"config-test"}}]},"scopeSpans":[{"spans":[{"traceId":"'"$trace_id"'",
        "spanId":"eee19b7ec3c1b174","name":"tools/call get_forecast","kind":2,"startTimeUnixNano":"'"$now"'","endTimeUnixNano":"'"$now"'"}]}]}]}'
}

jaeger_has_it() {
    curl -sS --fail -m 5 "http://$query/api/traces/$trace_id" | grep -q "tools/call get_forecast"
}

# Both would serve their own metrics on the same port; containers do not share one.
runs_together() {
    "$jaeger" --set service.telemetry.metrics.level=none --config "$root/deploy/jaeger/config.yaml" \
        --set receivers.otlp.protocols.grpc.endpoint=127.0.0.1:24327 \
        --set extensions.jaeger_query.http.endpoint="$query" --set extensions.jaeger_query.grpc.endpoint=127.0.0.1:26685 \
        >"$work/jaeger.log" 2>&1 &
    pids="$pids $!"
    "$collector" --set service.telemetry.metrics.level=none --config "$root/deploy/collector/config.yaml" \
        --set receivers.otlp.protocols.grpc.endpoint=127.0.0.1:24317 --set receivers.otlp.protocols.http.endpoint="$otlp" \
        --set exporters.otlp_grpc/jaeger.endpoint=127.0.0.1:24327 \
        >"$work/collector.log" 2>&1 &
    pids="$pids $!"
    status=0
    answers 30 send_span || status=1
    result "the collector runs with its file and takes a span" "$status" "$work/collector.log"
    status=0
    answers 30 jaeger_has_it || status=1
    result "Jaeger runs with its file and shows the span that the collector passed on" "$status" "$work/jaeger.log"
}

if [ -n "$collector" ]; then
    validates collector "$collector" "$root/deploy/collector/config.yaml"
else
    echo "skipped: MESHTRACE_TEST_COLLECTOR names no collector"
fi
if [ -n "$jaeger" ]; then
    validates jaeger "$jaeger" "$root/deploy/jaeger/config.yaml"
else
    echo "skipped: MESHTRACE_TEST_JAEGER names no Jaeger"
fi
if [ -n "$collector" ] && [ -n "$jaeger" ]; then
    runs_together
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
