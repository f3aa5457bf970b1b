"""Holds families.py against Hugging Face's Llama and GPT-2, fp64: pip install transformers.

Only where the two can say the same thing: no window, no document mask. For Grok there is no second implementation in
transformers to hold against; its two families rest on the description named in families.py.
"""

import json
import pathlib

import torch
import transformers

import families
import safetensors_file

GOLDENS = pathlib.Path(__file__).resolve().parent / "goldens"


def load(name):
    tensors, metadata = safetensors_file.read(GOLDENS / f"{name}.safetensors")
    config = families.Config(**json.loads(metadata["config"]))
    parameters = {
        key.removeprefix("param."): torch.tensor(value, dtype=torch.float64)
        for key, value in tensors.items()
        if key.startswith("param.")
    }
    return config, parameters, torch.tensor(tensors["input.tokens"], dtype=torch.int64)


def llama_model(config, p):
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            hidden_size=config.width, num_hidden_layers=config.num_layers, num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads, head_dim=config.head_dim, vocab_size=config.vocab_size,
            intermediate_size=config.ffn_width, rms_norm_eps=config.norm_eps, tie_word_embeddings=False,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            attn_implementation="eager",
        )
    ).double()  # fmt: skip
    state = {"model.embed_tokens.weight": p["embedding"], "model.norm.weight": p["final_norm"]}
    state["lm_head.weight"] = p["head"]
    names = {
        "attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm",
        "attn.q": "self_attn.q_proj", "attn.k": "self_attn.k_proj", "attn.v": "self_attn.v_proj",
        "attn.o": "self_attn.o_proj", "mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj",
        "mlp.down": "mlp.down_proj",
    }  # fmt: skip
    for i in range(config.num_layers):
        for ours, theirs in names.items():
            value = p[f"layers.{i}.{ours}"]
            state[f"model.layers.{i}.{theirs}.weight"] = value.T if value.ndim == 2 else value
    model.load_state_dict(state)
    # The inverse frequencies are a buffer kept in fp32; in fp64 it is part of the comparison.
    exponent = torch.arange(0, config.head_dim, 2, dtype=torch.float64) / config.head_dim
    model.model.rotary_emb.inv_freq = config.rope_theta**-exponent
    return model


def gpt2_model(config, p):
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            n_embd=config.width, n_layer=config.num_layers, n_head=config.num_heads, vocab_size=config.vocab_size,
            n_positions=config.context, n_inner=config.ffn_width, layer_norm_epsilon=config.norm_eps,
            resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, attn_implementation="eager",
        )
    ).double()  # fmt: skip
    state = {"transformer.wte.weight": p["embedding"], "transformer.wpe.weight": p["position_embedding"]}
    state |= {"transformer.ln_f.weight": p["final_norm"], "transformer.ln_f.bias": p["final_norm_bias"]}
    state["lm_head.weight"] = p["embedding"]
    names = {"attn_norm": "ln_1", "mlp_norm": "ln_2", "attn.o": "attn.c_proj", "mlp.up": "mlp.c_fc"}
    names["mlp.down"] = "mlp.c_proj"
    for i in range(config.num_layers):
        ours, theirs = f"layers.{i}.", f"transformer.h.{i}."
        for a, b in names.items():
            state[theirs + b + ".weight"], state[theirs + b + ".bias"] = p[ours + a], p[ours + a + "_bias"]
        state[theirs + "attn.c_attn.weight"] = torch.cat([p[ours + "attn." + x] for x in "qkv"], dim=1)
        state[theirs + "attn.c_attn.bias"] = torch.cat([p[ours + f"attn.{x}_bias"] for x in "qkv"])
    model.load_state_dict(state)
    return model


def main():
    for name, build in (("llama", llama_model), ("gpt_2", gpt2_model)):
        config, p, tokens = load(name)
        with torch.no_grad():
            theirs = build(config, p).eval()(tokens).logits
            ours, _, _ = families.forward(config, p, tokens)
        error = ((ours - theirs).abs().max() / theirs.abs().max()).item()
        print(f"{name}: largest difference over largest logit {error:.2g}")
        # transformers computes cos and sin (and Llama's norm) in fp32 whatever the model's dtype.
        assert error < (1e-5 if name == "llama" else 1e-12), name


if __name__ == "__main__":
    main()
