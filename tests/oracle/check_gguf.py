"""Holds import and export of GGUF files to llama.cpp and to PyPI's gguf.

    venv/bin/pip install gguf llama-cpp-python safetensors
    venv/bin/python tests/oracle/check_gguf.py build/release/bin/colossus

For each architecture a small random model is written by gguf and imported; llama.cpp, given the same file, must find the
same log-probabilities. Exported again, as fp32, llama.cpp must find them, too, and go on with the same text. Exported as
Q8_0, every block must have the bytes that gguf gives it; imported from Q4_0, Q8_0, Q4_K, Q5_K and Q6_K, every number
must be the one that gguf gives.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import llama_cpp
import numpy as np
from gguf import GGMLQuantizationType as Kind
from safetensors.numpy import load_file

TOLERANCE = 1e-4  # of log-probabilities
GELU_TOLERANCE = 1e-3  # llama.cpp looks gelus up in a table of fp16
TOKENS = [3, 14, 15, 92, 65, 35, 89, 79, 32, 38, 46, 26, 43, 38, 32, 79]
PROMPT = "What is 12 and 3?"
NEW_TOKENS = 24
V, C, L, H, K, CONTEXT = 264, 64, 2, 4, 2, 256
SPECIAL = ["<|bos|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]

# Architecture, what is special about it.
CASES = {
    "gpt2": ("gpt2", {}),
    "llama": ("llama", {}),
    "llama_tied": ("llama", {"tied": True}),
    "llama_3_1": ("llama", {"stretched": True}),
    "mixtral": ("llama", {"experts": 4}),
    "qwen3": ("qwen3", {"head_dim": 32}),
    "qwen3moe": ("qwen3moe", {"head_dim": 32, "experts": 4}),
    "grok_1": ("grok", {"experts": 4}),
}


def byte_alphabet():
    """GPT-2's characters for the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spelled = {byte: chr(byte) for byte in plain}
    for byte in range(256):
        spelled.setdefault(byte, chr(256 + len(spelled) - len(plain)))
    return [spelled[byte] for byte in range(256)]


def add_tokenizer(writer):
    tokens = SPECIAL + byte_alphabet()
    merges = ["i s", "a n", "an d"]
    tokens += [merge.replace(" ", "") for merge in merges]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(4)
    writer.add_add_bos_token(False)
    assert len(tokens) == V


def add_keys(writer, arch, options):
    head_dim = options.get("head_dim", C // H)
    writer.add_block_count(L)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(C)
    writer.add_head_count(H)
    writer.add_feed_forward_length(options.get("ffn", 96))
    if arch == "gpt2":
        writer.add_layer_norm_eps(1e-5)
        return
    writer.add_head_count_kv(K)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(500.0)
    writer.add_rope_dimension_count(head_dim)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_vocab_size(V)
    if "experts" in options:
        writer.add_expert_count(options["experts"])
        writer.add_expert_used_count(2)
        if arch != "llama":
            writer.add_expert_feed_forward_length(48)
    if arch == "grok":
        writer.add_embedding_scale(3.0)
        writer.add_logit_scale(0.25)
        writer.add_attn_logit_softcapping(5.0)
        writer.add_attn_output_scale(head_dim**-0.5)


def tensors_of(arch, options, rng):
    """By their names, as NumPy sees them: (out, in)."""
    D, E, F = options.get("head_dim", C // H), options.get("experts", 0), options.get("ffn", 96)
    tensors = {}

    def matrix(name, *shape, size=1.0):
        tensors[name + ".weight"] = (rng.normal(0, size / shape[-1] ** 0.5, shape)).astype(np.float32)

    def vector(name, count, middle=0.0):
        tensors[name] = (middle + 0.2 * rng.normal(size=count)).astype(np.float32)

    def norm(name, count=C):
        vector(name + ".weight", count, 1.0)
        if arch == "gpt2":
            vector(name + ".bias", count)

    # Where it is the head, too, logits are to be of order one.
    has_head = arch not in ("gpt2", "grok") and not options.get("tied")
    matrix("token_embd", V, C, size=C**0.5 if has_head else 1 if arch == "gpt2" else 2)
    if arch == "gpt2":
        matrix("position_embd", CONTEXT, C, size=0.3 * C**0.5)
    for layer in range(L):
        b = f"blk.{layer}."
        norm(b + "attn_norm")
        if arch == "gpt2":
            for name, out, width in (("attn_qkv", 3 * C, C), ("attn_output", C, C), ("ffn_up", F, C), ("ffn_down", C, F)):
                matrix(b + name, out, width, size=0.5)
                vector(b + name + ".bias", out)
            norm(b + "ffn_norm")
            continue
        matrix(b + "attn_q", H * D, C, size=2)
        matrix(b + "attn_k", K * D, C, size=2)
        matrix(b + "attn_v", K * D, C, size=2)
        matrix(b + "attn_output", C, H * D, size=2)
        if arch.startswith("qwen3"):
            norm(b + "attn_q_norm", D)
            norm(b + "attn_k_norm", D)
        if arch == "grok":
            norm(b + "attn_output_norm")
            norm(b + "layer_output_norm")
        norm(b + "ffn_norm")
        if E:
            matrix(b + "ffn_gate_inp", E, C, size=3)
            inner = F if arch == "llama" else 48
            for name, out, width in (("gate", inner, C), ("up", inner, C), ("down", C, inner)):
                matrix(b + f"ffn_{name}_exps", E, out, width, size=2)
        else:
            for name, out, width in (("gate", F, C), ("up", F, C), ("down", C, F)):
                matrix(b + f"ffn_{name}", out, width, size=2)
    norm("output_norm")
    if has_head:
        matrix("output", V, C, size=2)
    if options.get("stretched"):  # factor 8, slow below 1 turn of 16 tokens, as ever above 4
        frequency = 500.0 ** (-np.arange(0, D, 2) / D)
        share = np.clip((16 * frequency / (2 * np.pi) - 1) / 3, 0, 1)
        tensors["rope_freqs.weight"] = (1 / ((1 - share) / 8 + share)).astype(np.float32)
    return tensors


def write_model(path, arch, options, tensors, add_more=add_tokenizer):
    """`tensors`: name -> array, or (bytes, kind)."""
    writer = gguf.GGUFWriter(path, arch)
    add_keys(writer, arch, options)
    add_more(writer)
    for name, tensor in tensors.items():
        if isinstance(tensor, tuple):
            writer.add_tensor(name, tensor[0], raw_dtype=tensor[1])
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def run(*arguments):
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True)
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout


def log_probabilities(logits):
    logits = np.asarray(logits, dtype=np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def of_colossus(binary, model):
    lines = run(binary, "eval", "logits", model, "--tokens", ",".join(map(str, TOKENS))).splitlines()
    return log_probabilities([json.loads(line) for line in lines])


class LlamaCpp:
    def __init__(self, path):
        f32 = llama_cpp.GGML_TYPE_F32
        self.model = llama_cpp.Llama(str(path), n_ctx=CONTEXT, logits_all=True, type_k=f32, type_v=f32, n_gpu_layers=0,
                                     n_threads=1, flash_attn=False, verbose=False)  # fmt: skip

    def log_probabilities(self):
        self.model.reset()
        self.model.eval(TOKENS)
        return log_probabilities(self.model.scores[: len(TOKENS)])

    def greedy(self):
        ids = self.model.tokenize(PROMPT.encode(), add_bos=False)
        self.model.reset()
        self.model.eval(ids)
        made = []
        for _ in range(NEW_TOKENS):
            made.append(int(np.argmax(self.model.scores[self.model.n_tokens - 1])))
            if made[-1] in (4, 0):
                made.pop()
                break
            self.model.eval(made[-1:])
        return self.model.detokenize(made, special=True)


def greedy_of_colossus(binary, model):
    line = run(binary, "generate", model, "--prompt", PROMPT, "--temperature", "0", "--max-tokens", NEW_TOKENS, "--json")
    return json.loads(line)["text"]


def check_architecture(binary, name, folder):
    arch, options = CASES[name]
    write_model(folder / "theirs.gguf", arch, options, tensors_of(arch, options, np.random.default_rng(7)))
    run(binary, "import", folder / "theirs.gguf", folder / "ours")
    ours, theirs = of_colossus(binary, folder / "ours"), LlamaCpp(folder / "theirs.gguf").log_probabilities()
    run(binary, "export", folder / "ours", "--to", "gguf", "--type", "f32", "--out", folder / "again.gguf")
    again = LlamaCpp(folder / "again.gguf")
    errors = [np.abs(ours - theirs).max(), np.abs(ours - again.log_probabilities()).max()]
    mine, text = greedy_of_colossus(binary, folder / "ours"), again.greedy().decode(errors="replace")
    same = mine.encode(errors="replace").decode(errors="replace") == text
    run(binary, "export", folder / "ours", "--to", "gguf", "--type", "bf16", "--out", folder / "bf16.gguf")
    near = np.abs(ours - LlamaCpp(folder / "bf16.gguf").log_probabilities()).mean()
    print(f"{name:12} import {errors[0]:.1e}  export {errors[1]:.1e}  bf16, on average {near:.1e}  "
          f"text {'same' if same else f'{mine!r} and {text!r}'}")  # fmt: skip
    tolerance = GELU_TOLERANCE if arch in ("gpt2", "grok") else TOLERANCE
    return max(errors) <= tolerance and near < 0.1 and same


def check_quantized_export(binary, folder):
    arch, options = CASES["mixtral"]
    write_model(folder / "theirs.gguf", arch, options, tensors_of(arch, options, np.random.default_rng(8)))
    run(binary, "import", folder / "theirs.gguf", folder / "ours")
    run(binary, "export", folder / "ours", "--to", "gguf", "--type", "q8_0", "--out", folder / "q8.gguf")
    before = {t.name: t for t in gguf.GGUFReader(folder / "theirs.gguf").tensors}
    blocks = 0
    for tensor in gguf.GGUFReader(folder / "q8.gguf").tensors:
        wanted = gguf.quants.quantize(np.array(before[tensor.name].data), tensor.tensor_type)
        assert np.array_equal(tensor.data.view(np.uint8).ravel(), wanted.view(np.uint8).ravel()), tensor.name
        blocks += tensor.tensor_type == Kind.Q8_0
    LlamaCpp(folder / "q8.gguf").log_probabilities()  # it opens
    print(f"q8_0         {blocks} tensors have the bytes of gguf")
    return blocks > 5


def random_blocks(kind, rows, cols, rng):
    """Small scales, so that nothing overflows."""
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (rows * cols // elements, size), dtype=np.uint8)
    for at in {Kind.Q4_K: (0, 2), Kind.Q5_K: (0, 2), Kind.Q6_K: (208,)}[kind]:
        blocks[:, at : at + 2] = rng.normal(0, 1e-3, (len(blocks), 1)).astype(np.float16).view(np.uint8)
    return blocks.reshape(rows, -1)


def check_quantized_import(binary, folder):
    global C
    small, C = C, 256  # rows of whole blocks
    arch, options = "llama", {"ffn": 256}
    rng = np.random.default_rng(9)
    tensors = tensors_of(arch, options, rng)
    kinds = [Kind.Q4_0, Kind.Q8_0, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K]
    wanted = {}
    for i, (name, tensor) in enumerate(list(tensors.items())):
        if tensor.ndim < 2 or "attn_q" in name or "attn_k" in name:  # those are turned
            continue
        kind = kinds[i % len(kinds)]
        known = kind in (Kind.Q4_0, Kind.Q8_0)
        blocks = gguf.quants.quantize(tensor, kind) if known else random_blocks(kind, *tensor.shape, rng)
        tensors[name] = (blocks, kind)
        wanted[name] = (gguf.quants.dequantize(blocks, kind), kind)
    write_model(folder / "theirs.gguf", arch, options, tensors)
    C = small
    run(binary, "import", folder / "theirs.gguf", folder / "ours")
    ours = {}
    for path in sorted((folder / "ours").glob("*.safetensors")):
        ours.update(load_file(path))
    names = {"token_embd.weight": "embedding", "output.weight": "head"}
    seen = set()
    for name, (numbers, kind) in wanted.items():
        if name in names:
            mine = ours[names[name]]
        else:
            _, layer, part, _ = name.split(".")
            part = {"attn_v": "attn.v", "attn_output": "attn.o"}.get(part, part.replace("ffn_", "mlp."))
            mine = ours[f"layers.{layer}.{part}"].T
        assert np.array_equal(np.ascontiguousarray(mine).view(np.uint32), numbers.view(np.uint32)), name
        seen.add(kind.name)
    error = np.abs(of_colossus(binary, folder / "ours") - LlamaCpp(folder / "theirs.gguf").log_probabilities()).mean()
    print(f"import of    {', '.join(sorted(seen))}: the numbers of gguf; beside llama.cpp {error:.1e} on average")
    return len(seen) == len(kinds)


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    good = True
    for name in CASES:
        with tempfile.TemporaryDirectory() as folder:
            good &= check_architecture(binary, name, pathlib.Path(folder))
    for check in (check_quantized_export, check_quantized_import):
        with tempfile.TemporaryDirectory() as folder:
            good &= check(binary, pathlib.Path(folder))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
