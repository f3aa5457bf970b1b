#!/bin/bash
# Runs what the pictures in docs/parallelism.md and docs/faults.md show, and draws them: 4 ranks on this machine, two
# to five minutes. Every run is of configs/runs/picture.toml; its timeline stays in out/pictures.
#   scripts/trace_pictures.sh [DIRECTORY]       where the pictures go: docs
#   TEXT=file                                   what is trained on
set -euo pipefail
cd "$(dirname "$0")/.."

docs=${1:-docs}
work=out/pictures
text=${TEXT:-../shared/data/text/en/tinyshakespeare.txt}
colossus=${COLOSSUS:-${BUILD:-build/release}/bin/colossus}

train() { # name options
  local name=$1
  shift
  "$colossus" train configs/runs/picture.toml --ranks 4 --fresh --out "$work/$name" --trace "$work/$name.json" "$@" 2>&1
}
draw() { bench/trace_picture.py draw "$@"; }

mkdir -p "$work" "$docs"
"$colossus" tokenizer train --kind char --out "$work/tokenizer.json" "$text"
"$colossus" data build --tokenizer "$work/tokenizer.json" --out "$work/shards" "$text"

# Ranks along `shard`.
train zero_1 --trace-steps 5:8
draw "$work/zero_1.json" --steps 6 > "$docs/trace_zero_1.svg"
bench/trace_picture.py hidden "$work/zero_1.json" --steps 5:8

train zero_3 --set mesh.shard=4 --set mesh.zero_stage=3 --trace-steps 5:8
draw "$work/zero_3.json" --steps 6 > "$docs/trace_zero_3.svg"
bench/trace_picture.py hidden "$work/zero_3.json" --steps 5:8

for schedule in 1f1b zero_bubble; do
  train "$schedule" --set mesh.pipeline=4 --set mesh.schedule="$schedule" --set train.reduction_leaves=1 --trace-steps 5:8
  bench/trace_picture.py bubble "$work/$schedule.json" --steps 5:8
done
draw "$work/1f1b.json" "$work/zero_bubble.json" --lanes compute --steps 6 --titles 1F1B "zero bubble" \
  > "$docs/trace_pipeline.svg"

# Rank 2 is killed at its 13th microbatch, in the step after the sixth.
COLOSSUS_FAULT_OF_RANK=2:kill:microbatch:13 train fault --trace-steps 5:8 |
  bench/trace_picture.py stamp | tee "$work/fault.log"
draw "$work/fault.json" --log "$work/fault.log" --steps 6:7 > "$docs/trace_fault.svg"
