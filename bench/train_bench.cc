// Training speed of one model: tokens per second and model FLOP/s as a share of the machine's peak, both measured in
// this run, and where the time goes.
//   train_bench --model a|b|c|d [--seconds 20] [--threads 2] [--compute f32|bf16] [--microbatch N] [--profile]
//   train_bench --model configs/models/llama-3-8b.toml --layers 8 --tokens 8192 --batch 1 --device cuda

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <map>
#include <vector>

#include "base/clock.h"
#include "base/platform.h"
#include "base/rng.h"
#include "device/cpu/cpu_device.h"
#include "device/cpu/peak.h"
#include "device/cuda/cuda_device.h"
#include "device/tensor_set.h"
#include "io/config.h"
#include "io/file_system.h"
#include "model/model.h"
#include "train/gradient_tree.h"
#include "train/run_config.h"
#include "train/train_state.h"
#include "train/update_program.h"

namespace colossus {
namespace {

struct BenchModel {
  std::string name;
  std::string what;
  ModelConfig config;
  int64_t batch;
};

std::vector<BenchModel> bench_models() {
  ModelConfig gpt{.family = Family::kGpt2,
                  .num_layers = 6,
                  .width = 384,
                  .num_heads = 6,
                  .num_kv_heads = 6,
                  .head_dim = 64,
                  .ffn_width = 1536,
                  .num_experts = 0,
                  .vocab_size = 65,
                  .context = 256};
  ModelConfig gpt2 = gpt;
  gpt2.num_layers = 12, gpt2.width = 768, gpt2.num_heads = gpt2.num_kv_heads = 12, gpt2.ffn_width = 3072,
  gpt2.vocab_size = 50257;
  gpt2.context = 1024, gpt2.biases = true;
  ModelConfig grok{.family = Family::kGrok1,
                   .num_layers = 8,
                   .width = 512,
                   .num_heads = 8,
                   .num_kv_heads = 4,
                   .head_dim = 64,
                   .num_experts = 8,
                   .num_experts_per_token = 2,
                   .expert_width = 1024,
                   .vocab_size = 8192,
                   .context = 512,
                   .embedding_scale = 22.6,
                   .logit_scale = 0.577,
                   .attn_softcap = 30,
                   .balance_loss = 0.01};
  ModelConfig tiny = gpt;
  tiny.num_layers = 4, tiny.width = 128, tiny.num_heads = tiny.num_kv_heads = 4, tiny.head_dim = 32,
  tiny.ffn_width = 512, tiny.context = 64;
  return {{"a", "baby: 6 layers, width 384, T 256, B 64", gpt, 64},
          {"b", "GPT-2 124M: T 1024, B 4", gpt2, 4},
          {"c", "Grok, 8 experts top-2, 8 layers, width 512, T 512, B 8", grok, 8},
          {"d", "tiny: 4 layers, width 128, T 64, B 12", tiny, 12}};
}

struct BenchArguments {
  std::string model = "a";
  double seconds = 20;
  int threads = 0;
  std::string compute = "auto";
  int64_t microbatch = 0;
  bool profile = false;
  std::string device = "cpu";
  std::string recompute = "none";
  int64_t steps = 3;  // at least
  // Of a model from a file; 0: as it says, and one sequence.
  int64_t layers = 0, tokens = 0, batch = 0;
  int64_t leaves = 0;  // of the gradient tree; 0: as a run would have it
};

Result<BenchModel> bench_model(const BenchArguments& arguments) {
  for (const BenchModel& model : bench_models())
    if (arguments.model == model.name) return model;
  if (!arguments.model.ends_with(".toml")) return invalid("[--model] give a, b, c, d or a file of configs/models");
  ASSIGN_OR_RETURN(ModelConfig config, load_config<ModelConfig>(local_files(), arguments.model));
  if (arguments.layers > 0) config.num_layers = arguments.layers;
  if (arguments.tokens > 0) config.context = arguments.tokens;
  const int64_t batch = std::max<int64_t>(arguments.batch, 1);
  return BenchModel{arguments.model, fmt::format("{} layers, T {}, B {}", config.num_layers, config.context, batch),
                    config, batch};
}

// A whole step as the trainer does it, but for the data: random tokens, written once.
class StepBench {
 public:
  static Result<std::unique_ptr<StepBench>> create(Device& device, const BenchModel& model,
                                                   const BenchArguments& arguments) {
    std::unique_ptr<StepBench> bench(new StepBench(device));
    RunConfig run;
    run.model = model.config;
    run.train.batch = model.batch;
    run.train.microbatch = arguments.microbatch;
    run.train.reduction_leaves = arguments.leaves;
    RETURN_IF_ERROR(resolve(run, model.config.vocab_size));
    bench->num_microbatches_ = run.train.batch / run.train.microbatch;
    bench->leaves_ = run.train.reduction_leaves;
    const ProgramOptions options{.batch = run.train.microbatch,
                                 .tokens = run.train.tokens,
                                 .compute = arguments.compute == "auto" ? device.preferred_compute_dtype()
                                                                        : *dtype_from_name(arguments.compute)};
    ASSIGN_OR_RETURN(const auto parameters, parameter_table(run.model));
    const Recompute recompute = arguments.recompute == "full"        ? Recompute::kFull
                                : arguments.recompute == "selective" ? Recompute::kSelective
                                                                     : Recompute::kNone;
    ASSIGN_OR_RETURN(Program microbatch, write_training_program(run.model, options, recompute));
    ASSIGN_OR_RETURN(
        UpdateProgram update,
        write_update_program(parameters, run.optimizer, update_on_one_rank(parameters),
                             {.bucket_elements = int64_t{1} << 40, .num_microbatches = bench->num_microbatches_}));
    RETURN_IF_ERROR(bench->tensors_.add_all(device, update.program));
    RETURN_IF_ERROR(bench->tensors_.add_all(device, microbatch));
    const CompileOptions compile{.profile = arguments.profile};
    ASSIGN_OR_RETURN(bench->microbatch_, device.compile(std::move(microbatch), compile));
    ASSIGN_OR_RETURN(bench->update_, device.compile(std::move(update.program), compile));
    bench->tensors_.bind_to(*bench->microbatch_);
    bench->tensors_.bind_to(*bench->update_);
    initialize_parameters(device, parameters, whole_parameters(bench->tensors_, parameters), 1);
    ASSIGN_OR_RETURN(bench->tree_,
                     GradientTree::create(device, {bench->tensors_.at("gradients.0").memory}, {0, bench->leaves_}));
    bench->fill_inputs(options, run.model.vocab_size);
    return bench;
  }

  void step() {
    tree_->begin_step();
    for (int64_t leaf = 0; leaf < leaves_; ++leaf) {
      tree_->begin_leaf();
      for (int64_t i = 0; i < num_microbatches_ / leaves_; ++i) CHECK(microbatch_->run().ok());
      tree_->end_leaf();
    }
    CHECK(update_->run().ok());
    CHECK(device_.synchronize().ok());
  }

  int64_t memory_bytes() const {
    int64_t bytes = microbatch_->packed_bytes() +
                    std::max(microbatch_->memory_plan().arena_bytes, update_->memory_plan().arena_bytes);
    for (const Role role : {Role::kParameter, Role::kGradient, Role::kOptimizerState, Role::kInput})
      for (const Executable* executable : {microbatch_.get(), update_.get()})
        for (const TensorId id : executable->program().with_role(role)) {
          const Tensor& tensor = executable->program().tensor(id);
          const bool counted = executable == update_.get() && microbatch_->program().find(tensor.name);
          if (!tensor.base && !counted) bytes += tensor.type.num_bytes();
        }
    return bytes;
  }

  void print_profile() const {
    for (const Executable* executable : {microbatch_.get(), update_.get()}) {
      struct Row {
        double seconds = 0, flops = 0, bytes = 0;
      };
      std::map<std::string, Row> by_op;
      double total = 0;
      const Program& program = executable->program();
      for (size_t i = 0; i < program.operations.size(); ++i) {
        const OperationTime& time = executable->operation_times()[i];
        Row& row = by_op[std::string(op_name(program.operations[i].op)) + " " +
                         std::string(phase_name(program.operations[i].phase))];
        const Cost cost = cost_of(program, program.operations[i]);
        const auto runs = static_cast<double>(time.num_runs);
        row.seconds += time.seconds;
        row.flops += cost.flops * runs;
        row.bytes += (cost.bytes_read + cost.bytes_written) * runs;
        total += time.seconds;
      }
      for (const auto& [name, row] : by_op)
        std::printf("  %-36s %6.2f %%  %10.1f GFLOP/s %8.1f GB/s\n", name.c_str(), 100 * row.seconds / total,
                    row.flops / row.seconds * 1e-9, row.bytes / row.seconds * 1e-9);
      std::printf("  %-36s %8.3f s\n", program.name.c_str(), total);
    }
  }

 private:
  explicit StepBench(Device& device) : device_(device) {}

  void fill_inputs(const ProgramOptions& options, int64_t vocab_size) {
    const RngKey key{.seed = 7};
    std::vector<int32_t> tokens(static_cast<size_t>(options.batch * options.tokens));
    for (const char* name : {"tokens", "targets"}) {
      for (size_t i = 0; i < tokens.size(); ++i)
        tokens[i] =
            static_cast<int32_t>(random_bits(key, i + (name[1] == 'a' ? 1 : 0)) % static_cast<uint64_t>(vocab_size));
      device_.write(*tensors_.at(name).memory, 0, std::as_bytes(std::span(tokens)));
    }
    const float grad = 1.0F / static_cast<float>(num_microbatches_), lr = 1e-4F;
    const int64_t step = 1;
    device_.write(*tensors_.at("loss_grad").memory, 0, bytes_of(grad));
    device_.write(*tensors_.at("lr").memory, 0, bytes_of(lr));
    device_.write(*tensors_.at("step").memory, 0, bytes_of(step));
  }

  Device& device_;
  TensorSet tensors_;
  std::unique_ptr<Executable> microbatch_, update_;
  std::optional<GradientTree> tree_;
  int64_t num_microbatches_ = 1, leaves_ = 1;
};

Status run_bench(const BenchArguments& arguments) {
  ASSIGN_OR_RETURN(const BenchModel model, bench_model(arguments));
  const bool on_gpu = arguments.device == "cuda";
  ASSIGN_OR_RETURN(const auto device,
                   on_gpu ? make_cuda_device() : make_cpu_device({.num_threads = arguments.threads}));
  ASSIGN_OR_RETURN(const auto bench, StepBench::create(*device, model, arguments));
  const int64_t tokens_per_step = model.batch * model.config.context;
  ASSIGN_OR_RETURN(const double flops_per_token, training_flops_per_token(model.config, model.config.context));
  const DType compute =
      arguments.compute == "auto" ? device->preferred_compute_dtype() : *dtype_from_name(arguments.compute);
  // The clock changes and neighbours come and go: the highest of several moments is what this machine can do.
  const int threads = arguments.threads > 0 ? arguments.threads : num_usable_cores();
  // A GPU's is its datasheet's.
  double peak = on_gpu ? device->peak_flops(compute) : measure_peak_flops(threads, compute);
  for (int i = 0; i < (on_gpu ? 3 : 1); ++i) bench->step();
  std::vector<double> times;
  for (const double start = monotonic_seconds();
       monotonic_seconds() - start < arguments.seconds || times.size() < static_cast<size_t>(arguments.steps);) {
    const double before = monotonic_seconds();
    bench->step();
    times.push_back(monotonic_seconds() - before);
    if (times.size() <= 8 && !on_gpu) peak = std::max(peak, measure_peak_flops(threads, compute));
  }
  std::sort(times.begin(), times.end());
  const double median = times[times.size() / 2], tokens_per_second = static_cast<double>(tokens_per_step) / median;
  std::printf(
      "{\"model\": \"%s\", \"what\": \"%s\", \"compute\": \"%s\", \"tokens_per_second\": %.0f, "
      "\"median_step_seconds\": %.6f, "
      "\"best_step_seconds\": %.6f, \"steps\": %zu, \"gflops\": %.1f, \"peak_gflops\": %.1f, \"share_of_peak\": "
      "%.4f, \"memory_bytes\": %lld}\n",
      model.name.c_str(), model.what.c_str(), std::string(dtype_name(compute)).c_str(), tokens_per_second, median,
      times.front(), times.size(), tokens_per_second * flops_per_token * 1e-9, peak * 1e-9,
      tokens_per_second * flops_per_token / peak, static_cast<long long>(bench->memory_bytes()));
  if (arguments.profile) bench->print_profile();
  return ok_status();
}

}  // namespace
}  // namespace colossus

int main(int argc, char** argv) {
  CLI::App app("Training speed");
  colossus::BenchArguments arguments;
  app.add_option("--model", arguments.model);
  app.add_option("--seconds", arguments.seconds);
  app.add_option("--threads", arguments.threads);
  app.add_option("--compute", arguments.compute);
  app.add_option("--microbatch", arguments.microbatch);
  app.add_flag("--profile", arguments.profile);
  app.add_option("--device", arguments.device)->check(CLI::IsMember({"cpu", "cuda"}));
  app.add_option("--recompute", arguments.recompute)->check(CLI::IsMember({"none", "selective", "full"}));
  app.add_option("--steps", arguments.steps);
  app.add_option("--layers", arguments.layers);
  app.add_option("--tokens", arguments.tokens);
  app.add_option("--batch", arguments.batch);
  app.add_option("--leaves", arguments.leaves);
  CLI11_PARSE(app, argc, argv);
  const colossus::Status status = colossus::run_bench(arguments);
  if (!status.ok()) std::fprintf(stderr, "train_bench: %s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
