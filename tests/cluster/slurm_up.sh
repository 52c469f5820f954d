#!/bin/sh
# A real Slurm on this machine: controller, accounting and two nodes with a pretend GPU each.
#
#   eval "$(tests/cluster/slurm_up.sh [FOLDER])"    sets SLURM_CONF, which every Slurm command reads
#   tests/cluster/slurm_down.sh [FOLDER]
#
# All files are in FOLDER; nothing outside is touched, so that a Slurm of the machine's own goes on.
# Needs root and Debian's packages: slurm-wlm munge slurmdbd mariadb-server. What runs already is
# left alone, so that it can be given again after a daemon was killed.
set -eu
folder=${1:-${TMPDIR:-/tmp}/pclbench-slurm}
mkdir -p "$folder/state" "$folder/log" "$folder/run"
folder=$(cd "$folder" && pwd)
[ -e "$folder/port" ] || echo "${SLURM_PORT:-16817}" >"$folder/port" # the first of four
port=$(cat "$folder/port")
host=$(hostname -s)
export SLURM_CONF="$folder/slurm.conf" MYSQL_UNIX_PORT="$folder/mysql.sock"

alive() { [ -s "$folder/run/$1.pid" ] && kill -0 "$(cat "$folder/run/$1.pid")" 2>/dev/null; }
until_true() { # about a minute at most
    for _ in $(seq 120); do timeout 5 "$@" >/dev/null 2>&1 && return; sleep 0.5; done
    echo "slurm_up: gave up waiting for: $*; see $folder/log" >&2
    exit 1
}

chmod 755 "$folder"
[ -e "$folder/munge.key" ] || head -c 128 /dev/urandom >"$folder/munge.key"
chmod 600 "$folder/munge.key"

cat >"$folder/slurm.conf" <<END
ClusterName=pclbench
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.sock
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort=$((port + 1))
AccountingStoragePass=$folder/munge.sock
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd-%n.log
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd-%n.pid
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SlurmdTimeout=10
KillWait=5
NodeName=one NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=1 Gres=gpu:1
NodeName=two NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 3)) CPUs=1 Gres=gpu:1
PartitionName=main Nodes=one,two Default=YES MaxTime=1-0
END
cat >"$folder/gres.conf" <<END
NodeName=one Name=gpu File=/dev/null
NodeName=two Name=gpu File=/dev/zero
END
printf 'CgroupPlugin=cgroup/v1\n' >"$folder/cgroup.conf"
cat >"$folder/slurmdbd.conf" <<END
AuthType=auth/munge
AuthInfo=socket=$folder/munge.sock
DbdHost=localhost
DbdPort=$((port + 1))
SlurmUser=root
StorageType=accounting_storage/mysql
StorageUser=root
StorageLoc=slurm_accounting
LogFile=$folder/log/slurmdbd.log
PidFile=$folder/run/slurmdbd.pid
END
chmod 600 "$folder/slurmdbd.conf"

alive munged || munged --force --key-file "$folder/munge.key" --socket "$folder/munge.sock" \
    --pid-file "$folder/run/munged.pid" --log-file "$folder/log/munged.log" \
    --seed-file "$folder/munge.seed" >&2
if ! alive mariadb; then
    [ -d "$folder/db/mysql" ] || mariadb-install-db --no-defaults --user=root \
        --datadir="$folder/db" --skip-test-db >"$folder/log/install.log" 2>&1
    mariadbd --no-defaults --user=root --datadir="$folder/db" --skip-networking \
        --socket="$MYSQL_UNIX_PORT" --pid-file="$folder/run/mariadb.pid" \
        >"$folder/log/mariadb.log" 2>&1 </dev/null &
    until_true mariadb-admin --no-defaults --socket="$MYSQL_UNIX_PORT" ping
fi
alive slurmdbd || slurmdbd >&2
until_true sacctmgr -in show cluster
sacctmgr -i add cluster pclbench >/dev/null 2>&1 || true # it may be there
alive slurmctld || slurmctld >&2
for node in one two; do alive "slurmd-$node" || slurmd -N "$node" >&2; done
until_true sh -c 'sinfo --noheader --Node --states=idle,alloc | grep -c . | grep -qx 2'
echo "export SLURM_CONF='$SLURM_CONF'"
