#include "model/model_writer.h"

#include <cmath>

namespace colossus {

ModelWriter::ModelWriter(Builder& builder, const ModelConfig& config, const ProgramOptions& options,
                         int64_t cache_tokens)
    : builder_(builder), config_(config), options_(options), cache_tokens_(cache_tokens) {
  const Shape rows{options.batch, options.tokens};
  tokens_ = builder.input("tokens", rows, DType::kI32);
  if (cache_tokens > 0) {
    positions_ = builder.input("positions", rows, DType::kI32);
    lengths_ = builder.input("lengths", {options.batch}, DType::kI32);
    last_ = builder.input("last", {options.batch}, DType::kI32);
    return;
  }
  targets_ = builder.input("targets", rows, DType::kI32);
  if (options.document_mask) document_start_ = builder.input("document_start", rows, DType::kI32);
  if (config.dropout > 0) rng_ = builder.input("rng", {3}, DType::kI64);
}

std::string ModelWriter::scoped(std::string_view name) const {
  return builder_.scope().empty() ? std::string(name) : builder_.scope() + "." + std::string(name);
}

ModelWriter::Weight ModelWriter::parameter(ParameterSpec spec) {
  TensorType type{spec.shape, statistics_dtype(options_.compute)};
  Weight weight;
  if (const auto stored = options_.stored.find(spec.name); stored != options_.stored.end()) {
    const bool is_matrix = spec.kind == ParameterSpec::Kind::kMatrix;
    CHECK(spec.kind != ParameterSpec::Kind::kVector && (is_matrix || !stored->second.transposed), spec.name.c_str());
    type.dtype = stored->second.dtype;
    weight.transposed = stored->second.transposed;
  }
  if (weight.transposed) type.shape = type.shape.transposed();
  weight.id = builder_.declare(spec.name, std::move(type), Role::kParameter);
  parameters_.push_back(std::move(spec));
  return weight;
}

ModelWriter::Weight ModelWriter::matrix(std::string_view name, int64_t rows, int64_t cols, double gain,
                                        const Placement& placement) {
  return parameter({.name = scoped(name),
                    .shape = {rows, cols},
                    .init_std = gain / std::sqrt(static_cast<double>(rows)),
                    .placement = placement});
}

ModelWriter::Weight ModelWriter::experts(std::string_view name, int64_t rows, int64_t cols,
                                         const Placement& placement) {
  return parameter({.name = scoped(name),
                    .shape = {config_.num_experts, rows, cols},
                    .init_std = 1 / std::sqrt(static_cast<double>(rows)),
                    .placement = placement});
}

TensorId ModelWriter::table(std::string_view name, int64_t rows, double std) {
  return parameter({.name = scoped(name),
                    .shape = {rows, config_.width},
                    .kind = ParameterSpec::Kind::kEmbedding,
                    .init_std = std})
      .id;
}

TensorId ModelWriter::vector(std::string_view name, int64_t size, double value, const Placement& placement) {
  return parameter({.name = scoped(name),
                    .shape = {size},
                    .kind = ParameterSpec::Kind::kVector,
                    .init_value = value,
                    .placement = placement})
      .id;
}

TensorId ModelWriter::product(TensorId x, const Weight& weight, TensorId bias, std::string_view name) {
  return builder_.emit(Matmul{.transpose_b = weight.transposed, .dtype = options_.compute}, {x, weight.id, bias}, name);
}

TensorId ModelWriter::product_of_experts(TensorId rows, const Weight& weight, TensorId offsets, std::string_view name) {
  return builder_.emit(GroupedMatmul{.transpose_b = weight.transposed}, {rows, weight.id, offsets}, name);
}

TensorId ModelWriter::embed(TensorId table, TensorId position_table) {
  return builder_.emit(Embedding{.scale = config_.embedding_scale, .dtype = options_.compute},
                       {table, tokens_, position_table, position_table ? positions_ : TensorId{}}, "embedded");
}

TensorId ModelWriter::rms_norm(TensorId x, std::string_view name, double initial) {
  return builder_.emit(RmsNorm{.eps = config_.norm_eps}, {x, vector(name, config_.width, initial)});
}

TensorId ModelWriter::head_norm(TensorId x, std::string_view name) {
  return builder_.emit(RmsNorm{.eps = config_.norm_eps}, {x, vector(name, config_.head_dim, 1)});
}

TensorId ModelWriter::layer_norm(TensorId x, std::string_view name) {
  const TensorId scale = vector(name, config_.width, 1);
  const TensorId bias = config_.biases ? vector(std::string(name) + "_bias", config_.width, 0) : TensorId{};
  return builder_.emit(LayerNorm{.eps = config_.norm_eps}, {x, scale, bias});
}

TensorId ModelWriter::linear(TensorId x, std::string_view name, int64_t out) {
  if (!builder_.status().ok()) return {};
  const Weight weight = matrix(name, builder_.shape(x)[-1], out, 1, Placement().cut(MeshAxis::kTensor, 1));
  const TensorId bias =
      config_.biases ? vector(std::string(name) + "_bias", out, 0, Placement().cut(MeshAxis::kTensor, 0)) : TensorId{};
  return product(x, weight, bias, name);
}

TensorId ModelWriter::linear_back(TensorId x, std::string_view name, double gain) {
  if (!builder_.status().ok()) return {};
  const Weight weight = matrix(name, builder_.shape(x)[-1], config_.width, gain, Placement().cut(MeshAxis::kTensor, 0));
  const TensorId bias = config_.biases ? vector(std::string(name) + "_bias", config_.width, 0) : TensorId{};
  return product(x, weight, bias, name);
}

TensorId ModelWriter::rotary(TensorId x) {
  const RotaryStretch stretched = {.factor = config_.rope_factor,
                                   .low_turns = config_.rope_low_turns,
                                   .high_turns = config_.rope_high_turns,
                                   .original_tokens = config_.rope_original_context};
  return builder_.emit(Rotary{.head_dim = config_.head_dim, .theta = config_.rope_theta, .stretched = stretched},
                       {x, positions_});
}

TensorId ModelWriter::attention(TensorId q, TensorId k, TensorId v) {
  const ModelConfig& c = config_;
  const AttentionAttributes attributes = {.num_heads = c.num_heads,
                                          .num_kv_heads = c.num_kv_heads,
                                          .head_dim = c.head_dim,
                                          .scale = 1 / std::sqrt(static_cast<double>(c.head_dim)),
                                          .softcap = c.attn_softcap,
                                          .window = c.window,
                                          .temperature_len = c.attn_temperature_len};
  if (cache_tokens_ == 0) return builder_.emit(Attention{attributes}, {q, k, v, document_start_});
  const TensorType cache{{options_.batch, cache_tokens_, c.num_kv_heads * c.head_dim}, options_.compute};
  const TensorId k_cache = builder_.declare(scoped("k_cache"), cache, Role::kState);
  const TensorId v_cache = builder_.declare(scoped("v_cache"), cache, Role::kState);
  return builder_.emit(AttentionCached{attributes}, {q, k, v, k_cache, v_cache, lengths_});
}

TensorId ModelWriter::gated(TensorId gate, TensorId up) {
  return builder_.emit(GatedActivation{{.kind = config_.activation}}, {gate, up});
}

TensorId ModelWriter::activation(TensorId x) { return builder_.emit(Activation{{.kind = config_.activation}}, {x}); }

TensorId ModelWriter::dropout(TensorId x) {
  if (!rng_) return x;
  return builder_.emit(Dropout{.rate = config_.dropout, .stream = dropout_stream_++}, {x, rng_});
}

TensorId ModelWriter::gated_mlp(TensorId x, double gain) {
  Scope scope(builder_, "mlp");
  const TensorId gate = linear(x, "gate", config_.ffn_width);
  return linear_back(gated(gate, linear(x, "up", config_.ffn_width)), "down", gain);
}

TensorId ModelWriter::mixture_of_experts(TensorId x) {
  const ModelConfig& c = config_;
  Scope scope(builder_, "moe");
  // The router works in fp32 (fp64) whatever the rest does: a rounded score could send a token elsewhere.
  const DType wide = statistics_dtype(options_.compute);
  const TensorId x32 = options_.compute == wide ? x : builder_.emit(Cast{.dtype = wide}, {x});
  const Weight router = matrix("router", c.width, c.num_experts);
  const TensorId logits =
      builder_.emit(Matmul{.transpose_b = router.transposed, .dtype = wide}, {x32, router.id}, "logits");
  builder_.emit(Router{{.top_k = c.num_experts_per_token,
                        .softcap = c.router_softcap,
                        .renormalize = c.renormalize_gates,
                        .balance_loss = c.balance_loss,
                        .z_loss = c.z_loss}},
                {logits}, "gates");
  if (!builder_.status().ok()) return {};
  const TensorId gates = builder_.last_outputs()[Router::kGates], chosen = builder_.last_outputs()[Router::kExperts];
  const TensorId aux = builder_.last_outputs()[Router::kAux];
  if (c.balance_loss > 0 || c.z_loss > 0) aux_ = aux_ ? add(aux_, aux) : aux;

  builder_.emit(TokenDispatch{.num_experts = c.num_experts}, {x, chosen}, "rows");
  if (!builder_.status().ok()) return {};
  const TensorId rows = builder_.last_outputs()[TokenDispatch::kRows];  // (S, C)
  const TensorId offsets = builder_.last_outputs()[TokenDispatch::kOffsets];
  const TensorId slot_row = builder_.last_outputs()[TokenDispatch::kSlotRow];
  const Placement experts_of_a_rank = Placement().cut(MeshAxis::kExpert, 0);
  const Placement columns = experts_of_a_rank.cut(MeshAxis::kExpertTensor, 2);
  const TensorId gate =
      product_of_experts(rows, experts("gate", c.width, c.expert_width, columns), offsets, "gate_rows");
  const TensorId up = product_of_experts(rows, experts("up", c.width, c.expert_width, columns), offsets, "up_rows");
  const TensorId inner = gated(gate, up);  // (S, F)
  const Weight down = experts("down", c.expert_width, c.width, experts_of_a_rank.cut(MeshAxis::kExpertTensor, 1));
  const TensorId out = product_of_experts(inner, down, offsets, "down_rows");
  return builder_.emit(TokenCombine{}, {out, gates, slot_row});
}

void ModelWriter::head(TensorId h, TensorId weight) {
  if (cache_tokens_ > 0) {
    const TensorId last = builder_.emit(SelectToken{}, {h, last_});  // (B, 1, C)
    const DType wide = statistics_dtype(options_.compute);
    TensorId logits =
        builder_.emit(Matmul{.transpose_b = true, .alpha = config_.logit_scale, .dtype = wide}, {last, weight}, "head");
    if (config_.logit_softcap > 0) logits = builder_.emit(SoftCap{.cap = config_.logit_softcap}, {logits});
    if (builder_.status().ok()) builder_.mark_output(logits, "logits");
    return;
  }
  builder_.emit(HeadCrossEntropy{{.scale = config_.logit_scale, .softcap = config_.logit_softcap}},
                {h, weight, targets_});
  if (!builder_.status().ok()) return;
  builder_.mark_output(builder_.last_outputs()[HeadCrossEntropy::kLoss], "loss");
  builder_.mark_output(builder_.last_outputs()[HeadCrossEntropy::kTokenLoss], "token_loss");
  if (aux_) builder_.mark_output(aux_, "aux_loss");
}

}  // namespace colossus
