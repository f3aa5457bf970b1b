#!/usr/bin/env python3
"""What scripts/reader_coverage.sh prints: the lines of the readers' sources, and how many of them the tests ran.

A line counts once, however many copies of it templates and inlining make, and is covered where any copy ran.
"""
import argparse
import collections
import glob
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def fail(message):
    print(f"reader_coverage.py: {message}", file=sys.stderr)
    sys.exit(2)


def listed_readers():
    """The sources of tests/fuzz/readers.txt in its order, as paths in src/; every fuzz target has a row."""
    readers, targets = [], set()
    for line in open(os.path.join(ROOT, "tests/fuzz/readers.txt")):
        if line.startswith("#") or not line.strip():
            continue
        target, sources = line.split(":")
        targets.add(target)
        readers += [source for source in sources.split() if source not in readers]
    built = {os.path.basename(path)[: -len("_fuzz.cc")] for path in glob.glob(f"{ROOT}/tests/fuzz/*_fuzz.cc")}
    if targets != built:
        fail(f"tests/fuzz/readers.txt and tests/fuzz/*_fuzz.cc differ in {sorted(targets ^ built)}: each target needs a "
             "row")
    return readers


def counted_lines(build, readers):
    """{source: {line: times}} of what gcov says of every listed source's object file."""
    lines = {source: collections.defaultdict(int) for source in readers}
    for source in readers:
        if not source.endswith(".cc"):
            continue  # a header's lines are counted in the sources that include it
        counters = glob.glob(f"{build}/CMakeFiles/*/src/{source}.gcda")
        if not counters:
            fail(f"src/{source} has no counters in {build}: no test of reader_tests links it, or the file has "
                 "moved (tests/fuzz/readers.txt)")
        for counter in counters:
            told = subprocess.run(["gcov", "--json-format", "--stdout", counter], capture_output=True, text=True)
            if told.returncode != 0 or not told.stdout:
                fail(f"gcov cannot read {counter}: {told.stderr.strip()}")
            for report in told.stdout.splitlines():
                for file in json.loads(report)["files"]:
                    path = file["file"].partition("/src/")[2]
                    if path not in lines:
                        continue
                    for line in file["lines"]:
                        lines[path][line["line_number"]] += line["count"]
    for source in readers:
        if not lines[source]:
            fail(f"src/{source} has no lines in any counted source (tests/fuzz/readers.txt)")
    return lines


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("build")
    arguments.add_argument("--least", type=float, required=True, help="percent of all lines")
    arguments.add_argument("--least-of-file", type=float, required=True, help="percent of any file's lines")
    arguments.add_argument("--missed", action="store_true", help="name the lines that did not run")
    asked = arguments.parse_args()
    readers = listed_readers()
    lines = counted_lines(asked.build, readers)

    print(f"{'reader':<42}{'lines':>7}{'covered':>9}{'share':>9}")
    low = []
    num_lines = num_covered = 0
    for source in readers:
        missed = sorted(line for line, times in lines[source].items() if times == 0)
        count = len(lines[source])
        covered = count - len(missed)
        num_lines += count
        num_covered += covered
        if 100 * covered < asked.least_of_file * count:
            low.append(source)
        print(f"{source:<42}{count:>7}{covered:>9}{100 * covered / count:>8.1f}%")
        if asked.missed and missed:
            print("   ", " ".join(map(str, missed)))
    print(f"{'all of them':<42}{num_lines:>7}{num_covered:>9}{100 * num_covered / num_lines:>8.1f}%")
    if low:
        print(f"below {asked.least_of_file:g} %: {' '.join(low)}")
    if low or 100 * num_covered < asked.least * num_lines:
        print(f"needed: {asked.least:g} % of all lines, {asked.least_of_file:g} % of each file's; MISSED=1 "
              "scripts/reader_coverage.sh names the lines")
        sys.exit(1)


main()
