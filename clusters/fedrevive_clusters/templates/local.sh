#!/usr/bin/env bash
# A search on @{nodes} Ray nodes that share this machine: what a cluster does, without a cluster. Run it with bash.
# Ray @{ray} and fedrevive @{version} must be on PATH. Results: @{storage}
# PORT=... chooses another port for Ray's head; it also takes the next one.

set -euo pipefail
umask 077

private="$(mktemp -d /tmp/fedrevive-nodes.XXXXXX)"
port="${PORT:-6379}"
nodes=()

# Ends the nodes of this script and no others.
finish() {
  for node in "${nodes[@]}"; do kill "$node" 2>/dev/null || true; done
  for node in "${nodes[@]}"; do wait "$node" 2>/dev/null || true; done
  rm -rf "$private"
}
trap finish EXIT

# Every call to Ray must show this token; it is in a file that only you can read.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$private/token" RAY_USAGE_STATS_ENABLED=0
head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' > "$RAY_AUTH_TOKEN_PATH"

# Each node has its share of the machine and a loopback address of its own: Linux has many, and Ray takes 127.0.0.1 for
# the machine's name in the network. Object stores are memory (/dev/shm).
common=(--num-cpus=@{cpus} --object-store-memory=@{object_store} --dashboard-agent-listen-port=0 --block)
ray start --head --node-ip-address=127.0.0.2 --port="$port" --ray-client-server-port="$((port + 1))" \
  --num-gpus=@{gpus} --include-dashboard=false --temp-dir="$private/ray" "${common[@]}" > "$private/node-0.log" 2>&1 &
nodes+=($!)
export RAY_ADDRESS="127.0.0.2:$port"
for ((n = 1; n < @{nodes}; n++)); do
  ray start --address="$RAY_ADDRESS" --node-ip-address="127.0.0.$((n + 2))" --num-gpus=0 "${common[@]}" \
    > "$private/node-$n.log" 2>&1 &
  nodes+=($!)
done

fedrevive cluster check --address "$RAY_ADDRESS" --nodes @{nodes} --wait 120
@{command}
