#!/usr/bin/env python3
"""Times steps of `colossus train` on this machine's cores, in many layouts, for `colossus plan --validate` to predict.

  bench/own_runs.py measure build/release/bin/colossus TEXT WORK [TURNS]     all layouts in turns; adds to WORK/seconds.jsonl
  bench/own_runs.py table WORK > configs/validation/own_runs.csv             the fastest step of each
  bench/own_runs.py spread WORK                                              how far the fastest of each turn lie apart

A step of a small model takes 0.2 to 2 s. Where others share the machine single steps differ by half; the fastest of
several turns does not, so that is what counts: turns go through all layouts, so that a bad minute meets all alike. Each
rank has one thread. The columns are those of configs/validation/training_runs.csv and two more: `zero`, what is cut along
the data ranks (0: nothing), and `fit`, whether the row is used to fit the rates of "CPU core" (else it is only checked).
Needs nothing but Python.
"""
import collections
import json
import os
import statistics
import subprocess
import sys

STEPS = 4  # of a run; the first one touches memory for the first time

# layers, hidden, ffn, heads, kv_heads, experts; vocabulary and top-k are the same for all
MODELS = {
    "llama-12m": ("llama", 4, 512, 1408, 8, 4, 0),
    "llama-5m": ("llama", 6, 256, 704, 4, 2, 0),
    "gpt-11m": ("gpt-2", 6, 384, 1536, 6, 6, 0),
    "grok-13m": ("grok-1", 4, 256, 512, 4, 2, 8),
}
VOCABULARY, TOP_K = 512, 2

Run = collections.namedtuple("Run", "model seq batch microbatch zero tp pp vpp cp ep dp recompute fit")


def run(model, seq, batch, microbatch, zero=1, tp=1, pp=1, vpp=1, cp=1, ep=1, dp=1, recompute="none", fit=False):
    return Run(model, seq, batch, microbatch, zero, tp, pp, vpp, cp, ep, dp, recompute, fit)


RUNS = [
    run("llama-12m", 256, 4, 2, fit=True),
    run("llama-12m", 256, 4, 1),
    run("llama-5m", 512, 4, 1, fit=True),
    run("llama-5m", 512, 4, 4, recompute="full"),
    run("gpt-11m", 256, 4, 2, fit=True),
    run("gpt-11m", 256, 8, 8),
    run("grok-13m", 256, 4, 2, fit=True),
    run("grok-13m", 512, 4, 1),
    run("llama-12m", 256, 4, 2, zero=0, dp=2, fit=True),
    run("gpt-11m", 256, 8, 2, zero=1, dp=2),
    run("grok-13m", 256, 8, 2, zero=1, dp=2),
    run("llama-12m", 256, 4, 1, zero=2, dp=2),
    run("llama-12m", 256, 4, 1, zero=3, dp=2),
    run("llama-12m", 256, 4, 2, tp=2, fit=True),
    run("gpt-11m", 256, 4, 2, tp=2),
    run("llama-5m", 512, 4, 2, cp=2),
    run("gpt-11m", 256, 8, 1, pp=2),
    run("llama-12m", 256, 8, 1, pp=2, vpp=2),
    run("grok-13m", 256, 8, 2, ep=2, dp=2),
    run("llama-12m", 256, 4, 1, zero=0, tp=2, dp=2),
    run("llama-12m", 256, 8, 1, pp=4),
    run("grok-13m", 256, 8, 1, ep=4, dp=4),
    run("gpt-11m", 256, 8, 1, zero=2, dp=4),
    run("gpt-11m", 256, 8, 1, tp=2, pp=2, dp=2),
    run("grok-13m", 256, 8, 1, pp=2, ep=2, dp=4),
    run("llama-5m", 256, 16, 1, dp=8),
]


def ranks_of(r):
    return r.tp * r.pp * r.cp * r.dp


def name_of(r):
    axes = [f"{axis}{size}" for axis, size in (("tp", r.tp), ("pp", r.pp), ("vpp", r.vpp), ("cp", r.cp), ("ep", r.ep), ("dp", r.dp))
            if size > 1]
    if r.dp > 1:
        axes.append(f"zero{r.zero}")
    if r.recompute != "none":
        axes.append(r.recompute)
    return "-".join([r.model, f"s{r.seq}", f"b{r.batch}x{r.microbatch}"] + (axes or ["one"]))


def settings(r):
    family, layers, hidden, ffn, heads, kv_heads, experts = MODELS[r.model]
    dense = experts == 0
    leaves = r.batch // r.microbatch if r.zero > 1 else r.dp
    values = {
        "model.family": family, "model.num_layers": layers, "model.width": hidden, "model.num_heads": heads,
        "model.num_kv_heads": kv_heads, "model.head_dim": hidden // heads, "model.ffn_width": ffn if dense else 0,
        "model.num_experts": experts, "model.num_experts_per_token": TOP_K, "model.expert_width": ffn,
        "model.activation": "silu" if family == "llama" else "gelu_tanh",
        "model.biases": "true" if family == "gpt-2" else "false", "model.vocab_size": VOCABULARY,
        "model.tie_embeddings": "false", "model.context": r.seq, "optimizer.kind": "adamw",
        "train.tokens": r.seq, "train.batch": r.batch, "train.microbatch": r.microbatch, "train.recompute": r.recompute,
        "train.reduction_leaves": leaves, "train.steps": STEPS, "train.threads": 1, "train.compute": "f32",
        "train.evaluate_every": 0, "train.evaluation_tokens": r.seq, "train.checkpoint_every": 0,
        "train.balance_every": 0, "mesh.tensor": r.tp, "mesh.context": r.cp, "mesh.pipeline": r.pp, "mesh.expert": r.ep,
        "mesh.data": r.dp if r.zero == 0 else 1, "mesh.shard": 1 if r.zero == 0 else r.dp,
        "mesh.zero_stage": max(1, r.zero),
    }
    if r.vpp > 1:
        values.update({"mesh.chunks": r.vpp, "mesh.schedule": "interleaved"})
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


def make_shards(colossus, text, work):
    shards = os.path.join(work, "shards")
    if not os.path.exists(os.path.join(shards, "index.json")):
        tokenizer = os.path.join(work, "char.json")
        for words in (["tokenizer", "train", "--kind", "char", "--out", tokenizer, text],
                      ["data", "build", "--tokenizer", tokenizer, "--out", shards, text]):
            subprocess.run([colossus] + words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return shards


def measure(colossus, text, work, turns):
    os.makedirs(work, exist_ok=True)
    shards = make_shards(colossus, text, work)
    for turn in range(turns):
        for r in RUNS:
            out = os.path.join(work, "run")
            done = subprocess.run([colossus, "train", "--data", shards, "--out", out, "--fresh"] + settings(r),
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            if done.returncode != 0:
                sys.exit(f"{name_of(r)}: {done.stderr[-2000:]}")
            with open(os.path.join(out, "metrics.jsonl")) as lines:
                seconds = [json.loads(line)["speed/step_seconds"] for line in lines if "speed/step_seconds" in line]
            with open(os.path.join(work, "seconds.jsonl"), "a") as log:
                print(json.dumps({"name": name_of(r), "turn": turn, "seconds": seconds}), file=log)
            print(f"turn {turn + 1}: {name_of(r):44} {min(seconds):7.3f} s", flush=True)


def read_seconds(work):
    """By run: the fastest step of each turn, the first of each run left out."""
    seconds = collections.defaultdict(list)
    with open(os.path.join(work, "seconds.jsonl")) as lines:
        for line in lines:
            entry = json.loads(line)
            seconds[entry["name"]].append(min(entry["seconds"][1:]))
    return seconds


def table(work):
    seconds = read_seconds(work)
    print("source,name,gpu,count,tp,pp,vpp,cp,ep,dp,zero,micro_batch,global_batch,seq,layers,hidden,ffn,heads,kv_heads,vocab,"
          "experts,topk,dtype,recompute,step_seconds,fit,verified")
    for r in RUNS:
        _, layers, hidden, ffn, heads, kv_heads, experts = MODELS[r.model]
        own = seconds[name_of(r)]
        print(",".join(str(field) for field in (
            "colossus", name_of(r), "CPU core", ranks_of(r), r.tp, r.pp, r.vpp, r.cp, r.ep, r.dp, r.zero, r.microbatch,
            r.batch, r.seq, layers, hidden, ffn, heads, kv_heads, VOCABULARY, max(1, experts), TOP_K if experts else 1, "fp32",
            r.recompute, f"{min(own):.4f}", "yes" if r.fit else "no", f"fastest of {len(own)} turns")))


def spread(work):
    for name, own in read_seconds(work).items():
        fastest = sorted(own)
        second = fastest[1] / fastest[0] - 1 if len(fastest) > 1 else 0
        print(f"{name:44} fastest {fastest[0]:.3f} s, second {100 * second:+.1f} %, median "
              f"{100 * (statistics.median(fastest) / fastest[0] - 1):+.1f} % of {len(fastest)}")


def main(words):
    if len(words) >= 4 and words[0] == "measure":
        measure(words[1], words[2], words[3], int(words[4]) if len(words) > 4 else 5)
    elif len(words) == 2 and words[0] in ("table", "spread"):
        {"table": table, "spread": spread}[words[0]](words[1])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
