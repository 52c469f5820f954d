#!/bin/sh
# A real Ray on this machine: a head and a second node, with a processor and a pretend GPU each.
#
#   eval "$(tests/cluster/ray_up.sh [FOLDER])"    sets RAY_ADDRESS
#   tests/cluster/ray_down.sh [FOLDER]
#
# FOLDER has a short name, at most 40 letters: sockets are in it. Each node writes its process id to
# FOLDER/head.pid and FOLDER/second.pid. What runs already is left alone, so that it can be given
# again after a node was killed. `ray stop` would stop every Ray of the machine; these scripts stop
# their own.
set -eu
folder=${1:-${TMPDIR:-/tmp}/pclbench-ray}
ray=${RAY:-ray}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
[ -e "$folder/port" ] || echo "${RAY_PORT:-26379}" >"$folder/port"
port=$(cat "$folder/port")
export RAY_USAGE_STATS_ENABLED=0

start() { # NODE OPTIONS...: a process group of its own, which its end takes along
    node=$1
    shift
    [ -s "$folder/$node.pid" ] && kill -0 "$(cat "$folder/$node.pid")" 2>/dev/null && return
    setsid sh -c 'echo $$ >"$0"; exec "$@"' "$folder/$node.pid" \
        $ray start --block --num-cpus 1 --num-gpus 1 --object-store-memory 100000000 \
        --disable-usage-stats "$@" >"$folder/$node.log" 2>&1 </dev/null &
    starting=$!
    for _ in $(seq 240); do
        grep -q 'Ray runtime started' "$folder/$node.log" && return
        kill -0 "$starting" 2>/dev/null || break
        sleep 0.5
    done
    tail -n 20 "$folder/$node.log" >&2
    echo "ray_up: node $node did not start" >&2
    exit 1
}

# Two addresses, so that who connects is never on the second node, which may be taken away.
start head --head --port "$port" --node-ip-address 127.0.0.1 --temp-dir "$folder" \
    --include-dashboard false
start second --address "127.0.0.1:$port" --node-ip-address 127.0.0.2
echo "export RAY_ADDRESS=127.0.0.1:$port"
