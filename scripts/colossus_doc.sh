#!/bin/bash
# Computes the numbers of docs/colossus.md anew: each line of the file it writes is a command and its answer.
#   scripts/colossus_doc.sh                  all, into out/colossus.jsonl; some minutes on two idle cores
#   scripts/colossus_doc.sh how-long grow    some: how-long batch h200 useful grow failures build
#   scripts/colossus_doc.sh layouts          finds the layouts that these are asked of: scripts/colossus_layouts.sh
#   COLOSSUS=binary   RESULTS=file   RUNS=n (plays of each run; 100)
set -euo pipefail
cd "$(dirname "$0")/.."

colossus=${COLOSSUS:-build/release/bin/colossus}
results=${RESULTS:-out/colossus.jsonl}
runs=${RUNS:-100}
parts=("$@")
clusters=configs/clusters

# Layouts that `colossus plan` finds, the fastest first, as words for --layout: a line each.
found() {
  "$colossus" plan --model "configs/models/$1.toml" --cluster "$clusters/$2.toml" --seq 8192 --batch-tokens "$3" --top 24 --csv |
    awk -F, 'NR == 1 { for (i = 1; i <= NF; ++i) name[i] = $i }
             NR > 1 { words = ""
                      for (i = 1; i <= NF && name[i] != "gpus"; ++i)
                        if ($i != 1 && $i != "" && $i != "none")
                          words = words " " (name[i] == "data" ? "shard" : name[i]) "=" $i
                      print substr(words, 2) }'
}
# Of these the fastest one with all GPUs: the search's data axes are powers of two, which leave some out.
fastest() {
  local model=$1 cluster=$2 batch=$3 words axis best=0 best_words rate
  while read -r words; do
    local options=()
    for axis in $words; do options+=(--layout "$axis"); done
    rate=$("$colossus" simulate --model "configs/models/$model.toml" --cluster "$clusters/$cluster.toml" --seq 8192 \
      --batch-tokens "$batch" "${options[@]}" --all-gpus --days 1 --runs 1 --json |
      sed -E 's/.*"step_tokens": ([^,]*),.*"played_step_seconds": ([^,]*),.*/\1 \2/' | awk '{ printf "%.0f", $1 / $2 }')
    ((rate <= best)) || { best=$rate best_words=$words; }
  done < <(found "$model" "$cluster" "$batch")
  echo "$best_words"
}
if [[ ${parts[*]} == layouts ]]; then
  found=scripts/colossus_layouts.sh
  {
    echo '# Read by colossus_doc.sh, and written by it: of the layouts that `colossus plan` finds, the fastest with all GPUs.'
    for model in grok-1 grok-2 grok-2-times-10; do
      for entry in "h100-15k 16M" "colossus-100k-h100 64M" "colossus-200k 128M"; do
        read -r cluster batch <<< "$entry"
        printf 'layout["%s %s"]="%s"\n' "$model" "$cluster" "$(fastest "$model" "$cluster" "$batch")"
      done
    done
  } > "$found.new"
  mv "$found.new" "$found"
  exit
fi

mkdir -p "$(dirname "$results")"
((${#parts[@]} > 0)) || { parts=(how-long batch h200 useful grow failures build); : > "$results"; }

wanted() { [[ " ${parts[*]} " == *" $1 "* ]]; }
escape() { sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' | sed -e ':join' -e 'N' -e '$!b join' -e 's/\n/\\n/g'; }
# ask question words...: what `colossus simulate words... --json` says.
ask() {
  local question=$1 answer
  shift
  answer=$("$colossus" simulate "$@" --runs "$runs" --json)
  printf '{"question": "%s", "command": "colossus simulate %s", "answer": %s}\n' "$question" "$*" "$answer" |
    tee -a "$results" | cut -c 1-200
}
# say question words...: the text of `colossus words...`.
say() {
  local question=$1 text
  shift
  text=$("$colossus" "$@" | escape)
  printf '{"question": "%s", "command": "colossus %s", "text": "%s"}\n' "$question" "$*" "$text" |
    tee -a "$results" | cut -c 1-200
}

declare -A layout=()
source scripts/colossus_layouts.sh
layout_words() { for axis in ${layout[$1 $2]}; do printf -- '--layout %s ' "$axis"; done; }
# run question model cluster batch more...
run() {
  local question=$1 model=$2 cluster=$3 batch=$4
  shift 4
  # shellcheck disable=SC2046
  ask "$question" --model "configs/models/$model.toml" --cluster "$clusters/$cluster.toml" --seq 8192 \
    --batch-tokens "$batch" $(layout_words "$model" "$cluster") --all-gpus "$@"
}

if wanted how-long; then
  for entry in "grok-1 6T" "grok-2 6T" "grok-2-times-10 18.4T"; do
    read -r model tokens <<< "$entry"
    run how-long "$model" h100-15k 16M --tokens "$tokens"
    run how-long "$model" colossus-100k-h100 64M --tokens "$tokens"
    run how-long "$model" colossus-200k 128M --tokens "$tokens"
  done
fi
if wanted batch; then
  # The same batch on twice the machine.
  run batch grok-1 colossus-200k 64M --tokens 6T
fi
if wanted h200; then
  for bytes in 2 1; do
    for model in grok-1 grok-2; do
      run h200 "$model" colossus-200k 128M --decode 8k --decode-weight-bytes "$bytes" --days 1
    done
  done
fi
if wanted useful; then
  run useful grok-1 colossus-100k-h100 64M --days 10 --sensitivity
  run useful grok-1 colossus-200k 128M --days 30
  run useful grok-1 h100-15k 16M --days 30
fi
if wanted grow; then
  run grow grok-1 colossus-100k-h100 64M --days 184 --grow 'day 92: +50000 h100, +50000 h200'
  run grow grok-1 colossus-100k-h100 128M --days 184 --grow 'day 92: +50000 h100, +50000 h200'
fi
if wanted failures; then
  for failures in none measured 8 configs/clusters/parts/failures-rsc-1.toml; do
    run failures grok-1 colossus-100k-h100 64M --days 30 --failures "$failures"
  done
  for spares in 0 0.5% 1% 1.7% 5%; do
    run spares grok-1 colossus-100k-h100 64M --days 30 --spares "$spares"
  done
fi
if wanted build; then
  say build plan --build $clusters/colossus-100k-h100.toml
  say build plan --build $clusters/colossus-100k-h100.toml --racks-per-day 40
  say build plan --build $clusters/colossus-100k-h100.toml --gpus 25600
fi
