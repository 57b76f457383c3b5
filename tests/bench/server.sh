#!/usr/bin/env bash
# Compares the throughput of `mezze serve` with that of Feast's own server, on the same rows and requests, in one run.
#
#   tests/bench/server.sh [SECONDS]       seconds a server is loaded, 10 if not given
#
# One entity and 50 features a request; each server has one core (the first), the load generator the others. Feast 0.67 with
# its SQLite online store, one worker, no access log. Both are asked for the same entities, and their values are compared first.
# Needs python3 (Feast is installed into a virtual environment under ~/.cache/mezze-bench), taskset and curl.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-10}
for tool in python3 taskset curl cargo; do
    command -v "$tool" >/dev/null || { echo "server.sh: \`$tool\` is missing" >&2; exit 2; }
done
cache=${MEZZE_BENCH_CACHE:-$HOME/.cache/mezze-bench}
venv=$cache/feast-0.67.0
if [ ! -x "$venv/bin/feast" ]; then
    mkdir -p "$cache"
    python3 -m venv "$venv"
    "$venv/bin/pip" -q install 'feast==0.67.0'
fi
cargo build --locked --quiet --release -p mezze-cli -p mezze-server --bins --examples
[ "$(nproc)" -ge 2 ] || { echo "server.sh: two cores are needed, one for the server and one for the load" >&2; exit 2; }
target=${CARGO_TARGET_DIR:-target}
mezze=$(realpath "$target/release/mezze") load=$(realpath "$target/release/examples/load")

work=$(mktemp -d)
pids=()
# Whatever ended the run: a server may have ended already, and that is no error of the cleaning up.
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT
"$venv/bin/python" tests/bench/server_repos.py "$work"
wait_for() { # PORT PID LOG
    for _ in $(seq 600); do
        curl -sf "http://127.0.0.1:$1/health" >/dev/null && return
        kill -0 "$2" 2>/dev/null || break
        sleep 0.1
    done
    echo "server.sh: nothing answers on port $1; its server said:" >&2
    tail -20 "$3" >&2
    exit 1
}

(cd "$work/feast" && "$venv/bin/feast" apply >"$work/feast.log" 2>&1 && "$venv/bin/feast" materialize 2026-01-01T00:00:00 2026-01-03T00:00:00 >>"$work/feast.log" 2>&1) || { cat "$work/feast.log" >&2; exit 1; }
"$mezze" -c "$work/mezze" -q apply >/dev/null
"$mezze" -c "$work/mezze" -q materialize 2026-01-01 2026-01-03 >/dev/null

feast_port=16566 mezze_port=16567
(cd "$work/feast" && exec taskset -c 0 "$venv/bin/feast" serve -p $feast_port --no-access-log -w 1 --max-requests 1000000000 >>"$work/feast.log" 2>&1) &
pids+=($!)
taskset -c 0 "$mezze" -c "$work/mezze" -q serve --port $mezze_port --workers 1 >"$work/mezze.log" 2>&1 &
pids+=($!)
wait_for $feast_port "${pids[0]}" "$work/feast.log"
wait_for $mezze_port "${pids[1]}" "$work/mezze.log"
"$venv/bin/python" tests/bench/server_repos.py --compare "$work" $feast_port $mezze_port

others=1-$(($(nproc) - 1))
run() { taskset -c "$others" "$load" "127.0.0.1:$1" "$work/bodies" 16 1000000000 "$seconds"; }
feast=$(run $feast_port)
ours=$(run $mezze_port)
"$venv/bin/python" - "$feast" "$ours" <<'PY'
import json, sys
feast, mezze = (json.loads(text) for text in sys.argv[1:])
print(f"{'server':12}{'requests/s':>12}{'p50 us':>10}{'p99 us':>10}{'failures':>10}")
for name, one in (("feast 0.67", feast), ("mezze", mezze)):
    print(f"{name:12}{one['per_second']:>12,}{one['p50_micros']:>10,}{one['p99_micros']:>10,}{one['failures']:>10}")
print(f"ratio: {mezze['per_second'] / feast['per_second']:.0f}")
sys.exit(1 if mezze["failures"] or feast["failures"] else 0)
PY
