"""The model families in fp64 PyTorch, as plain functions over a dict of named parameters.

Written for reading against the papers, not for speed: every expert sees every token, every score is stored.
Weights are stored (in, out) and applied as x @ W; embedding and head are (V, C).
Letters: B batch, T tokens, C width, H heads, K key/value heads, D head width, F feed-forward width, E experts,
V vocabulary, L layers.

Sources: xai-org/grok-1 (model.py) for Grok-1; the published config of Grok-2 with SGLang's grok.py for Grok-2;
arXiv:2307.09288 and arXiv:2407.21783 for Llama 2 and 3; the GPT-2 report (Radford et al. 2019) for GPT-2;
arXiv:2101.03961 (equation 4) for the balancing loss, arXiv:2202.08906 (equation 5) for the z-loss.
"""

import dataclasses
import math

import torch


@dataclasses.dataclass
class Config:
    family: str  # grok-1, grok-2, llama, gpt-2
    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    context: int
    ffn_width: int = 0  # dense feed-forward; grok-1 has none
    expert_width: int = 0
    num_experts: int = 0
    num_experts_per_token: int = 0
    tie_embeddings: bool = False
    rope_theta: float = 10000.0  # not used by gpt-2
    attn_softcap: float = 0.0  # 0 switches a cap off
    router_softcap: float = 0.0
    logit_softcap: float = 0.0
    embedding_scale: float = 1.0
    logit_scale: float = 1.0
    norm_eps: float = 1e-5
    attn_temperature_len: int = 0  # 0 switches it off
    window: int = 0  # positions a token sees, itself included; 0 is all
    balance_loss: float = 0.0
    z_loss: float = 0.0

    @property
    def is_grok(self):
        return self.family in ("grok-1", "grok-2")


def parameter_shapes(config):
    """Name -> shape, in the order of the forward pass."""
    C, V, F, E = config.width, config.vocab_size, config.ffn_width, config.num_experts
    q_width, kv_width = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    biased = config.family == "gpt-2"
    shapes = {"embedding": (V, C)}
    if biased:
        shapes["position_embedding"] = (config.context, C)

    def add(name, *shape):
        shapes[name] = shape
        if biased:
            shapes[name + "_bias"] = shape[-1:]

    for i in range(config.num_layers):
        layer = f"layers.{i}."
        add(layer + "attn_norm", C)
        add(layer + "attn.q", C, q_width)
        add(layer + "attn.k", C, kv_width)
        add(layer + "attn.v", C, kv_width)
        add(layer + "attn.o", q_width, C)
        if config.is_grok:
            add(layer + "attn_post_norm", C)
        add(layer + "mlp_norm", C)
        if config.is_grok:
            add(layer + "moe.router", C, E)
            add(layer + "moe.gate", E, C, config.expert_width)
            add(layer + "moe.up", E, C, config.expert_width)
            add(layer + "moe.down", E, config.expert_width, C)
        if config.family != "grok-1":
            if config.family != "gpt-2":
                add(layer + "mlp.gate", C, F)
            add(layer + "mlp.up", C, F)
            add(layer + "mlp.down", F, C)
        if config.is_grok:
            add(layer + "mlp_post_norm", C)
    add("final_norm", C)
    if not config.tie_embeddings:
        shapes["head"] = (V, C)
    return shapes


def parameter_count(config):
    return sum(math.prod(shape) for shape in parameter_shapes(config).values())


def softcap(x, cap):
    return cap * torch.tanh(x / cap) if cap else x


def rms_norm(x, scale, eps):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * scale


def layer_norm(x, scale, bias, eps):
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred * centred).mean(-1, keepdim=True)
    return centred / torch.sqrt(variance + eps) * scale + bias


def gelu_tanh(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def silu(x):
    return x / (1 + torch.exp(-x))


def rope(x, theta):
    """Rotate-half: dimension d turns with dimension d + D/2. x (B, T, heads, D); row t is position t."""
    num_tokens, head_dim = x.shape[1], x.shape[3]
    exponent = torch.arange(0, head_dim, 2, dtype=x.dtype) / head_dim
    angle = torch.arange(num_tokens, dtype=x.dtype)[:, None] * theta**-exponent  # (T, D/2)
    cos, sin = angle.cos()[:, None, :], angle.sin()[:, None, :]
    low, high = x.chunk(2, dim=-1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], dim=-1)


def visible(num_tokens, window, document_start):
    """(1 or B, T, T) bool: may the token in row t look at column s."""
    t = torch.arange(num_tokens)[:, None]
    s = torch.arange(num_tokens)[None, :]
    mask = s <= t
    if window:
        mask = mask & (s > t - window)
    mask = mask[None]
    if document_start is not None:
        mask = mask & (s[None] >= document_start[:, :, None])
    return mask


def attention(config, p, layer, x, document_start, probe):
    B, T, _ = x.shape
    H, K, D = config.num_heads, config.num_kv_heads, config.head_dim

    def project(name, heads):
        y = x @ p[layer + name]
        if layer + name + "_bias" in p:
            y = y + p[layer + name + "_bias"]
        return y.reshape(B, T, heads, D)

    q, k, v = project("attn.q", H), project("attn.k", K), project("attn.v", K)
    if config.family != "gpt-2":
        q, k = rope(q, config.rope_theta), rope(k, config.rope_theta)
    k = k.repeat_interleave(H // K, dim=2)  # query head i reads key/value head i / (H/K)
    v = v.repeat_interleave(H // K, dim=2)
    scores = torch.einsum("bthd,bshd->bhts", q, k) / math.sqrt(D)
    if config.attn_softcap:
        probe("attn_score_over_cap", scores.detach().abs().amax() / config.attn_softcap)
    scores = softcap(scores, config.attn_softcap)
    if config.attn_temperature_len:
        # After the cap, so capped scores may leave the cap's range; positions up to the length keep factor 1.
        position = torch.arange(T, dtype=x.dtype)
        factor = torch.log2(position.clamp(min=1)) / math.log2(config.attn_temperature_len)
        factor = torch.where(position > config.attn_temperature_len, factor, torch.ones_like(factor))
        scores = scores * factor[None, None, :, None]
    mask = visible(T, config.window, document_start)[:, None]
    weights = torch.softmax(scores.masked_fill(~mask, -math.inf), dim=-1)
    out = torch.einsum("bhts,bshd->bthd", weights, v).reshape(B, T, H * D) @ p[layer + "attn.o"]
    return out + p[layer + "attn.o_bias"] if layer + "attn.o_bias" in p else out


def mixture(config, p, layer, x, probe):
    """Top-k of the softmax over all experts, gates as they come (not renormalised), no token dropped.

    Returns the mixed output and the two auxiliary terms, without their coefficients.
    """
    E, k = config.num_experts, config.num_experts_per_token
    raw = x @ p[layer + "moe.router"]
    if config.router_softcap:
        probe("router_logit_over_cap", raw.detach().abs().amax() / config.router_softcap)
    logits = softcap(raw, config.router_softcap)  # (B, T, E); these, after the cap, also make the z-loss
    probabilities = torch.softmax(logits, dim=-1)
    ranked = logits.detach().sort(dim=-1, descending=True).values
    probe("router_margin", (ranked[..., k - 1] - ranked[..., k]).amin())
    chosen = probabilities.topk(k, dim=-1).indices
    assigned = torch.nn.functional.one_hot(chosen, E).sum(-2)  # (B, T, E), k ones per token
    probe("expert_counts", assigned.sum((0, 1)))
    gates = probabilities * assigned

    hidden = gelu_tanh(torch.einsum("btc,ecf->btef", x, p[layer + "moe.gate"]))
    hidden = hidden * torch.einsum("btc,ecf->btef", x, p[layer + "moe.up"])
    y = torch.einsum("btef,efc,bte->btc", hidden, p[layer + "moe.down"], gates)

    fraction = assigned.to(x.dtype).mean((0, 1)) / k
    balance = E * (fraction * probabilities.mean((0, 1))).sum()
    z = (torch.logsumexp(logits, dim=-1) ** 2).mean()
    return y, balance, z


def gated_mlp(p, layer, x, activation):
    return (activation(x @ p[layer + "mlp.gate"]) * (x @ p[layer + "mlp.up"])) @ p[layer + "mlp.down"]


def grok_layer(config, p, layer, h, document_start, probe):
    def norm(name, x):
        return rms_norm(x, p[layer + name], config.norm_eps)

    a = attention(config, p, layer, norm("attn_norm", h), document_start, probe)
    h = h + norm("attn_post_norm", a)
    x = norm("mlp_norm", h)
    y, balance, z = mixture(config, p, layer, x, probe)
    if config.family == "grok-2":
        y = (y + gated_mlp(p, layer, x, gelu_tanh)) / math.sqrt(2)
    return h + norm("mlp_post_norm", y), balance, z


def llama_layer(config, p, layer, h, document_start, probe):
    x = rms_norm(h, p[layer + "attn_norm"], config.norm_eps)
    h = h + attention(config, p, layer, x, document_start, probe)
    x = rms_norm(h, p[layer + "mlp_norm"], config.norm_eps)
    return h + gated_mlp(p, layer, x, silu)


def gpt2_layer(config, p, layer, h, document_start, probe):
    def norm(name, x):
        return layer_norm(x, p[layer + name], p[layer + name + "_bias"], config.norm_eps)

    h = h + attention(config, p, layer, norm("attn_norm", h), document_start, probe)
    hidden = gelu_tanh(norm("mlp_norm", h) @ p[layer + "mlp.up"] + p[layer + "mlp.up_bias"])
    return h + hidden @ p[layer + "mlp.down"] + p[layer + "mlp.down_bias"]


def forward(config, p, tokens, document_start=None, probe=lambda name, value: None):
    """tokens (B, T) int64 -> logits (B, T, V), and the balancing and z terms summed over layers."""
    h = p["embedding"][tokens] * config.embedding_scale
    if config.family == "gpt-2":
        h = h + p["position_embedding"][: tokens.shape[1]]
    balance = z = torch.zeros((), dtype=h.dtype)
    for i in range(config.num_layers):
        layer = f"layers.{i}."
        if config.is_grok:
            h, layer_balance, layer_z = grok_layer(config, p, layer, h, document_start, probe)
            balance, z = balance + layer_balance, z + layer_z
        elif config.family == "llama":
            h = llama_layer(config, p, layer, h, document_start, probe)
        else:
            h = gpt2_layer(config, p, layer, h, document_start, probe)
    if config.family == "gpt-2":
        h = layer_norm(h, p["final_norm"], p["final_norm_bias"], config.norm_eps)
    else:
        h = rms_norm(h, p["final_norm"], config.norm_eps)
    head = p["embedding"] if config.tie_embeddings else p["head"]
    logits = h @ head.T * config.logit_scale
    if config.logit_softcap:
        probe("logit_over_cap", logits.detach().abs().amax() / config.logit_softcap)
    return softcap(logits, config.logit_softcap), balance, z


@dataclasses.dataclass
class Losses:
    logits: torch.Tensor  # (B, T, V)
    total: torch.Tensor
    cross_entropy: torch.Tensor  # mean over all tokens
    balance: torch.Tensor  # summed over layers, without the coefficient
    z: torch.Tensor


def losses(config, p, tokens, targets, document_start=None, probe=lambda name, value: None):
    logits, balance, z = forward(config, p, tokens, document_start, probe)
    log_probabilities = torch.log_softmax(logits, dim=-1)
    cross_entropy = -log_probabilities.gather(-1, targets[..., None]).mean()
    total = cross_entropy + config.balance_loss * balance + config.z_loss * z
    return Losses(logits, total, cross_entropy, balance, z)
