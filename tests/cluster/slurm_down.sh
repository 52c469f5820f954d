#!/bin/sh
# Stops what slurm_up.sh started in FOLDER, with the jobs on it, and removes the folder.
set -eu
folder=${1:-${TMPDIR:-/tmp}/pclbench-slurm}
[ -e "$folder/slurm.conf" ] || exit 0
export SLURM_CONF="$folder/slurm.conf"
timeout 10 scancel --user="$(id -un)" 2>/dev/null || true
for daemon in slurmd-one slurmd-two slurmctld slurmdbd mariadb munged; do
    file="$folder/run/$daemon.pid"
    [ -s "$file" ] && kill -9 "$(cat "$file")" 2>/dev/null || true # its files are removed, too
done
rm -rf "$folder"
