"""Regenerates every golden in goldens/. See README.md.

    python make_goldens.py            # all
    python make_goldens.py forward    # one of: counts forward training muon
"""

import dataclasses
import json
import math
import pathlib
import sys

import numpy as np
import torch

import families
import safetensors_file
from families import Config

GOLDENS = pathlib.Path(__file__).resolve().parent / "goldens"

# Small, but with no two dimensions equal by accident: H*D differs from C except in gpt-2, V and E are odd or prime.
GROK_1 = Config(
    family="grok-1", width=32, num_layers=2, num_heads=6, num_kv_heads=2, head_dim=8, vocab_size=61, context=20,
    expert_width=20, num_experts=5, num_experts_per_token=2, tie_embeddings=True, attn_softcap=4.0,
    embedding_scale=math.sqrt(32), logit_scale=1 / math.sqrt(3),
)  # fmt: skip
GROK_2 = Config(
    family="grok-2", width=32, num_layers=2, num_heads=6, num_kv_heads=2, head_dim=8, vocab_size=61, context=20,
    ffn_width=40, expert_width=20, num_experts=5, num_experts_per_token=2, rope_theta=208533496.0, attn_softcap=4.0,
    router_softcap=3.0, logit_softcap=5.0, embedding_scale=math.sqrt(32), logit_scale=0.5, attn_temperature_len=8,
)  # fmt: skip
GROK_2_AUX = dataclasses.replace(
    GROK_2, num_heads=4, ffn_width=24, expert_width=12, num_experts=3, balance_loss=0.05, z_loss=0.02
)
LLAMA = Config(
    family="llama", width=36, num_layers=2, num_heads=6, num_kv_heads=2, head_dim=8, vocab_size=61, context=20,
    ffn_width=56, rope_theta=500000.0,
)  # fmt: skip
LLAMA_MASKED = dataclasses.replace(LLAMA, window=5, ffn_width=24, tie_embeddings=True)
GPT_2 = Config(
    family="gpt-2", width=32, num_layers=2, num_heads=4, num_kv_heads=4, head_dim=8, vocab_size=61, context=24,
    ffn_width=80, tie_embeddings=True,
)  # fmt: skip

# Where each document of LLAMA_MASKED's two rows begins; one of them is a single token long.
DOCUMENT_BEGINS = [[0, 7, 15], [0, 1, 12]]

TRAIN_LLAMA = Config(
    family="llama", width=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, vocab_size=48, context=16,
    ffn_width=56,
)  # fmt: skip
TRAIN_GROK = Config(
    family="grok-1", width=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, vocab_size=48, context=16,
    expert_width=16, num_experts=4, num_experts_per_token=2, tie_embeddings=True, attn_softcap=30.0,
    embedding_scale=math.sqrt(32), logit_scale=1 / math.sqrt(3), balance_loss=0.01, z_loss=0.001,
)  # fmt: skip
TRAIN_BATCH, TRAIN_STEPS = 4, 100
ADAMW = {"learning_rate": 3e-3, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1}


class Lcg:
    """Numerical Recipes' generator, so that any language can make the same numbers."""

    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state * 1664525 + 1013904223) & 0xFFFFFFFF
        return self.state


def initial_std(config, name, shape):
    """Chosen so that caps act, routing is decided and the loss is far from uniform."""
    part = name.split(".")[-1]
    if part.endswith("_bias"):
        return 0.2
    if part in ("embedding", "position_embedding"):
        return 0.25
    if part == "head":
        return (4.0 if config.logit_softcap else 1.5) / math.sqrt(config.width)
    gain = {"q": 1.8, "k": 1.8, "router": 2.0}.get(part, 1.0)
    return gain / math.sqrt(shape[-2])


def initial_parameters(config, seed, training=False):
    """fp32 NumPy arrays: norms about 1, everything else about 0."""
    rng = np.random.default_rng(seed)
    parameters = {}
    for name, shape in families.parameter_shapes(config).items():
        noise = rng.standard_normal(shape)
        if name.endswith("_norm"):
            value = 1 + 0.2 * noise
        elif training:
            value = noise * (0.25 if name in ("embedding", "head") else 1 / math.sqrt(shape[-2]))
        else:
            value = noise * initial_std(config, name, shape)
        parameters[name] = value.astype(np.float32)
    return parameters


def to_torch(arrays, dtype=torch.float64):
    return {name: torch.tensor(array, dtype=dtype, requires_grad=True) for name, array in arrays.items()}


def metadata(config, **more):
    return {"config": json.dumps(dataclasses.asdict(config)), **{key: json.dumps(value) for key, value in more.items()}}


def document_starts(begins, num_tokens):
    """(B, T): the first row of the document that holds row t."""
    return np.array([[max(b for b in row if b <= t) for t in range(num_tokens)] for row in begins], dtype=np.int32)


class Probes:
    """Keeps what decides whether a golden is worth anything: how hard caps bite, how close routing is to a tie."""

    def __init__(self):
        self.values, self.counts = {}, []

    def __call__(self, name, value):
        if name == "expert_counts":
            self.counts.append(value.numpy())
        else:
            keep = min if name == "router_margin" else max
            self.values[name] = keep(self.values.get(name, value.item()), value.item())


def decided_seed(config, tokens, margin):
    """First seed for which every routing decision has this margin in the logits; a bf16 run must route the same."""
    for seed in range(20000):
        probes = Probes()
        with torch.no_grad():
            families.forward(config, to_torch(initial_parameters(config, seed)), tokens, None, probes)
        if probes.values.get("router_margin", math.inf) > margin:
            return seed
    raise SystemExit(f"no seed below 20000 keeps {config.family} at a routing margin of {margin}")


def forward_golden(name, config, begins=None, batch=2, margin=0.06):
    num_tokens = 20
    rng = np.random.default_rng(7)
    text = rng.integers(0, config.vocab_size, (batch, num_tokens + 1)).astype(np.int32)
    tokens, targets = (torch.tensor(part, dtype=torch.int64) for part in (text[:, :-1], text[:, 1:]))
    starts = None if begins is None else document_starts(begins, num_tokens)
    arrays = initial_parameters(config, decided_seed(config, tokens, margin))
    p, probes = to_torch(arrays), Probes()
    result = families.losses(config, p, tokens, targets, None if starts is None else torch.tensor(starts), probes)
    result.total.backward()

    tensors = {"input.tokens": text[:, :-1], "input.targets": text[:, 1:]}
    if starts is not None:
        tensors["input.document_start"] = starts
    if probes.counts:
        tensors["output.expert_counts"] = np.stack(probes.counts).astype(np.int32)  # (L, E)
    tensors["output.logits"] = result.logits.detach().numpy().astype(np.float32)
    for field in ("total", "cross_entropy", "balance", "z"):
        tensors["output." + field] = np.array([getattr(result, field).item()])
    for parameter, array in arrays.items():
        tensors["param." + parameter] = array
        tensors["grad." + parameter] = p[parameter].grad.numpy().astype(np.float32)
    safetensors_file.write(GOLDENS / f"{name}.safetensors", tensors, metadata(config))
    described = " ".join(f"{key}={value:.3g}" for key, value in probes.values.items())
    print(f"{name}: loss {result.total.item():.6f} {described}", flush=True)
    for key, value in probes.values.items():
        assert not key.endswith("over_cap") or value > 1, f"{name}: {key} is {value}, the cap hardly acts"
    assert float32_error(config, arrays, tokens, targets, starts, tensors) < 5e-6


def float32_error(config, arrays, tokens, targets, starts, tensors):
    """What plain fp32 arithmetic loses against the golden, largest error over largest value, per tensor."""
    p = to_torch(arrays, torch.float32)
    result = families.losses(config, p, tokens, targets, None if starts is None else torch.tensor(starts))
    result.total.backward()
    pairs = {"output.logits": result.logits.detach()} | {"grad." + name: value.grad for name, value in p.items()}
    # A gradient that is zero by symmetry (gpt-2's key bias) is rounding noise in both; hence the floor.
    floor = 1e-2 * max(np.abs(tensors[name]).max() for name in pairs)
    errors = {
        name: np.abs(value.numpy() - tensors[name]).max() / max(np.abs(tensors[name]).max(), floor)
        for name, value in pairs.items()
    }
    worst = max(errors, key=errors.get)
    print(f"  fp32 against fp64: {errors[worst]:.2g} in {worst}")
    return errors[worst]


def learnable_text(config):
    """(steps, B, T+1): three times in four the next token is a function of this one. One draw per token, in order."""
    lcg, V = Lcg(1), config.vocab_size
    text = np.zeros((TRAIN_STEPS, TRAIN_BATCH, config.context + 1), dtype=np.int32)
    for row in text.reshape(-1, config.context + 1):
        for t in range(len(row)):
            draw = lcg.next() >> 16
            row[t] = (5 * row[t - 1] + 7) % V if t > 0 and draw % 4 != 0 else (draw // 4) % V
    return text


def train(config, arrays, text, max_grad_norm, dtype):
    """Returns per-step total loss, cross-entropy, gradient norm before clipping, and the smallest routing margin."""
    p, probes = to_torch(arrays, dtype), Probes()
    groups = [
        {"params": [x for x in p.values() if x.ndim >= 2], "weight_decay": ADAMW["weight_decay"]},
        {"params": [x for x in p.values() if x.ndim < 2], "weight_decay": 0.0},
    ]
    betas = (ADAMW["beta1"], ADAMW["beta2"])
    optimizer = torch.optim.AdamW(groups, lr=ADAMW["learning_rate"], betas=betas, eps=ADAMW["eps"], foreach=False)
    rows = []
    for step in torch.tensor(text, dtype=torch.int64):
        result = families.losses(config, p, step[:, :-1], step[:, 1:], None, probes)
        optimizer.zero_grad()
        result.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(p.values(), max_grad_norm)
        optimizer.step()
        rows.append([result.total.item(), result.cross_entropy.item(), norm.item()])
    return np.array(rows), probes.values.get("router_margin", math.inf), p


def training_golden(name, config, max_grad_norm, num_seeds):
    """Of several seeds, the one whose closest routing decision in the whole run is the clearest."""
    text, best = learnable_text(config), None
    for seed in range(num_seeds):
        arrays = initial_parameters(config, seed, training=True)
        rows, margin, p = train(config, arrays, text, max_grad_norm, torch.float64)
        if best is None or margin > best[0]:
            best = (margin, arrays, rows, p)
    margin, arrays, rows, p = best
    tensors = {"param." + parameter: array for parameter, array in arrays.items()}
    tensors["train.tokens"] = text
    settings = ADAMW | {"max_grad_norm": max_grad_norm}
    for column, key in enumerate(("total", "cross_entropy", "grad_norm")):
        tensors["train." + key] = np.ascontiguousarray(rows[:, column])
    # Final values of the smallest parameters: enough to see a wrong decay, too few to weigh.
    for parameter, value in p.items():
        if value.numel() <= 256:
            tensors["final." + parameter] = value.detach().numpy().astype(np.float32)
    safetensors_file.write(GOLDENS / f"{name}.safetensors", tensors, metadata(config, adamw=settings))
    clipped = int((rows[:, 2] > max_grad_norm).sum())
    print(f"{name}: loss {rows[0, 0]:.4f} -> {rows[-1, 0]:.4f}, {clipped} steps clipped, margin {margin:.2g}")
    assert 0 < clipped < TRAIN_STEPS and rows[-1, 1] < 0.8 * rows[0, 1]
    rows32, _, _ = train(config, arrays, text, max_grad_norm, torch.float32)
    error = np.abs(rows32 / rows - 1)[:, :2].max()
    print(f"  fp32 against fp64: {error:.2g} of the loss")
    assert error < 2e-5


def orthogonalise(matrix, steps=5):
    """Newton-Schulz with the coefficients of Jordan et al. 2024; matrix (..., rows, cols)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if tall else matrix
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def muon_golden():
    """20 steps on single parameters. Gradients are drawn by the LCG, step by step, row-major, one stream per case."""
    settings = {"learning_rate": 0.02, "momentum": 0.95, "iterations": 5, "weight_decay": 0.1, "steps": 20}
    tensors = {}
    shapes = {"wide": (12, 31), "tall": (40, 16), "square": (24, 24), "experts": (3, 20, 13)}
    for seed, (case, shape) in enumerate(shapes.items(), start=1):
        lcg = Lcg(seed)

        def draw():
            flat = [(lcg.next() >> 8) / 2**23 - 1 for _ in range(math.prod(shape))]  # [-1, 1), exact in fp32
            return torch.tensor(flat, dtype=torch.float64).reshape(shape)

        initial, grads = draw(), [draw() for _ in range(settings["steps"])]
        tensors[case + ".initial"] = initial.numpy().astype(np.float32)
        tensors[case + ".first_grad"] = grads[0].numpy().astype(np.float32)
        rows, cols = shape[-2:]
        # Jordan writes weights (out, in) and scales by sqrt(max(1, rows/cols)); the second variant is the same rule
        # read for weights stored (in, out).
        for variant, scale in (("rows_over_cols", rows / cols), ("cols_over_rows", cols / rows)):
            param, momentum = initial.clone(), torch.zeros(shape, dtype=torch.float64)
            for step, grad in enumerate(grads):
                momentum = settings["momentum"] * momentum + grad
                update = orthogonalise(grad + settings["momentum"] * momentum, settings["iterations"])
                param = param * (1 - settings["learning_rate"] * settings["weight_decay"])
                param = param - settings["learning_rate"] * math.sqrt(max(1, scale)) * update
                if step in (0, settings["steps"] - 1):
                    tensors[f"{case}.{variant}.after_{step + 1}"] = param.numpy().astype(np.float32)
    safetensors_file.write(GOLDENS / "muon.safetensors", tensors, {"muon": json.dumps(settings)})
    print("muon:", ", ".join(f"{case} {shape}" for case, shape in shapes.items()))


def check_counts():
    """The published sizes, from the same shape table the goldens use."""
    grok_1 = dataclasses.replace(
        GROK_1, width=6144, num_layers=64, num_heads=48, num_kv_heads=8, head_dim=128, vocab_size=131072,
        expert_width=32768, num_experts=8,
    )  # fmt: skip
    grok_2 = dataclasses.replace(
        GROK_2, width=8192, num_layers=64, num_heads=64, num_kv_heads=8, head_dim=128, vocab_size=131072,
        ffn_width=32768, expert_width=16384, num_experts=8,
    )  # fmt: skip
    llama_3_8b = dataclasses.replace(
        LLAMA, width=4096, num_layers=32, num_heads=32, num_kv_heads=8, head_dim=128, vocab_size=128256,
        ffn_width=14336,
    )  # fmt: skip
    gpt_2 = dataclasses.replace(
        GPT_2, width=768, num_layers=12, num_heads=12, num_kv_heads=12, head_dim=64, vocab_size=50257, context=1024,
        ffn_width=3072,
    )  # fmt: skip
    expected = {
        "grok-1": (grok_1, 315_684_820_992),
        "grok-2": (grok_2, 269_515_497_472),
        "llama-3-8b": (llama_3_8b, 8_030_261_248),
        "gpt-2-124m": (gpt_2, 124_439_808),
    }
    for name, (config, count) in expected.items():
        got = families.parameter_count(config)
        assert got == count, f"{name}: {got:,} parameters, published {count:,}"
        print(f"{name}: {got:,} parameters")


def main(parts):
    torch.set_num_threads(1)
    GOLDENS.mkdir(exist_ok=True)
    if "counts" in parts:
        check_counts()
    if "forward" in parts:
        forward_golden("grok_1", GROK_1)
        forward_golden("grok_2", GROK_2)
        forward_golden("grok_2_aux", GROK_2_AUX)
        forward_golden("llama", LLAMA)
        forward_golden("llama_masked", LLAMA_MASKED, DOCUMENT_BEGINS)
        forward_golden("gpt_2", GPT_2)
    if "training" in parts:
        training_golden("train_llama", TRAIN_LLAMA, max_grad_norm=2.0, num_seeds=1)
        training_golden("train_grok", TRAIN_GROK, max_grad_norm=1.0, num_seeds=24)
    if "muon" in parts:
        muon_golden()
    total = sum(path.stat().st_size for path in GOLDENS.glob("*.safetensors"))
    print(f"goldens: {total:,} bytes")
    assert total < 2_000_000


if __name__ == "__main__":
    main(sys.argv[1:] or ["counts", "forward", "training", "muon"])
