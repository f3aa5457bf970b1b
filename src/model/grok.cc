// Grok-1 (xai-org/grok-1, model.py) and Grok-2 (its published config.json and SGLang's grok.py). Grok-2 has a dense
// block beside the experts; small Groks may have either alone.

#include <cmath>

#include "model/model_writer.h"

namespace colossus {
namespace {

TensorId attention_block(ModelWriter& m, TensorId x) {
  const ModelConfig& c = m.config();
  Scope scope(m.builder(), "attn");
  const TensorId q = m.rotary(m.linear(x, "q", c.num_heads * c.head_dim));     // (B, T, H * D)
  const TensorId k = m.rotary(m.linear(x, "k", c.num_kv_heads * c.head_dim));  // (B, T, K * D)
  const TensorId v = m.linear(x, "v", c.num_kv_heads * c.head_dim);
  return m.linear_back(m.attention(q, k, v), "o");
}

// Both branches see the same normed x; together they are averaged as two independent terms.
TensorId feed_forward(ModelWriter& m, TensorId x) {
  const ModelConfig& c = m.config();
  if (c.num_experts == 0) return m.gated_mlp(x, 1);
  if (c.ffn_width == 0) return m.mixture_of_experts(x);
  const TensorId dense = m.gated_mlp(x, 1);
  return m.scale(m.add(dense, m.mixture_of_experts(x)), 1 / std::sqrt(2.0));
}

TensorId layer(ModelWriter& m, TensorId h) {
  // The norms behind the blocks set the size of what a layer adds; this start keeps the stream of order one.
  const double initial = 1 / std::sqrt(2.0 * static_cast<double>(m.config().num_layers));
  h = m.add(h, m.rms_norm(m.dropout(attention_block(m, m.rms_norm(h, "attn_norm"))), "attn_post_norm", initial));
  return m.add(h, m.rms_norm(m.dropout(feed_forward(m, m.rms_norm(h, "mlp_norm"))), "mlp_post_norm", initial));
}

}  // namespace

void write_grok(ModelWriter& m) {
  const ModelConfig& c = m.config();
  const double embedding_std = 1 / std::sqrt(static_cast<double>(c.width));
  const TensorId embedding = m.table("embedding", c.vocab_size, embedding_std);
  TensorId h = m.embed(embedding);  // (B, T, C)
  for (int64_t i = 0; i < c.num_layers; ++i) {
    Scope scope(m.builder(), "layers." + std::to_string(i));
    h = layer(m, h);
  }
  h = m.rms_norm(h, "final_norm");
  m.head(h, c.tie_embeddings ? embedding : m.table("head", c.vocab_size, embedding_std));
}

}  // namespace colossus
