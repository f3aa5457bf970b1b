"""The short table at the end of check.sh: what was measured, beside PyTorch and the machine's own limits; then, of each
profile, the kernels that take longest, with their share of the nearer limit: FLOPs over the large product's rate, or bytes
over the large copy's.

    python table.py results.jsonl [profile.NAME.log ...]
"""

import json
import pathlib
import re
import statistics
import sys

KERNEL = re.compile(r"^  (\S+ \S+) +([0-9.]+) % +([0-9.a-z]+) GFLOP/s +([0-9.a-z]+) GB/s$")


def print_kernels(log, ceilings):
    """log: what train_bench --profile printed. Appends nothing; returns the rows for the results."""
    rows = []
    for line in log.read_text().splitlines():
        match = KERNEL.match(line)
        if match:
            share, tflops, gb = float(match[2]), float(match[3]) * 1e-3, float(match[4])
            of = max(tflops / ceilings.get("bf16_tflops", float("inf")), gb / ceilings.get("copy_gb_per_s", float("inf")))
            rows.append({"kernel": match[1], "share_of_step": share / 100, "tflops": tflops, "gb_per_s": gb,
                         "share_of_ceiling": of})
    rows.sort(key=lambda row: -row["share_of_step"])
    print(f"\n== {log.stem.removeprefix('profile.')}: kernels, share of the program's time, of the nearer ceiling")
    for row in rows[:16]:
        print(f"  {row['kernel']:36} {100 * row['share_of_step']:6.2f} % {row['tflops']:8.1f} TFLOP/s "
              f"{row['gb_per_s']:8.1f} GB/s {100 * row['share_of_ceiling']:6.1f} % of the ceiling")
    return rows


def main():
    results = {}
    for line in open(sys.argv[1]):
        entry = json.loads(line)
        results[entry["name"]] = entry["result"]

    def field(names, key):
        values = [results[n][key] for n in names if isinstance(results.get(n), dict) and key in results[n]]
        return statistics.median(values) if values else None

    def row(what, value, bar=""):
        print(f"{what:48} {value:>16} {bar:>12}")

    row("what", "measured", "wanted")
    correctness = results.get("correctness", {})
    row("tests on the GPU: passed, failed", f"{correctness.get('passed', 0)}, {correctness.get('failed', '?')}", "0 failed")
    for key, value in results.get("ceilings", {}).items():
        row(f"ceiling: {key}", f"{value:.1f}")
    for model, ours, theirs, bar in [
        ("GPT-2 124M", ["gpt2-124m.colossus.1", "gpt2-124m.colossus.2"], ["gpt2-124m.torch.1", "gpt2-124m.torch.2"], "1.25"),
        ("GPT-2 1558M", ["gpt2-1558m.colossus"], ["gpt2-1558m.torch"], "1.15"),
    ]:
        a, b = field(ours, "tokens_per_second"), field(theirs, "tokens_per_second")
        row(f"{model}: tokens/s over PyTorch", f"{a / b:.3f}" if a and b else "?", bar)
    for name, bar in [("gpt2-1558m.colossus", "0.55"), ("llama-3-8b-8-layers", "0.62"), ("grok-1-1-layer", "0.52")]:
        share = field([name], "share_of_peak")
        row(f"{name}: share of 989 TFLOP/s", f"{share:.3f}" if share else "?", bar)
    share = field(["decode-8b.batch-1"], "share_of_bandwidth")
    row("decoding 8B, batch 1: share of the copy's bandwidth", f"{share:.3f}" if share else "?", "0.80")
    with open(sys.argv[1], "a") as into:
        for name in sys.argv[2:]:
            log = pathlib.Path(name)
            rows = print_kernels(log, results.get("ceilings", {}))
            into.write(json.dumps({"name": log.stem.replace("profile.", "kernels."), "result": rows}) + "\n")


if __name__ == "__main__":
    main()
