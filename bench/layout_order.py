#!/usr/bin/env python3
"""How well the order of runs is foretold: Kendall's tau of seconds per token and GPU, published and predicted.

    bench/layout_order.py [RUNS.csv ERRORS.csv]

A group is all runs of one model on one kind of GPU with products of one width; what differs are layout, size and release.
Pairs closer than 3 % in what was published are left out. Printed: groups, their mean tau, and that of all pairs together;
of all rows and of those only checked.
"""
import collections
import csv
import itertools
import math
import sys

CLOSE = math.log(1.03)


def groups_of(runs, errors, checked_only):
    by_name = {row["name"]: row for row in csv.DictReader(open(runs, newline=""))}
    groups = collections.defaultdict(list)
    for error in csv.DictReader(open(errors, newline="")):
        if error["refused"] or (checked_only and error["used_to_fit"] == "yes"):
            continue
        run = by_name[error["name"]]
        model = tuple(run[column] for column in ("layers", "hidden", "ffn", "heads", "experts"))
        tokens = float(run["global_batch"]) * float(run["seq"]) / float(run["count"])
        seconds = [float(error[column]) / tokens for column in ("published_seconds", "predicted_seconds")]
        groups[model, run["gpu"], error["dtype"]].append(seconds)
    return groups.values()


def tau_of(groups):
    taus, all_pairs = [], [0, 0]
    for runs in groups:
        pairs = [0, 0]
        for (published, predicted), (other_published, other_predicted) in itertools.combinations(runs, 2):
            if abs(math.log(published / other_published)) < CLOSE:
                continue
            pairs[(published - other_published) * (predicted - other_predicted) > 0] += 1
        if sum(pairs):
            taus.append((pairs[1] - pairs[0]) / sum(pairs))
            all_pairs = [a + b for a, b in zip(all_pairs, pairs)]
    return len(taus), sum(taus) / len(taus), (all_pairs[1] - all_pairs[0]) / sum(all_pairs)


def main():
    runs, errors = sys.argv[1:] or ("configs/validation/training_runs.csv", "configs/validation/training_errors.csv")
    for name, checked_only in (("all rows", False), ("only checked", True)):
        count, mean, together = tau_of(groups_of(runs, errors, checked_only))
        print(f"{name}: {count} groups, tau {mean:.2f}; all pairs {together:.2f}")


if __name__ == "__main__":
    main()
