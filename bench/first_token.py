#!/usr/bin/env python3
"""Seconds from somebody else's model on the disk to the first generated token, beside Hugging Face's transformers.

  venv/bin/python bench/first_token.py build/release/bin/colossus TOKENIZER_JSON WORK [GB] [TURNS]

A Llama of random bf16 weights (2 GB: TinyLlama's shape) is written once. Then in turns, each in a process of its own
and timed from its start: `colossus import` and `colossus generate` of the copy; `colossus generate` of the directory as
it lies; transformers, loading in bf16 and in fp32. All write one token after the same prompt, greedily. Files are in the
page cache for all. The Python needs torch and transformers. TOKENIZER_JSON: at most 32,000 tokens. Prints JSON lines;
the fastest of the turns counts. Where a virtual machine hands memory back to its host, fresh pages of a process can cost
ten times what they do otherwise: the first turns show it.
"""
import collections
import json
import os
import shutil
import subprocess
import sys
import time

Times = collections.namedtuple("Times", "seconds processor peak_mb")
PROMPT = "Once upon a time there was"
PEER = """
import sys, torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
tokenizer = PreTrainedTokenizerFast(tokenizer_file=sys.argv[1] + "/tokenizer.json")
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=getattr(torch, sys.argv[2]))
ids = torch.tensor([tokenizer.encode(sys.argv[3])])
with torch.inference_mode():
    out = model.generate(ids, max_new_tokens=1, do_sample=False, pad_token_id=0)
print(int(out[0, -1]))
"""


def write_model(directory, tokenizer, gigabytes):
    import torch
    from safetensors.torch import save_file

    os.makedirs(directory)
    C, F, H, K, D, V = 2048, 5632, 32, 4, 64, 32000
    layer = 2 * (3 * C * F + 2 * C * D * (H + K))
    layers = max(1, round((gigabytes * 1e9 - 4 * V * C) / layer))
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "dtype": "bfloat16",
              "torch_dtype": "bfloat16", "hidden_size": C, "intermediate_size": F, "num_hidden_layers": layers,
              "num_attention_heads": H, "num_key_value_heads": K, "head_dim": D, "vocab_size": V,
              "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
              "tie_word_embeddings": False, "attention_bias": False, "mlp_bias": False}
    generator = torch.Generator().manual_seed(1)

    def matrix(*shape):
        return (torch.randn(*shape, generator=generator) * 0.02).to(torch.bfloat16)

    tensors = {"model.embed_tokens.weight": matrix(V, C), "lm_head.weight": matrix(V, C),
               "model.norm.weight": torch.ones(C, dtype=torch.bfloat16)}
    for i in range(layers):
        at = f"model.layers.{i}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[at + name + ".weight"] = torch.ones(C, dtype=torch.bfloat16)
        for name, shape in (("q", (H * D, C)), ("k", (K * D, C)), ("v", (K * D, C)), ("o", (C, H * D))):
            tensors[at + f"self_attn.{name}_proj.weight"] = matrix(*shape)
        for name, shape in (("gate", (F, C)), ("up", (F, C)), ("down", (C, F))):
            tensors[at + f"mlp.{name}_proj.weight"] = matrix(*shape)
    save_file(tensors, f"{directory}/model.safetensors", metadata={"format": "pt"})
    json.dump(config, open(f"{directory}/config.json", "w"))
    shutil.copy(tokenizer, f"{directory}/tokenizer.json")


def timed(words):
    """Seconds, processor seconds, peak memory, and what a command that must succeed printed."""
    start = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{words}: failed")
    return Times(time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024), out


def main():
    colossus, tokenizer, work = sys.argv[1:4]
    gigabytes = float(sys.argv[4]) if len(sys.argv) > 4 else 2.0
    turns = int(sys.argv[5]) if len(sys.argv) > 5 else 3
    model, ours = f"{work}/model", f"{work}/ours"
    if not os.path.exists(model):
        write_model(model, tokenizer, gigabytes)
    generate = ["--prompt", PROMPT, "--max-tokens", "1", "--temperature", "0", "--json"]
    all_times, tokens = {}, {}

    def record(what, times, token=None):
        all_times.setdefault(what, []).append(times)
        if token is not None:
            tokens[what] = token
        print(json.dumps({"what": what, "seconds": round(times.seconds, 2),
                          "processor_seconds": round(times.processor, 2), "peak_mb": round(times.peak_mb),
                          "token": token}), flush=True)

    timed(["sh", "-c", f"cat '{model}/model.safetensors' > /dev/null"])
    for _ in range(turns):
        times, out = timed([colossus, "generate", model, *generate])
        record("generate as it lies", times, json.loads(out)["tokens"])
        shutil.rmtree(ours, ignore_errors=True)
        imported, _ = timed([colossus, "import", model, ours])
        times, out = timed([colossus, "generate", ours, *generate])
        record("import", imported)
        record("generate of the copy", times, json.loads(out)["tokens"])
        record("import and generate",
               Times(imported.seconds + times.seconds, imported.processor + times.processor,
                     max(imported.peak_mb, times.peak_mb)))
        shutil.rmtree(ours)
        for dtype in ("bfloat16", "float32"):
            times, out = timed([sys.executable, "-c", PEER, model, dtype, PROMPT])
            record("transformers " + dtype, times, [int(out)])
    result = {"bytes": os.path.getsize(f"{model}/model.safetensors"), "tokens": tokens}
    for field in Times._fields:
        best = {what: round(min(getattr(t, field) for t in times), 2) for what, times in all_times.items()}
        peer = min(best["transformers bfloat16"], best["transformers float32"])
        result[field] = best | {"transformers over import and generate": round(peer / best["import and generate"], 2),
                                "transformers over generate as it lies": round(peer / best["generate as it lies"], 2)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
