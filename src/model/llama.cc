// Llama 2 and 3 (Touvron et al. 2023; Llama team 2024), and those that differ from them by little: Mistral and Mixtral
// (Jiang et al. 2023, 2024), Qwen3 (Qwen team 2025).

#include <cmath>

#include "model/model_writer.h"

namespace colossus {
namespace {

TensorId attention_block(ModelWriter& m, TensorId x, double gain) {
  const ModelConfig& c = m.config();
  Scope scope(m.builder(), "attn");
  const auto turned = [&](TensorId heads, const char* norm) {
    return m.rotary(c.qk_norm ? m.head_norm(heads, norm) : heads);
  };
  const TensorId q = turned(m.linear(x, "q", c.num_heads * c.head_dim), "q_norm");     // (B, T, H * D)
  const TensorId k = turned(m.linear(x, "k", c.num_kv_heads * c.head_dim), "k_norm");  // (B, T, K * D)
  const TensorId v = m.linear(x, "v", c.num_kv_heads * c.head_dim);
  return m.linear_back(m.attention(q, k, v), "o", gain);
}

TensorId feed_forward(ModelWriter& m, TensorId x, double gain) {
  return m.config().has_experts() ? m.mixture_of_experts(x) : m.gated_mlp(x, gain);
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
    h = m.add(h, m.dropout(feed_forward(m, m.rms_norm(h, "mlp_norm"), gain)));
  }
  h = m.rms_norm(h, "final_norm");
  m.head(h, c.tie_embeddings ? embedding : m.table("head", c.vocab_size, 0.02));
}

}  // namespace colossus
