#!/bin/sh
# Runs the fuzz targets, which `make fuzz` has built (docs/fuzzing.md), and says how it went.
#   scripts/fuzz.sh            all of them, JOBS at a time (default: the cores), FUZZ_SECONDS each (default 1800)
#   ONLY="regex llama2c" scripts/fuzz.sh
# BUILD (default build/fuzz) has the programs in fuzz/. Inputs that do harm are kept in $BUILD/findings/<target>, new
# ones that reach more code in $BUILD/grown/<target>, which the next run begins with. Ends with 1 where there are
# findings. FUZZ_TIMEOUT (default 10 seconds, on the clock of the wall) is for machines that do more than this.
set -eu
cd "$(dirname "$0")/.."

BUILD=${BUILD:-build/fuzz}
FUZZ_SECONDS=${FUZZ_SECONDS:-1800}
JOBS=${JOBS:-$(nproc)}
kept=tests/fuzz/corpus

# A reader may take 64 MiB and twice its input, which the targets check themselves; the limits here are for what gets
# past that, with what the sanitizers need. 1 s for a MiB of input: none here is as long.
run_one() {
  target=$1
  mkdir -p "$BUILD/findings/$target" "$BUILD/grown/$target" "$BUILD/logs"
  "$BUILD/fuzz/${target}_fuzz" -max_total_time="$FUZZ_SECONDS" -max_len=16384 -timeout="${FUZZ_TIMEOUT:-10}" \
    -rss_limit_mb=2048 -malloc_limit_mb=512 -report_slow_units=1000 -print_final_stats=1 \
    -artifact_prefix="$BUILD/findings/$target/" "$BUILD/grown/$target" "$kept/$target" \
    >"$BUILD/logs/$target.log" 2>&1 || true
}

if [ "${1:-}" = --one ]; then
  run_one "$2"
  exit 0
fi

targets=${ONLY:-$(ls $kept)}
for target in $targets; do
  [ -x "$BUILD/fuzz/${target}_fuzz" ] && continue
  echo "fuzz.sh: $BUILD/fuzz/${target}_fuzz is not built: make fuzz" >&2
  exit 2
done
export BUILD FUZZ_SECONDS
echo $targets | tr ' ' '\n' | xargs -P "$JOBS" -n 1 "$0" --one

worst=0
printf '%-20s %12s %8s %9s %9s\n' target runs seconds coverage findings
for target in $targets; do
  log=$BUILD/logs/$target.log
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)
  coverage=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
  seconds=$(sed -n 's/^Done [0-9]* runs in \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
  findings=$(ls "$BUILD/findings/$target" | wc -l)
  # One that ended before its time has found something, also where it could not keep it.
  [ -n "$seconds" ] || worst=1
  [ "$findings" = 0 ] || worst=1
  printf '%-20s %12s %8s %9s %9s\n' "$target" "${runs:--}" "${seconds:-ended}" "${coverage:--}" "$findings"
done
if [ $worst != 0 ]; then
  echo "What was found lies in $BUILD/findings, what was printed in $BUILD/logs; $BUILD/fuzz/<target>_fuzz FILE shows it"
  echo "again."
fi
exit $worst
