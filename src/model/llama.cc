// Llama 2 and 3 (Touvron et al. 2023; Llama team 2024).

#include <cmath>

#include "model/model_writer.h"

namespace colossus {
namespace {

TensorId attention_block(ModelWriter& m, TensorId x, double gain) {
  const ModelConfig& c = m.config();
  Scope scope(m.builder(), "attn");
  const TensorId q = m.rotary(m.linear(x, "q", c.num_heads * c.head_dim));     // (B, T, H * D)
  const TensorId k = m.rotary(m.linear(x, "k", c.num_kv_heads * c.head_dim));  // (B, T, K * D)
  const TensorId v = m.linear(x, "v", c.num_kv_heads * c.head_dim);
  return m.linear_back(m.attention(q, k, v), "o", gain);
}

}  // namespace

void write_llama(ModelWriter& m) {
  const ModelConfig& c = m.config();
  const double gain = 1 / std::sqrt(2.0 * static_cast<double>(c.num_layers));  // 2 L terms join the residual stream
  const TensorId embedding = m.table("embedding", c.vocab_size, 0.02);
  TensorId h = m.embed(embedding);  // (B, T, C)
  for (int64_t i = 0; i < c.num_layers; ++i) {
    Scope scope(m.builder(), "layers." + std::to_string(i));
    h = m.add(h, m.dropout(attention_block(m, m.rms_norm(h, "attn_norm"), gain)));
    h = m.add(h, m.dropout(m.gated_mlp(m.rms_norm(h, "mlp_norm"), gain)));
  }
  h = m.rms_norm(h, "final_norm");
  m.head(h, c.tie_embeddings ? embedding : m.table("head", c.vocab_size, 0.02));
}

}  // namespace colossus
