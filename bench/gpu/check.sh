#!/bin/bash
# Checks the GPU device on a real GPU: every kernel and whole models against the CPU, twice; then speed, beside PyTorch
# and beside what the machine can do. Under 9 minutes on one H200.
#   FOLDER/check.sh [OUT]      FOLDER: made by scripts/pack_gpu_check.sh; OUT: where results go, default: FOLDER/out
# Needs a driver of CUDA 13, and for the comparison Python 3.12 with PyTorch 2.11. The last lines are a table; OUT has
# results.jsonl (one JSON object for each measurement) and the full logs.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/out}
mkdir -p "$out"
results=$out/results.jsonl
: >"$results"
began=$(date +%s)
export LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export COLOSSUS_SOURCE_DIRECTORY=$here
python=$(command -v python3 || true)
# cuBLAS, cuDNN and NCCL come with PyTorch.
if [[ -n $python ]]; then
  packages=$("$python" - <<'P'
import glob, sysconfig
print(":".join(sorted(glob.glob(sysconfig.get_paths()["purelib"] + "/nvidia/*/lib"))))
P
)
  export LD_LIBRARY_PATH="$LD_LIBRARY_PATH:$packages"
fi

elapsed() { echo $(($(date +%s) - began)); }
say() { echo "[$(elapsed) s] $*"; }
# note NAME JSON: one line of results.jsonl
note() { printf '{"name": "%s", "at_s": %s, "result": %s}\n' "$1" "$(elapsed)" "$2" >>"$results"; }
# measure NAME SECONDS COMMAND...: its last line that is JSON is the result
measure() {
  local name=$1 limit=$2 line
  shift 2
  timeout "$limit" "$@" >"$out/$name.log" 2>&1
  local status=$?
  line=$(grep -E '^\{.*\}$' "$out/$name.log" | tail -n 1)
  if [[ $status -eq 0 && -n $line ]]; then
    note "$name" "$line"
    say "$name: $line"
  else
    note "$name" "{\"failed\": $status}"
    say "$name FAILED ($status): $(tail -n 3 "$out/$name.log" | tr '\n' ' ' | cut -c1-400)"
  fi
}

say "$(uname -srm); $(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null)"
"$here/colossus" devices | tee "$out/devices.log"
if grep -q '^cuda: none' "$out/devices.log"; then
  echo "check.sh: there is no GPU to check" >&2
  exit 1
fi
note devices "\"$(tail -n 1 "$out/devices.log" | tr -d '"')\""

# (a) Right. A process for each suite: one that ends early hides no other.
: >"$out/check.log"
passed=0
failed=0
broken=""
for suite in $("$here/colossus_gpu_check" --gtest_list_tests | grep -E '^[A-Za-z/]+[A-Za-z0-9/_]*\.' | cut -d' ' -f1); do
  log=$out/suite.log
  timeout 120 "$here/colossus_gpu_check" --gtest_brief=1 --gtest_filter="$suite*" >"$log" 2>&1
  status=$?
  cat "$log" >>"$out/check.log"
  good=$(grep -oE 'PASSED  \] [0-9]+' "$log" | grep -oE '[0-9]+' || true)
  passed=$((passed + ${good:-0}))
  failed=$((failed + $(grep -cE '^\[  FAILED  \] [A-Za-z].*\)$' "$log")))
  [[ $status -eq 0 ]] || broken="$broken $suite($status)"
done
rm -f "$out/suite.log"
note correctness "{\"passed\": $passed, \"failed\": $failed, \"suites_with_failures\": \"${broken# }\"}"
say "correctness: passed $passed, failed $failed;${broken:- no suite with failures}"
[[ -z $broken ]] || grep -E 'FAILED|Failure|CHECK|is .*the reference' "$out/check.log" | head -40
if command -v compute-sanitizer >/dev/null; then
  timeout 60 compute-sanitizer --tool memcheck "$here/colossus_gpu_check" \
    --gtest_filter='RmsNorm.*:Matmul.BiasAndAddend:GroupedMatmul.*:HeadCrossEntropy.*' >"$out/memcheck.log" 2>&1
  note memcheck "{\"status\": $?, \"summary\": \"$(grep 'ERROR SUMMARY' "$out/memcheck.log" | tail -n 1)\"}"
  say "memcheck: $(grep 'ERROR SUMMARY' "$out/memcheck.log" | tail -n 1)"
fi

# (b) What the machine can do.
measure ceilings 60 "$here/gpu_ceilings"

# (c) Training steps, ours beside PyTorch's.
models=$here/configs/models
for turn in 1 2; do
  measure "gpt2-124m.colossus.$turn" 60 "$here/train_bench" --device cuda --steps 20 --seconds 4 \
    --model "$models/gpt-2-124m.toml" --tokens 1024 --batch 32 --microbatch 32
  [[ -n $python ]] && measure "gpt2-124m.torch.$turn" 120 "$python" "$here/torch_step.py" --model 124m --batch 32
done
measure gpt2-1558m.colossus 60 "$here/train_bench" --device cuda --steps 20 --seconds 4 \
  --model "$models/gpt-2-1558m.toml" --tokens 1024 --batch 16 --microbatch 16
[[ -n $python ]] && measure gpt2-1558m.torch 150 "$python" "$here/torch_step.py" --model 1558m --batch 16
measure llama-3-8b-8-layers 60 "$here/train_bench" --device cuda --steps 20 --seconds 4 \
  --model "$models/llama-3-8b.toml" --layers 8 --tokens 8192 --batch 4 --microbatch 1 --leaves 1
measure grok-1-1-layer 60 "$here/train_bench" --device cuda --steps 20 --seconds 4 \
  --model "$models/grok-1.toml" --layers 1 --tokens 8192 --batch 4 --microbatch 1 --leaves 1

# Decoding: the shape of an 8B model, random weights.
copy=$(grep -oE '"copy_gb_per_s": [0-9.]+' "$results" | grep -oE '[0-9.]+$' | head -n 1)
for batch in 1 64; do
  measure "decode-8b.batch-$batch" 60 "$here/decode_bench" --device cuda --seconds 4 --batch "$batch" \
    --model "$models/llama-3-8b.toml" --bandwidth "${copy:-4300}"
done

# (d) Where the time goes.
for model in gpt-2-124m:12:1024:32 llama-3-8b:8:8192:1 grok-1:1:8192:1; do
  IFS=: read -r name layers tokens batch <<<"$model"
  timeout 60 "$here/train_bench" --device cuda --steps 5 --seconds 1 --profile --model "$models/$name.toml" \
    --layers "$layers" --tokens "$tokens" --batch "$batch" --microbatch "$batch" >"$out/profile.$name.log" 2>&1
done

say "done"
echo
if [[ -n $python ]]; then
  "$python" "$here/table.py" "$results" "$out"/profile.*.log
else
  for name in gpt-2-124m llama-3-8b grok-1; do
    echo "== $name"
    grep -E '^  ' "$out/profile.$name.log" | sort -k3 -rn | head -14
  done
fi
