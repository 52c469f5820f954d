#!/bin/sh
# Stops the nodes that ray_up.sh started in FOLDER, or only the one named, and removes the folder.
#
#   ray_down.sh [FOLDER [NODE]]
set -eu
folder=${1:-${TMPDIR:-/tmp}/pclbench-ray}
for node in ${2:-second head}; do
    [ -s "$folder/$node.pid" ] || continue
    group=$(cat "$folder/$node.pid")
    kill -s KILL -- "-$group" 2>/dev/null || true
    rm -f "$folder/$node.pid"
done
[ $# -eq 2 ] || rm -rf "$folder"
