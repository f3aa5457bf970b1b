"""The four models of the benchmark table as one would write them in PyTorch to be fast on a CPU.

Letters: B batch, T tokens, C width, H heads, K key/value heads, D head width, F feed-forward width, E experts,
L layers.
"""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import nn


@dataclasses.dataclass
class Config:
    family: str  # gpt-2 or grok
    num_layers: int
    width: int
    num_heads: int
    context: int
    batch: int
    vocab_size: int
    num_kv_heads: int = 0  # grok only, as all below
    expert_width: int = 0
    num_experts: int = 0
    top_k: int = 0
    bias: bool = False
    softcap: float = 30.0  # 0: scaled_dot_product_attention without the cap
    head: str = "logits"  # or linear: torch's linear_cross_entropy
    experts: str = "loop"  # or grouped: torch's grouped_mm

    @property
    def matmul_parameters(self):
        """Those a token meets; the tied embedding counts once, as the head."""
        C, D = self.width, self.width // self.num_heads
        head = self.vocab_size * C
        if self.family == "gpt-2":
            return self.num_layers * 12 * C * C + head
        attention = 2 * C * C + 2 * C * self.num_kv_heads * D
        mixture = C * self.num_experts + self.top_k * 3 * C * self.expert_width
        return self.num_layers * (attention + mixture) + head

    @property
    def flops_per_token(self):
        return 6 * self.matmul_parameters + 12 * self.num_layers * self.width * self.context


MODELS = {
    "a": Config("gpt-2", num_layers=6, width=384, num_heads=6, context=256, batch=64, vocab_size=65),
    "b": Config("gpt-2", num_layers=12, width=768, num_heads=12, context=1024, batch=4, vocab_size=50304, bias=True),
    "c": Config(
        "grok", num_layers=8, width=512, num_heads=8, context=512, batch=8, vocab_size=8192, num_kv_heads=4,
        expert_width=1024, num_experts=8, top_k=2,
    ),
    "d": Config("gpt-2", num_layers=4, width=128, num_heads=4, context=64, batch=12, vocab_size=65),
}  # fmt: skip


class Gpt2Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        C = config.width
        self.num_heads = config.num_heads
        self.attn_norm = nn.LayerNorm(C, bias=config.bias)
        self.qkv = nn.Linear(C, 3 * C, bias=config.bias)
        self.out = nn.Linear(C, C, bias=config.bias)
        self.mlp_norm = nn.LayerNorm(C, bias=config.bias)
        self.up = nn.Linear(C, 4 * C, bias=config.bias)
        self.down = nn.Linear(4 * C, C, bias=config.bias)

    def forward(self, h):
        B, T, C = h.shape
        qkv = self.qkv(self.attn_norm(h)).split(C, dim=-1)
        q, k, v = (x.view(B, T, self.num_heads, -1).transpose(1, 2) for x in qkv)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.out(a.transpose(1, 2).reshape(B, T, C))
        return h + self.down(F.gelu(self.up(self.mlp_norm(h)), approximate="tanh"))


def rotate_half(x, cos, sin):
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-high, low), dim=-1) * sin


class Mixture(nn.Module):
    """Dropless top-k: tokens sorted by expert, each expert once over its own."""

    def __init__(self, config):
        super().__init__()
        C, width, E = config.width, config.expert_width, config.num_experts
        self.top_k, self.grouped = config.top_k, config.experts == "grouped"
        self.router = nn.Linear(C, E, bias=False)
        self.gate_up = nn.Parameter(torch.randn(E, C, 2 * width) / math.sqrt(C))
        self.down = nn.Parameter(torch.randn(E, width, C) / math.sqrt(width))

    def forward(self, x):
        x_flat = x.reshape(-1, x.shape[-1])
        probabilities = torch.softmax(self.router(x_flat).float(), dim=-1)
        gates, experts = probabilities.topk(self.top_k, dim=-1)
        return self.run_experts(x_flat, gates.to(x.dtype), experts).view_as(x)

    @torch.compiler.disable  # group sizes are data; the compiler would break the graph here anyway
    def run_experts(self, x, gates, experts):
        order = experts.flatten().argsort(stable=True)
        token = order // self.top_k
        counts = torch.bincount(experts.flatten(), minlength=self.router.out_features)
        rows = x[token]
        if self.grouped:
            offsets = counts.cumsum(0).to(torch.int32)
            gate, up = F.grouped_mm(rows, self.gate_up, offs=offsets).chunk(2, dim=-1)
            y = F.grouped_mm(F.gelu(gate, approximate="tanh") * up, self.down, offs=offsets)
        else:
            parts = []
            for e, part in enumerate(rows.split(counts.tolist())):
                gate, up = (part @ self.gate_up[e]).chunk(2, dim=-1)
                parts.append((F.gelu(gate, approximate="tanh") * up) @ self.down[e])
            y = torch.cat(parts)
        y = y * gates.flatten()[order][:, None]
        return torch.zeros_like(x, dtype=y.dtype).index_add_(0, token, y)


class GrokLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        C, D = config.width, config.width // config.num_heads
        self.num_heads, self.num_kv_heads, self.head_dim = config.num_heads, config.num_kv_heads, D
        self.softcap = config.softcap
        self.norms = nn.ModuleList(nn.RMSNorm(C, eps=1e-5) for _ in range(4))
        self.qkv = nn.Linear(C, (config.num_heads + 2 * config.num_kv_heads) * D, bias=False)
        self.out = nn.Linear(C, C, bias=False)
        self.mixture = Mixture(config)

    def attention(self, x, cos, sin, mask):
        B, T, C = x.shape
        H, K, D = self.num_heads, self.num_kv_heads, self.head_dim
        q, k, v = self.qkv(x).view(B, T, H + 2 * K, D).transpose(1, 2).split((H, K, K), dim=1)
        q, k = rotate_half(q, cos, sin), rotate_half(k, cos, sin)
        if self.softcap == 0:
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            return self.out(a.transpose(1, 2).reshape(B, T, C))
        k, v = (t.repeat_interleave(H // K, dim=1) for t in (k, v))
        scores = (q @ k.transpose(-2, -1)).float() * (1 / (self.softcap * math.sqrt(D)))
        scores = self.softcap * torch.tanh(scores) + mask
        a = torch.softmax(scores, dim=-1).to(v.dtype) @ v
        return self.out(a.transpose(1, 2).reshape(B, T, C))

    def forward(self, h, cos, sin, mask):
        h = h + self.norms[1](self.attention(self.norms[0](h), cos, sin, mask))
        return h + self.norms[3](self.mixture(self.norms[2](h)))


class Model(nn.Module):
    """Tied embedding and head. Returns the mean cross-entropy."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        C, T = config.width, config.context
        self.embedding = nn.Embedding(config.vocab_size, C)
        self.is_grok = config.family == "grok"
        if self.is_grok:
            self.layers = nn.ModuleList(GrokLayer(config) for _ in range(config.num_layers))
            self.final_norm = nn.RMSNorm(C, eps=1e-5)
            D = C // config.num_heads
            angle = torch.arange(T)[:, None] * 10000 ** -(torch.arange(0, D, 2) / D)
            angle = torch.cat((angle, angle), dim=-1)
            self.register_buffer("cos", angle.cos())
            self.register_buffer("sin", angle.sin())
            self.register_buffer("mask", torch.full((T, T), -math.inf).triu(1))
        else:
            self.position = nn.Embedding(T, C)
            self.layers = nn.ModuleList(Gpt2Layer(config) for _ in range(config.num_layers))
            self.final_norm = nn.LayerNorm(C, bias=config.bias)
        self.apply(self.initialise)
        for name, p in self.named_parameters():
            if name.endswith(("out.weight", "down.weight")):  # GPT-2: the residual's inputs shrink with the depth
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * config.num_layers))

    @staticmethod
    def initialise(module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)

    def forward(self, tokens, targets):
        h = self.embedding(tokens)
        if self.is_grok:
            h = h * math.sqrt(self.config.width)
            for layer in self.layers:
                h = layer(h, self.cos, self.sin, self.mask)
        else:
            h = h + self.position.weight[: tokens.shape[1]]
            for layer in self.layers:
                h = layer(h)
        h = self.final_norm(h)
        if self.config.head == "linear":
            return F.linear_cross_entropy(h.flatten(0, 1), self.embedding.weight, targets.flatten())
        logits = F.linear(h, self.embedding.weight)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def adamw(model, learning_rate, beta2, weight_decay=0.1):
    """Decay on matrices only; fused, the fastest form on a CPU."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, beta2), fused=True)
