#!/bin/bash
# Gathers what bench/gpu/check.sh needs on a machine with a GPU and nothing of ours, in one folder.
#   scripts/pack_gpu_check.sh [FOLDER]     default: build/gpu-check; build/cuda must have been built (make cuda)
# Programs are stripped; libraries of the system lie beside them, but for the C library. cuBLAS is found over there.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-build/gpu-check}
built=build/cuda
programs=("$built/bin/colossus" "$built/bin/colossus_gpu_check" "$built/bench/train_bench" "$built/bench/decode_bench"
  "$built/bench/gpu_ceilings")
for program in "${programs[@]}"; do
  [[ -x $program ]] || { echo "pack_gpu_check.sh: $program is missing; run make cuda" >&2; exit 1; }
done
rm -rf "$folder"
mkdir -p "$folder/lib" "$folder/configs" "$folder/tests/oracle"
for program in "${programs[@]}"; do strip -o "$folder/$(basename "$program")" "$program"; done
# The C library and its kin are the other machine's own; all others travel.
ldd "${programs[@]}" | awk '$3 ~ /^\// {print $3}' | sort -u |
  grep -vE '/(libc|libm|libdl|libpthread|librt|ld-linux.*|libresolv)\.so' | while read -r library; do
  cp -L "$library" "$folder/lib/"
done
cp -r configs/models "$folder/configs/"
cp -r tests/oracle/goldens "$folder/tests/oracle/"
cp bench/gpu/*.sh bench/gpu/*.py "$folder/"
chmod +x "$folder"/*.sh
size=$(du -sm "$folder" | cut -f1)
echo "$folder: $size MiB"
[[ $size -lt 60 ]] || { echo "pack_gpu_check.sh: more than 60 MiB" >&2; exit 1; }
