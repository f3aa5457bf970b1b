"""Holds import and export to Hugging Face's transformers.

    venv/bin/pip install torch transformers safetensors
    venv/bin/python tests/oracle/check_conversions.py build/release/bin/colossus

For each family a small random model is saved by transformers, imported and compared (logits in fp32), exported again and
compared tensor by tensor (bytes) and as transformers loads it.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers
from safetensors import safe_open

TOLERANCE = 1e-5  # absolute, of logits of order one
TOKENS = [3, 14, 15, 9, 26, 5, 35, 8, 9, 7, 9, 3, 2, 38, 4, 6]
SMALL = dict(
    vocab_size=61, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=64, initializer_range=0.3,
)  # fmt: skip


def cases():
    t = transformers
    yield "gpt2", t.GPT2Config(
        vocab_size=61, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.2, bos_token_id=0, eos_token_id=0
    ), t.GPT2LMHeadModel  # fmt: skip
    yield "llama", t.LlamaConfig(**SMALL, intermediate_size=56), t.LlamaForCausalLM
    yield "llama_tied", t.LlamaConfig(**SMALL, intermediate_size=56, tie_word_embeddings=True), t.LlamaForCausalLM
    scaled = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 16}  # fmt: skip
    yield "llama_3_1", t.LlamaConfig(**SMALL, intermediate_size=56, rope_parameters=scaled), t.LlamaForCausalLM
    yield "mistral", t.MistralConfig(**SMALL, intermediate_size=56, sliding_window=5), t.MistralForCausalLM
    yield "mixtral", t.MixtralConfig(
        **SMALL, intermediate_size=24, num_local_experts=4, num_experts_per_tok=2
    ), t.MixtralForCausalLM
    yield "qwen3", t.Qwen3Config(**SMALL, intermediate_size=56, head_dim=16), t.Qwen3ForCausalLM
    for norm in (False, True):
        yield f"qwen3_moe_{norm}", t.Qwen3MoeConfig(
            **SMALL, head_dim=16, intermediate_size=56, moe_intermediate_size=24, num_experts=4, num_experts_per_tok=2,
            norm_topk_prob=norm, decoder_sparse_step=1,
        ), t.Qwen3MoeForCausalLM  # fmt: skip


def run(*arguments):
    return subprocess.run([str(a) for a in arguments], check=True, capture_output=True, text=True).stdout


def our_logits(binary, model):
    lines = run(binary, "eval", "logits", model, "--tokens", ",".join(map(str, TOKENS))).splitlines()
    return torch.tensor([json.loads(line) for line in lines])


def their_logits(model):
    with torch.no_grad():
        return model.eval()(torch.tensor([TOKENS])).logits[0].float()


def tensors_of(directory):
    found = {}
    for path in sorted(pathlib.Path(directory).glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            found.update({name: file.get_tensor(name) for name in file.keys()})
    return found


def check(binary, name, config, model_class, dtype, folder):
    torch.manual_seed(1)
    model = model_class(config).to(dtype)
    # Norms and biases begin as ones and zeros, which would hide a wrong order.
    for tensor in model.parameters():
        if tensor.dim() == 1:
            tensor.data += 0.2 * torch.randn_like(tensor)
    theirs, ours, again = folder / "theirs", folder / "ours", folder / "again"
    model.save_pretrained(theirs)
    run(binary, "import", theirs, ours)
    expected = their_logits(model.float())
    error = (our_logits(binary, ours) - expected).abs().max().item()
    run(binary, "export", ours, "--to", "hf", "--out", again)
    before, after = tensors_of(theirs), tensors_of(again)
    assert before.keys() == after.keys(), (before.keys() ^ after.keys())
    for key, tensor in before.items():
        assert tensor.dtype == after[key].dtype and torch.equal(tensor, after[key]), key
    (again / "config.json").unlink()  # ours must do as well: without the one that was carried it is made
    manifest_free = folder / "made"
    run(binary, "import", theirs, folder / "bare")
    run(binary, "export", folder / "bare", "--to", "hf", "--out", manifest_free)
    loaded = model_class.from_pretrained(manifest_free, dtype=torch.float32)
    export_error = (their_logits(loaded) - expected).abs().max().item()
    print(f"{name:16} {str(dtype)[6:]:9} largest logit {expected.abs().max().item():6.2f}  import {error:.1e}  export {export_error:.1e}")
    return error <= TOLERANCE * max(1.0, expected.abs().max().item()) and export_error == 0


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    good = True
    for name, config, model_class in cases():
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            with tempfile.TemporaryDirectory() as folder:
                good &= check(binary, name, config, model_class, dtype, pathlib.Path(folder))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
