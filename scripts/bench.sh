#!/bin/bash
# Measures every line of docs/benchmarks.md on this machine: name, value, bar, holds or short. Under 20 minutes.
#   make bench                      all
#   scripts/bench.sh train race     some: train tokenizer tokenizers decode memory start ranks keeping verifying sums packets many race lowest peers
#   SHAKESPEARE=file TEXTS=dir      the texts; without them the lines that need them are skipped and counted
#   PYTHON=venv/bin/python          a Python with torch: measures PyTorch beside us (bench/peers); else those lines are skipped
#   TOKENIZERS=dir                  published vocabularies; with tiktoken, tokenizers, sentencepiece in PYTHON beside those
set -euo pipefail
cd "$(dirname "$0")/.."

build=${BUILD:-build/release}
colossus=${COLOSSUS:-$build/bin/colossus}
shakespeare=${SHAKESPEARE:-../shared/data/text/en/tinyshakespeare.txt}
texts=${TEXTS:-../shared/data/text}
tokenizers=${TOKENIZERS:-../shared/data/tokenizers}
python=${PYTHON:-}
work=${WORK:-out/bench}
lines=("$@")
skipped=0 short=0 held=0
mkdir -p "$work"

wanted() { ((${#lines[@]} == 0)) || [[ " ${lines[*]} " == *" $1 "* ]]; }
# number name < json line
field() { sed -n "s/.*\"$1\": *\([-0-9.e+]*\).*/\1/p" | head -n 1; }
calculate() { awk "BEGIN { printf \"%.4g\", $1 }"; }
# report name value unit bar(">= 0.65")
report() {
  local verdict=short
  if awk "BEGIN { exit !($2 $4) }"; then verdict=holds held=$((held + 1)); else short=$((short + 1)); fi
  printf '%-58s %12s %-14s bar %-10s %s\n' "$1" "$2" "$3" "$4" "$verdict"
}
skip() {
  printf '%-58s %12s %s\n' "$1" skipped "$2"
  skipped=$((skipped + 1))
}

bench_train() {
  # With the flags under which PyTorch was fastest here without AVX512-BF16; PEER_FLAGS tries others on all.
  local bars=("a 0.65 " "b 0.65 --head linear" "c 0.50 --compile default" "d 0.45 ") model bar json flags
  for entry in "${bars[@]}"; do
    read -r model bar flags <<< "$entry"
    json=$("$build/bench/train_bench" --model "$model" --seconds "${SECONDS_EACH:-15}")
    echo "$json" >> "$work/train.jsonl"
    report "train ($model): $(sed 's/.*"what": "\([^:"]*\).*/\1/' <<< "$json"), share of measured peak" "$(field share_of_peak <<< "$json")" \
      "$(field tokens_per_second <<< "$json") tok/s" ">= $bar"
    if [[ -n $python ]]; then
      local peer
      # shellcheck disable=SC2086
      if peer=$(cd bench/peers && OMP_NUM_THREADS=$(nproc) "$python" train_speed.py --model "$model" --dtype fp32 --seconds "${SECONDS_EACH:-15}" ${PEER_FLAGS:-$flags} 2> /dev/null | tail -n 1); then
        echo "$peer" >> "$work/peers.jsonl"
        report "train ($model): times PyTorch at its best here" "$(calculate "$(field tokens_per_second <<< "$json") / $(field tokens_per_second <<< "$peer")")" \
          "$(field tokens_per_second <<< "$peer") tok/s" ">= 1.5"
      else
        skip "train ($model): times PyTorch" "bench/peers/train_speed.py failed"
      fi
    else
      skip "train ($model): times PyTorch" "set PYTHON"
    fi
  done
}

shakespeare_shards() {
  [[ -f $shakespeare ]] || return 1
  [[ -f $work/shards/index.json ]] && return 0
  "$colossus" tokenizer train --kind char --out "$work/char.json" "$shakespeare" > /dev/null 2>&1
  "$colossus" data build --tokenizer "$work/char.json" --out "$work/shards" "$shakespeare" > /dev/null 2>&1
}

train_quietly() { "$colossus" train "$@" --data "$work/shards" --fresh 2> "$work/log"; }
final_loss() { sed -n 's/.*validation loss \([0-9.]*\) nats.*/\1/p' "$work/log" | tail -n 1; }
training_seconds() { sed -n 's/.* \([0-9.]*\) s of training.*/\1/p' "$work/log" | tail -n 1; }

bench_race() {
  shakespeare_shards || { skip "time to 1.90 nats/character" "no $shakespeare"; return; }
  train_quietly configs/runs/race.toml --out "$work/race"
  local ours peer text
  text=$(realpath "$shakespeare")
  ours=$(training_seconds)
  report "race: validation loss, nats/character" "$(final_loss)" "in $ours s" "<= 1.90"
  if [[ -n $python ]]; then
    peer=$(cd bench/peers && OMP_NUM_THREADS=$(nproc) "$python" time_to_loss.py "$text" 2> /dev/null | tail -n 1)
    echo "$peer" >> "$work/peers.jsonl"
    report "race: times faster than nanoGPT's recipe in PyTorch" "$(calculate "$(field training_s <<< "$peer") / $ours")" "peer $(field training_s <<< "$peer") s" ">= 5"
  else
    skip "race: times faster than PyTorch" "set PYTHON"
  fi
}

bench_lowest() {
  shakespeare_shards || { skip "lowest loss in 10 minutes" "no $shakespeare"; return; }
  train_quietly configs/runs/lowest.toml --out "$work/lowest" --set train.max_seconds="${LOWEST_SECONDS:-590}"
  report "lowest validation loss within 10 minutes, nats/character" "$(sed -n 's/.*: validation loss \([0-9.]*\) nats.*/\1/p' "$work/log" | sort -n | head -n 1)" \
    "in $(training_seconds) s" "<= 1.60"
}

bench_tokenizer() {
  [[ -d $texts ]] || { skip "tokenizer training" "no $texts"; return; }
  /usr/bin/env bash -c "TIMEFORMAT='%R'; time '$colossus' tokenizer train --vocab 32768 --out '$work/tok.json' '$texts' 2> '$work/tok.log' > '$work/tok.out'" 2> "$work/seconds"
  report "tokenizer: 32k merges on $(du -sh --apparent-size "$texts" | cut -f 1), seconds" "$(tail -n 1 "$work/seconds")" s "<= 20"
  local peak
  peak=$("$build/bench/peak_memory" "$colossus" tokenizer train --vocab 32768 --out "$work/tok.json" "$texts" 2>&1 > /dev/null | field peak_bytes)
  report "tokenizer: peak memory, GB" "$(calculate "$peak / 1e9")" GB "<= 1"
}

# Encoding and decoding with published vocabularies, beside the libraries they come from.
bench_tokenizers() {
  [[ -d $texts && -d $tokenizers ]] || { skip "encoding and decoding" "no $texts or $tokenizers"; return; }
  [[ -n $python ]] || { skip "encoding and decoding" "set PYTHON"; return; }
  "$python" bench/peers/tokenizer_speed.py --bench "$build/bench/tokenizer_bench" --colossus "$colossus" --texts "$texts" \
    --tokenizers "$tokenizers" > "$work/tokenizers.jsonl" || { skip "encoding and decoding" "tokenizer_speed.py failed"; return; }
  local json name
  while read -r json; do
    name=$(sed 's/.*"tokenizer": "\([^"]*\)".*/\1/' <<< "$json")
    report "$name: encoding over the faster of tiktoken and tokenizers" "$(field times_faster_than_the_faster <<< "$json")" \
      "$(field encode_mb_per_second <<< "$json") MB/s" ">= 3"
    report "$name: two threads over one" "$(field two_threads_over_one <<< "$json")" "" ">= 1.9"
    report "$name: decoding" "$(field decode_mb_per_second <<< "$json")" MB/s ">= 200"
  done < "$work/tokenizers.jsonl"
}

bench_memory() {
  shakespeare_shards || { skip "peak memory over plan" "no $shakespeare"; return; }
  "$colossus" train configs/runs/shakespeare.toml --data "$work/shards" --out "$work/memory" --fresh --memory \
    --set model.num_layers=12 --set model.width=768 --set model.num_heads=12 --set model.num_kv_heads=12 --set model.ffn_width=2048 \
    --set train.steps=2 --set train.batch=32 --set train.evaluation_tokens=4096 2> "$work/log"
  report "peak memory over the plan (12 layers, width 768)" "$(sed -n 's/.*peak over plan \([0-9.]*\).*/\1/p' "$work/log" | tail -n 1)" "" "<= 1.10"
}

bench_start() {
  shakespeare_shards || { skip "start to first step" "no $shakespeare"; return; }
  local json
  json=$("$colossus" train configs/runs/baby.toml --data "$work/shards" --out "$work/start" --fresh --set train.steps=1 --set train.evaluation_tokens=256 --memory 2>&1 | sed -n 's/.*first step began after \([0-9.]*\) s.*/\1/p')
  report "start of the binary to the first step, model (a)" "$json" s "<= 1"
}

bench_decode() {
  local json
  json=$("$build/bench/decode_bench" --seconds 10)
  echo "$json" >> "$work/decode.jsonl"
  report "decode, 110M in bf16, bytes of weights over read bandwidth" "$(field share_of_bandwidth <<< "$json")" "$(field tokens_per_second <<< "$json") tok/s" ">= 0.90"
}

# Seconds of the fastest step so far of runs of model (a), by name.
ranks_step() {
  local name=$1
  shift
  "$colossus" train configs/runs/baby.toml --data "$work/shards" --out "$work/ranks-$name" --fresh "$@" --set train.steps=3 \
    --set train.evaluate_every=0 --set train.evaluation_tokens=256 --set train.checkpoint_every=0 2> "$work/log"
  sed -n 's/.*"speed\/step_seconds": *\([0-9.e-]*\).*/\1/p' "$work/ranks-$name/metrics.jsonl" >> "$work/ranks-$name.seconds"
  sort -g "$work/ranks-$name.seconds" | head -n 1
}

# One process with all cores against one process a core, in turns.
bench_ranks() {
  shakespeare_shards || { skip "ranks against threads" "no $shakespeare"; return; }
  local ranks one data shard zero_stage
  local -A zero
  ranks=$(nproc)
  rm -f "$work"/ranks-*.seconds
  for _ in 1 2 3; do
    one=$(ranks_step one --set train.threads="$ranks")
    data=$(ranks_step data --set mesh.data="$ranks" --set train.threads=1)
    shard=$(ranks_step shard --set mesh.shard="$ranks" --set train.threads=1)
    for zero_stage in 2 3; do
      zero[$zero_stage]=$(ranks_step zero$zero_stage --set mesh.shard="$ranks" --set mesh.zero_stage=$zero_stage --set train.threads=1)
    done
  done
  report "$ranks data ranks of one thread, speed over one rank's" "$(calculate "$one / $data")" "$data s/step" ">= 0.90"
  report "$ranks shard ranks of one thread, with copies in memory" "$(calculate "$one / $shard")" "$shard s/step" ">= 0.85"
  for zero_stage in 2 3; do
    report "the same with ZeRO $zero_stage" "$(calculate "$one / ${zero[$zero_stage]}")" "${zero[$zero_stage]} s/step" ">= 0.85"
  done
}

# Seconds of a trace's first rank in spans of these names.
seconds_in() {
  local trace=$1 name
  shift
  for name in "$@"; do sed -n "s/^{\"ph\":\"X\",\"name\":\"$name\",.*\"pid\":0,.*\"dur\":\([0-9.]*\),.*/\1/p" "$trace"; done |
    awk '{ sum += $1; if ($1 > longest) longest = $1 } END { printf "%.4f %.4f\n", sum / 1e6, longest / 1e6 }'
}

# What a step waits for its copies in other ranks and for its checkpoints, one every other step.
bench_keeping() {
  shakespeare_shards || { skip "copies and checkpoints" "no $shakespeare"; return; }
  local trace=$work/keeping.json steps copies checkpoints saving longest
  "$colossus" train configs/runs/baby.toml --data "$work/shards" --out "$work/keeping" --fresh --set mesh.shard="$(nproc)" \
    --set train.threads=1 --set train.steps=8 --set train.checkpoint_every=2 --set train.evaluate_every=0 \
    --set train.evaluation_tokens=256 --trace "$trace" 2> "$work/log"
  read -r steps _ < <(seconds_in "$trace" step)
  read -r copies _ < <(seconds_in "$trace" keep finish_copies)
  read -r checkpoints longest < <(seconds_in "$trace" checkpoint)
  read -r saving _ < <(seconds_in "$trace" save)
  report "copies in another rank each step, share of the time" "$(calculate "$copies / $steps")" "$copies of $steps s" "<= 0.03"
  report "copies and a checkpoint every other step, share of the time" "$(calculate "($copies + $checkpoints) / $steps")" "" "<= 0.03"
  report "longest wait for a checkpoint, seconds" "$longest" "and $saving s beside" "<= 1"
}

# One step in which all is computed twice among steps in which nothing is, on the processors alone.
bench_verifying() {
  shakespeare_shards || { skip "computing twice" "no $shakespeare"; return; }
  local every one twice
  for _ in 1 2 3; do
    for every in 0 1; do
      "$colossus" train configs/runs/baby.toml --data "$work/shards" --out "$work/verifying" --fresh --set mesh.data="$(nproc)" \
        --set train.threads=1 --set train.steps=3 --set train.batch=16 --set train.microbatch=8 --set train.reduction_leaves=2 --set train.checkpoint_every=0 --set train.evaluate_every=0 \
        --set train.evaluation_tokens=256 --set train.verify_every=$every 2> "$work/log"
      sed -n 's/.*"speed\/step_seconds": *\([0-9.e-]*\).*/\1/p' "$work/verifying/metrics.jsonl" >> "$work/verifying-$every.seconds.new"
    done
  done
  for every in 0 1; do mv "$work/verifying-$every.seconds.new" "$work/verifying-$every.seconds"; done
  one=$(sort -g "$work/verifying-0.seconds" | head -n 1)
  twice=$(sort -g "$work/verifying-1.seconds" | head -n 1)
  report "a step with verify_every = 1 over one without, fastest of 9" "$(calculate "$twice / $one")" "$twice s/step" "<= 2.2"
}

# The ordered sum of gradients against the fastest ring all-reduce.
bench_sums() {
  local json
  "$build/bench/comm_bench" reduce --seconds 1 > "$work/sums.jsonl"
  while read -r json; do
    report "ordered sum, $(field ranks <<< "$json") ranks, $(field kilobytes <<< "$json") kB, speed over the fastest ring" \
      "$(field speed_over_fastest_ring <<< "$json")" "$(field ordered_us <<< "$json") us" ">= 0.95"
  done < "$work/sums.jsonl"
}

# The network model against packets.
bench_packets() {
  [[ -x $build/bench/packet_check ]] || { skip "network by packets" "no ns-3 when it was built"; return; }
  local json
  "$build/bench/packet_check" --seeds 20 --megabytes 1 > "$work/packets.jsonl"
  while read -r json; do
    report "$(sed 's/.*"case": "\([^"]*\)".*/\1/' <<< "$json")" "$(field ours_over_packets <<< "$json")" "of packets' time" ">= 0.85"
  done < "$work/packets.jsonl"
}

# Seconds from the command to the end of the first step of 64 ranks with a model of 0.3M parameters.
many_ranks() {
  local seconds
  seconds=$(/usr/bin/env bash -c 'TIMEFORMAT=%R; time "$@" 2> /dev/null' - "$colossus" train configs/runs/baby.toml --data "$work/shards" \
    --out "$work/many" --fresh --ranks 64 "$@" --set model.num_layers=4 --set model.width=64 --set model.num_heads=4 \
    --set model.num_kv_heads=4 --set model.head_dim=16 --set model.ffn_width=256 --set model.context=64 --set train.batch=128 \
    --set train.microbatch=2 --set train.reduction_leaves=64 --set train.steps=1 --set train.evaluate_every=0 \
    --set train.evaluation_tokens=256 2>&1)
  echo "$seconds" | tail -n 1
}

bench_many() {
  shakespeare_shards || { skip "start of 64 ranks" "no $shakespeare"; return; }
  report "64 ranks along shard: start, one step, end, seconds" "$(many_ranks --set mesh.shard=64)" s "<= 10"
  report "64 ranks along data, tensor and pipeline" \
    "$(many_ranks --set mesh.data=16 --set mesh.tensor=2 --set mesh.pipeline=2)" s "<= 10"
}

for line in train decode tokenizer tokenizers memory start ranks keeping verifying sums packets many race lowest; do
  if wanted $line; then bench_$line; fi
done
echo "held $held, short $short, skipped $skipped"
