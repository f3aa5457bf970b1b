#include "plan/published_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include "model/model.h"

namespace colossus {
namespace {

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

class Row {
 public:
  Row(const CsvTable& table, size_t row) : table_(table), row_(row) {}

  const std::string& text(std::string_view column) const { return table_.at(row_, column); }
  bool has(std::string_view column) const { return !text(column).empty(); }

  Result<double> number(std::string_view column, double low, double high) const {
    const std::string& value = text(column);
    double number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || end != value.data() + value.size() || !(number >= low && number <= high))
      return invalid(fmt::format("{} = \"{}\"; needed a number from {} to {}", column, value, low, high));
    return number;
  }
  Result<int64_t> whole(std::string_view column, int64_t low = 1, int64_t high = kMax) const {
    ASSIGN_OR_RETURN(const double value, number(column, static_cast<double>(low), static_cast<double>(high)));
    if (value != std::floor(value)) return invalid(fmt::format("{} = {}; needed a whole number", column, value));
    return static_cast<int64_t>(value);
  }
  Result<int64_t> whole_or(std::string_view column, int64_t otherwise) const {
    if (!has(column)) return otherwise;
    return whole(column);
  }
  // Far beyond any run; two of them can be multiplied.
  static constexpr int64_t kMax = int64_t{1} << 24;

 private:
  const CsvTable& table_;
  const size_t row_;
};

// What the columns do not say of models that are known by name.
struct KnownModel {
  std::string_view name;
  int64_t head_dim;                                   // 0: as the columns have it
  std::string_view cannot;                            // be played, and why
  ActivationKind activation = ActivationKind::kNone;  // none: as the family has it
};
constexpr std::array kKnownModels = {
    KnownModel{"qwen3", 128, ""},
    KnownModel{"gpt_oss", 64, ""},
    KnownModel{"nemotron", 0, "", ActivationKind::kRelu2},
    KnownModel{"deepseek", 0, "multi-head latent attention is not among the operations"},
    KnownModel{"dsv3", 0, "multi-head latent attention is not among the operations"},
    KnownModel{"kimi", 0, "multi-head latent attention is not among the operations"},
    KnownModel{"nemotron_3", 0, "state-space layers are not among the operations"},
    KnownModel{"nemotronh", 0, "state-space layers are not among the operations"},
    KnownModel{"llama4", 0, "layers of two kinds and shared experts are not described by the columns"},
    KnownModel{"lora", 0, "adapters are trained, not the model"},
    KnownModel{"sft", 0, "how full the packed sequences of fine-tuning are is not in the columns"},
};

Result<ModelConfig> read_model(const Row& row) {
  for (const char* column : {"layers", "hidden", "ffn", "heads", "vocab"})
    if (!row.has(column)) return invalid(fmt::format("{} is not given", column));
  ModelConfig model;
  ASSIGN_OR_RETURN(model.num_layers, row.whole("layers", 1, 10000));
  ASSIGN_OR_RETURN(model.width, row.whole("hidden", 1, 1 << 20));
  ASSIGN_OR_RETURN(const int64_t ffn, row.whole("ffn", 1, 1 << 24));
  ASSIGN_OR_RETURN(model.num_heads, row.whole("heads", 1, 1 << 16));
  ASSIGN_OR_RETURN(model.num_kv_heads, row.whole_or("kv_heads", model.num_heads));
  ASSIGN_OR_RETURN(model.vocab_size, row.whole("vocab", 2, 1 << 26));
  ASSIGN_OR_RETURN(model.num_experts, row.whole_or("experts", 1));
  ASSIGN_OR_RETURN(model.num_experts_per_token, row.whole_or("topk", 1));
  ASSIGN_OR_RETURN(model.context, row.whole("seq", 1, 1 << 24));
  model.head_dim = model.width / model.num_heads;
  ActivationKind activation = ActivationKind::kNone;
  const std::string all = row.text("name") + " " + row.text("verified");
  for (const KnownModel& known : kKnownModels) {
    if (!contains(all, known.name)) continue;
    if (!known.cannot.empty()) return invalid(std::string(known.cannot));
    if (known.head_dim > 0) model.head_dim = known.head_dim;
    activation = known.activation;
  }
  if (model.head_dim % 2 != 0)
    return invalid(fmt::format("hidden / heads = {} is no head width, and the name tells no other", model.head_dim));
  if (model.num_heads % model.num_kv_heads != 0)
    return invalid(fmt::format("kv_heads = {} does not divide heads = {}", model.num_kv_heads, model.num_heads));
  model.tie_embeddings = false;
  if (model.num_experts > 1) {
    model.family = Family::kGrok1;
    model.expert_width = ffn;
    model.ffn_width = 0;
    if (model.num_experts_per_token > model.num_experts) return invalid("topk is more than experts");
    return model;
  }
  model.num_experts = 0;
  model.ffn_width = ffn;
  // Four times the width is what blocks without a gate have.
  model.family = ffn == 4 * model.width ? Family::kGpt2 : Family::kLlama;
  model.biases = model.family == Family::kGpt2 && model.num_kv_heads == model.num_heads;
  model.activation = model.family == Family::kGpt2 ? ActivationKind::kGeluTanh : ActivationKind::kSilu;
  if (activation != ActivationKind::kNone) model.activation = activation;
  return model;
}

Result<Recompute> read_recompute(const std::string& text) {
  if (text.starts_with("full") || text.starts_with("yes")) return Recompute::kFull;
  if (text.empty() || text.starts_with("none") || text.starts_with("unstated")) return Recompute::kNone;
  return Recompute::kSelective;
}

Result<ProductType> read_products(const std::string& text) {
  if (text == "bf16" || text == "fp16") return ProductType::kBF16;
  if (text.starts_with("fp8") || text.starts_with("mxfp8")) return ProductType::kFp8;
  if (text.starts_with("nvfp4") || text.starts_with("mxfp4") || text.starts_with("fp4")) return ProductType::kFp4;
  if (text == "fp32" || text == "tf32") return ProductType::kF32;
  return invalid(fmt::format("dtype = \"{}\"; known are bf16, fp16, fp8, mxfp8, nvfp4", text));
}

Status read_layout(const Row& row, const ModelConfig& model, PublishedRun& run) {
  Layout& layout = run.layout;
  MeshConfig& mesh = layout.mesh;
  for (const char* column : {"global_batch", "tp", "pp"})
    if (!row.has(column)) return invalid(fmt::format("{} is not given", column));
  ASSIGN_OR_RETURN(run.num_gpus, row.whole("count", 1, 1 << 24));
  ASSIGN_OR_RETURN(mesh.tensor, row.whole_or("tp", 1));
  ASSIGN_OR_RETURN(mesh.pipeline, row.whole_or("pp", 1));
  ASSIGN_OR_RETURN(mesh.chunks, row.whole_or("vpp", 0));
  ASSIGN_OR_RETURN(mesh.context, row.whole_or("cp", 1));
  ASSIGN_OR_RETURN(mesh.expert, row.whole_or("ep", 1));
  int64_t of_model = mesh.tensor * mesh.pipeline;
  if (of_model <= run.num_gpus) of_model *= mesh.context;
  if (run.num_gpus % of_model != 0)
    return invalid(fmt::format("count = {} is no multiple of tp x pp x cp = {} x {} x {}", run.num_gpus, mesh.tensor,
                               mesh.pipeline, mesh.context));
  ASSIGN_OR_RETURN(mesh.shard, row.whole_or("dp", run.num_gpus / of_model));
  if (mesh.shard * of_model != run.num_gpus)
    return invalid(fmt::format("tp x pp x cp x dp = {}, but count = {}", mesh.shard * of_model, run.num_gpus));
  if (mesh.pipeline == 1) mesh.chunks = 1;
  if (mesh.chunks == 0) {
    // Whoever does not say it took the schedule with the smallest bubble: one layer a chunk, as in the tables that do.
    mesh.chunks = model.num_layers % mesh.pipeline == 0 ? model.num_layers / mesh.pipeline : 1;
    run.filled += fmt::format("chunks {}; ", mesh.chunks);
  }
  if (mesh.chunks > 1) mesh.schedule = PipelineScheduleKind::kInterleaved;
  if (model.num_experts == 0) mesh.expert = 1;
  ASSIGN_OR_RETURN(layout.tokens, row.whole("seq"));
  ASSIGN_OR_RETURN(layout.batch, row.whole("global_batch"));
  run.microbatch_stated = row.has("micro_batch");
  ASSIGN_OR_RETURN(layout.microbatch, row.whole_or("micro_batch", 1));
  if (layout.batch % (layout.microbatch * mesh.shard * mesh.data) != 0)
    return invalid(fmt::format("micro_batch x dp = {} does not divide global_batch = {}",
                               layout.microbatch * mesh.shard, layout.batch));
  const std::string& recompute = row.text("recompute");
  run.recompute_stated = !recompute.empty() && !contains(recompute, "unstated");
  ASSIGN_OR_RETURN(layout.recompute, read_recompute(recompute));
  run.experts_again = contains("," + recompute + ",", ",moe,");
  ASSIGN_OR_RETURN(layout.products, read_products(row.text("dtype")));
  mesh.zero_stage = contains(run.note, "FSDP") || contains(run.note, "ZeRO-3") ? 3 : 1;
  if (row.has("zero")) {
    ASSIGN_OR_RETURN(mesh.zero_stage, row.whole("zero", 0, 3));
    if (mesh.zero_stage == 0) {
      mesh.zero_stage = 1;
      mesh.data = std::exchange(mesh.shard, 1);
    }
  }
  return ok_status();
}

Status read_time(const Row& row, PublishedRun& run) {
  if (row.has("step_seconds")) {
    ASSIGN_OR_RETURN(run.step_seconds, row.number("step_seconds", 1e-6, 1e6));
    return ok_status();
  }
  const double tokens = static_cast<double>(run.layout.batch) * static_cast<double>(run.layout.tokens);
  if (row.has("tokens_per_s")) {
    ASSIGN_OR_RETURN(const double rate, row.number("tokens_per_s", 1e-3, 1e15));
    run.step_seconds = tokens / rate;
    return ok_status();
  }
  if (!row.has("tflops_per_gpu")) return invalid("neither step_seconds, tokens_per_s nor tflops_per_gpu is given");
  ASSIGN_OR_RETURN(const double tflops, row.number("tflops_per_gpu", 1e-3, 1e5));
  double flops = model_flops_of_step(run.model, run.layout);
  // Some count what is computed again as well: a fourth pass of the layers.
  if (contains(run.note, "HARDWARE")) flops *= 4.0 / 3;
  run.step_seconds = flops / (tflops * 1e12 * static_cast<double>(run.num_gpus));
  return ok_status();
}

}  // namespace

double model_flops_of_step(const ModelConfig& model, const Layout& layout) {
  const auto per_token = training_flops_per_token(model, layout.tokens);
  return per_token.ok() ? *per_token * static_cast<double>(layout.batch) * static_cast<double>(layout.tokens) : 0;
}

Result<PublishedRun> read_published_run(const CsvTable& table, size_t index) {
  const Row row(table, index);
  PublishedRun run;
  run.name = row.text("name");
  run.source = row.text("source");
  run.gpu = row.text("gpu");
  run.note = row.text("verified");
  run.recipe = row.text("recipe");
  ASSIGN_OR_RETURN(run.model, read_model(row));
  RETURN_IF_ERROR(read_layout(row, run.model, run));
  RETURN_IF_ERROR(read_time(row, run));
  return run;
}

}  // namespace colossus
