#!/bin/bash
# Runs scripts/slurm/train.sbatch under a real Slurm of four nodes, which are network namespaces of this machine: a
# whole run; one whose job is warned (SIGUSR1), saves and is queued again by itself; one that loses a node. Compares
# their curves with a run of one rank. Needs root, and Debian's slurmctld, slurmd, slurm-client, munge, iproute2.
#   tests/chaos/slurm.sh BINARY [DIRECTORY]      BINARY: colossus, with colossus_chaos beside it
set -u
binary=$(realpath "$1") directory=$(realpath -m "${2:-/tmp/colossus-slurm}")
source=$(realpath "$(dirname "$0")/../..")
nodes=4 net=10.213.78
for tool in slurmctld slurmd sbatch munged ip unshare; do
  command -v $tool >/dev/null || { echo "skipped: $tool is not installed"; exit 0; }
done
[ "$(id -u)" = 0 ] || { echo "skipped: network namespaces need root"; exit 0; }

rm -rf "$directory" && mkdir -p "$directory"/{etc,state,log} && cd "$directory" || exit 1
pids=()
clean() {
  export SLURM_CONF=$directory/etc/slurm.conf
  scancel --user=root >/dev/null 2>&1
  sleep 1
  for ((i = ${#pids[@]} - 1; i >= 0; --i)); do kill "${pids[i]}" 2>/dev/null; done
  sleep 1
  for ((i = 0; i < nodes; ++i)); do
    for pid in $(ip netns pids "slurm-n$i" 2>/dev/null); do kill -9 "$pid"; done
    ip link del "slurm-v$i" 2>/dev/null; ip netns del "slurm-n$i" 2>/dev/null
  done
  ip link del slurm-br 2>/dev/null
}
trap clean EXIT
clean

ip link add slurm-br type bridge && ip addr add $net.1/24 dev slurm-br && ip link set slurm-br up || exit 1
for ((i = 0; i < nodes; ++i)); do
  n=slurm-n$i
  ip netns add $n && ip link add slurm-v$i type veth peer name eth0 netns $n && ip link set slurm-v$i master slurm-br up &&
    ip -n $n link set lo up && ip -n $n addr add $net.$((10 + i))/24 dev eth0 && ip -n $n link set eth0 up || exit 1
done

cat >etc/slurm.conf <<END
ClusterName=try
SlurmctldHost=$(hostname)($net.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$directory/munge.socket
CredType=cred/munge
StateSaveLocation=$directory/state
SlurmdSpoolDir=$directory/spool-%n
SlurmctldPidFile=$directory/slurmctld.pid
SlurmdPidFile=$directory/slurmd-%n.pid
SlurmctldLogFile=$directory/log/slurmctld
SlurmdLogFile=$directory/log/slurmd-%n
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=20
KillWait=10
RequeueExit=
SchedulerParameters=batch_sched_delay=1,sched_interval=2,requeue_setup_env_fail
END
for ((i = 0; i < nodes; ++i)); do
  echo "NodeName=slurm-n$i NodeAddr=$net.$((10 + i)) CPUs=2 RealMemory=1000 State=UNKNOWN" >>etc/slurm.conf
done
echo "PartitionName=all Nodes=slurm-n[0-$((nodes - 1))] Default=YES MaxTime=INFINITE State=UP" >>etc/slurm.conf
sed -i '/^RequeueExit=$/d' etc/slurm.conf
# What the system has of cgroups is not needed for this, and not asked for.
echo "CgroupPlugin=cgroup/v1" >etc/cgroup.conf
export SLURM_CONF=$directory/etc/slurm.conf

dd if=/dev/urandom of=munge.key bs=128 count=1 2>/dev/null && chmod 600 munge.key
munged --foreground --force --num-threads=2 --key-file="$directory/munge.key" --socket="$directory/munge.socket" \
  --pid-file="$directory/munged.pid" --seed-file="$directory/munge.seed" >log/munged 2>&1 &
pids+=($!)
for ((i = 0; i < 50; ++i)); do [ -S munge.socket ] && break; sleep 0.1; done
slurmctld -D -f "$SLURM_CONF" >log/slurmctld.out 2>&1 &
pids+=($!)
for ((i = 0; i < nodes; ++i)); do
  nsenter --net=/run/netns/slurm-n$i unshare --uts /bin/sh -c "hostname slurm-n$i && exec slurmd -D -f $SLURM_CONF" \
    >log/slurmd-$i.out 2>&1 &
  pids+=($!)
done
for ((i = 0; i < 60; ++i)); do
  [ "$(sinfo -h -t idle -o %D 2>/dev/null)" = $nodes ] && break
  sleep 0.5
done
sinfo
[ "$(sinfo -h -t idle -o %D)" = $nodes ] || { echo "the nodes do not come up; see $directory/log"; exit 1; }

"$(dirname "$binary")/colossus_chaos" --ground 400 --directory "$directory/ground" && cd "$directory/ground" || exit 1
curve() { grep -o '"step":[0-9]*\|"train/loss":[^,}]*\|"train/grad_norm":[^,}]*\|"validation/loss":[^,}]*' "$1/metrics.jsonl"; }

tried=0 held=0
# try NAME DISTURB RESTARTS: submits a run and calls DISTURB with its job and directory; it must end as COMPLETED, with the
# curve, after as many restarts of the job.
try() {
  [[ -z ${ONLY:-} || $ONLY = "$1" ]] || return
  local name=$1 out=$directory/$1 job state
  ((++tried))
  for ((i = 0; i < 100; ++i)); do
    [ "$(sinfo -h -t idle -o %D | head -1)" = "$(sinfo -h -r -o %D | head -1)" ] && break
    sleep 0.3
  done
  job=$(COLOSSUS=$binary sbatch --parsable --nodes=$nodes --mem=100 --output="$directory/log/$name.log" \
    "$source/scripts/slurm/train.sbatch" run.toml --out "$out" --ranks 8 --set train.threads=1 --hang-after 6)
  for ((i = 0; i < 600; ++i)); do
    [ "$(grep -c train/loss "$out/metrics.jsonl" 2>/dev/null)" -ge 30 ] 2>/dev/null && break
    sleep 0.1
  done
  $2 "$job" "$out"
  for ((i = 0; i < 1200; ++i)); do
    state=$(scontrol show job "$job" -o 2>/dev/null | grep -o 'JobState=[A-Z]*')
    case $state in JobState=PENDING | JobState=RUNNING | JobState=COMPLETING) sleep 0.2 ;; *) break ;; esac
  done
  local restarts equal=no
  restarts=$(scontrol show job "$job" -o | grep -o 'Restarts=[0-9]*')
  [ "$(curve "$out" | md5sum)" = "$(curve undisturbed | md5sum)" ] && equal=yes
  [ "$state" = JobState=COMPLETED ] && [ $equal = yes ] && [ "Restarts=$3" = "$restarts" ] && ((++held))
  echo "$name: $state $restarts, curve equal: $equal"
}
nothing() { :; }
warn() { scancel --signal=USR1 --batch "$1"; }
lose_a_node() { for pid in $(ip netns pids slurm-n2); do kill -9 "$pid"; done; }
try undisturbed-job nothing 0
try warned warn 1
try loses-a-node lose_a_node 0
echo "tried $tried, held $held"
[ $held = $tried ]
