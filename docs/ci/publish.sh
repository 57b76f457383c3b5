#!/usr/bin/env bash
# Brings new rows to replicas from CI: check the definitions, materialize, try a lookup, publish, and show what is served.
#
#   docs/ci/publish.sh REPO REPLICA[,REPLICA...] [END]
#
# REPO has feature_store.yaml, whose registry and online_store are object-store URLs that every run shares. END is the latest
# event time to fold, now if not given. Tokens and keys come from the environment, under the names in feature_store.yaml.
# MEZZE_PROBE_REQUEST may name a file with a request; it has to be answered before anything is published.
#
# Exit codes are those of `mezze`: 0 published or nothing to do, 3 another run was first (it does the work), else a failure.
set -euo pipefail
[ $# -ge 2 ] || {
    sed -n '4,4p' "$0" >&2
    exit 2
}
repo=$1 replicas=$2 end=${3:-$(date -u +%Y-%m-%dT%H:%M:%SZ)}
mezze=${MEZZE:-mezze}

step() { echo "== $*" >&2; }

step "check the definitions"
"$mezze" -c "$repo" plan >&2
"$mezze" -c "$repo" apply --quiet >/dev/null

step "materialize up to $end"
"$mezze" -c "$repo" materialize-incremental "$end" >&2

if [ -n "${MEZZE_PROBE_REQUEST:-}" ]; then
    step "ask for features"
    "$mezze" -c "$repo" get-online-features --request "$MEZZE_PROBE_REQUEST" --output json >/dev/null
fi

step "publish to $replicas"
"$mezze" -c "$repo" publish --to "$replicas" --output json
"$mezze" -c "$repo" status >&2
