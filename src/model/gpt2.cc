// GPT-2 (Radford et al. 2019), with or without biases.

#include <cmath>

#include "model/model_writer.h"

namespace colossus {
namespace {

TensorId attention_block(ModelWriter& m, TensorId x, double gain) {
  const ModelConfig& c = m.config();
  Scope scope(m.builder(), "attn");
  const TensorId q = m.linear(x, "q", c.num_heads * c.head_dim);  // (B, T, H * D)
  const TensorId k = m.linear(x, "k", c.num_kv_heads * c.head_dim);
  const TensorId v = m.linear(x, "v", c.num_kv_heads * c.head_dim);
  return m.linear_back(m.attention(q, k, v), "o", gain);
}

TensorId mlp(ModelWriter& m, TensorId x, double gain) {
  Scope scope(m.builder(), "mlp");
  return m.linear_back(m.activation(m.linear(x, "up", m.config().ffn_width)), "down", gain);
}

}  // namespace

void write_gpt2(ModelWriter& m) {
  const ModelConfig& c = m.config();
  const double gain = 1 / std::sqrt(2.0 * static_cast<double>(c.num_layers));  // 2 L terms join the residual stream
  const TensorId embedding = m.table("embedding", c.vocab_size, 0.02);
  const TensorId positions = m.table("position_embedding", c.context, 0.01);
  TensorId h = m.dropout(m.embed(embedding, positions));  // (B, T, C)
  for (int64_t i = 0; i < c.num_layers; ++i) {
    Scope scope(m.builder(), "layers." + std::to_string(i));
    h = m.add(h, m.dropout(attention_block(m, m.layer_norm(h, "attn_norm"), gain)));
    h = m.add(h, m.dropout(mlp(m, m.layer_norm(h, "mlp_norm"), gain)));
  }
  h = m.layer_norm(h, "final_norm");
  m.head(h, c.tie_embeddings ? embedding : m.table("head", c.vocab_size, 0.02));
}

}  // namespace colossus
