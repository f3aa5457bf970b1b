#!/bin/sh
# Which share of the readers' lines the tests run (docs/fuzzing.md): builds their sources, tests/fuzz/readers.txt, with
# counters into build/coverage, runs the tests that read, and prints a table. Ends with 1 below LEAST percent of all
# lines (default 95) or LEAST_OF_FILE of a file's (default 85), and with 2 where a file was not counted.
#   scripts/reader_coverage.sh             build, run, count
#   MISSED=1 scripts/reader_coverage.sh    and name the lines that no test ran
set -eu
cd "$(dirname "$0")/.."

BUILD=build/coverage
JOBS=${JOBS:-$(nproc)}
cmake --preset coverage >/dev/null
cmake --build $BUILD --parallel "$JOBS" --target reader_tests
# Counters of earlier runs, and of sources that have moved.
find $BUILD -name '*.gcda' -delete

# Each program adds what it counted when it ends.
failed=""
for test in io text data checkpoint convert upstairs fuzz; do
  log=$BUILD/colossus_${test}_test.log
  $BUILD/colossus_${test}_test --gtest_brief=1 >"$log" 2>&1 || failed="$failed $log"
done
if [ -n "$failed" ]; then
  tail -n 5 $failed
  echo "reader_coverage.sh: tests failed ($failed ): the lines that they should have run are not counted" >&2
  exit 2
fi
python3 scripts/reader_coverage.py $BUILD --least "${LEAST:-95}" --least-of-file "${LEAST_OF_FILE:-85}" \
  ${MISSED:+--missed}
