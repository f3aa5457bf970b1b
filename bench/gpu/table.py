"""The short table at the end of check.sh: what was measured, beside PyTorch and the machine's own limits.

    python table.py results.jsonl
"""

import json
import statistics
import sys


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


if __name__ == "__main__":
    main()
