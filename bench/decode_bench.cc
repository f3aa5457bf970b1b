// Decoding one sequence: tokens per second, and the bytes of weights read per second over the memory's read bandwidth,
// both measured in this run.
//   decode_bench [--seconds 10] [--threads 0] [--compute bf16|f32]
//   decode_bench --device cuda --model configs/models/llama-3-8b.toml --batch 64 --bandwidth 4300

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

#include "base/clock.h"
#include "base/platform.h"
#include "device/cpu/cpu_device.h"
#include "device/cpu/peak.h"
#include "device/cuda/cuda_device.h"
#include "infer/decode_session.h"
#include "io/config.h"
#include "io/file_system.h"
#include "train/train_state.h"

namespace colossus {
namespace {

struct DecodeArguments {
  double seconds = 10;
  int threads = 0;
  std::string compute = "bf16";
  std::string device = "cpu", model;
  int64_t batch = 1, context = 1024;
  double bandwidth = 0;  // GB/s of a GPU's memory (gpu_ceilings); a CPU's is measured
};

// A Llama-shaped model of 110M parameters, random weights.
ModelConfig bench_model() {
  return {.family = Family::kLlama,
          .num_layers = 12,
          .width = 768,
          .num_heads = 12,
          .num_kv_heads = 12,
          .head_dim = 64,
          .ffn_width = 2048,
          .num_experts = 0,
          .vocab_size = 32000,
          .context = 1024,
          .activation = ActivationKind::kSilu};
}

Result<ModelConfig> chosen_model(const DecodeArguments& arguments) {
  if (arguments.model.empty()) return bench_model();
  return load_config<ModelConfig>(local_files(), arguments.model);
}

Status run(const DecodeArguments& arguments) {
  ASSIGN_OR_RETURN(ModelConfig model, chosen_model(arguments));
  model.context = std::min(model.context, arguments.context);
  const bool on_gpu = arguments.device == "cuda";
  if (on_gpu && arguments.bandwidth <= 0) return invalid("[--bandwidth] is needed with a GPU: GB/s, from gpu_ceilings");
  ASSIGN_OR_RETURN(const auto device,
                   on_gpu ? make_cuda_device() : make_cpu_device({.num_threads = arguments.threads}));
  ASSIGN_OR_RETURN(const auto table, parameter_table(model));
  ASSIGN_OR_RETURN(const auto counts, count_parameters(model));
  ASSIGN_OR_RETURN(const Program program, write_loss_program(model, {}));
  TensorSet parameters;
  RETURN_IF_ERROR(parameters.add_role(*device, program, Role::kParameter));
  initialize_parameters(*device, table, whole_parameters(parameters, table), 1);
  const DType compute = arguments.compute == "f32" ? DType::kF32 : DType::kBF16;
  ASSIGN_OR_RETURN(const auto session,
                   DecodeSession::create(*device, parameters, model, {.batch = arguments.batch, .compute = compute}));
  const std::vector<std::vector<int32_t>> next(static_cast<size_t>(arguments.batch), {17});
  for (int i = 0; i < 4; ++i) RETURN_IF_ERROR(session->feed(next));
  const int threads = arguments.threads > 0 ? arguments.threads : num_usable_cores();
  std::vector<double> times;
  double bandwidth = on_gpu ? arguments.bandwidth * 1e9 : measure_read_bandwidth(threads);
  for (const double start = monotonic_seconds(); monotonic_seconds() - start < arguments.seconds;) {
    for (int64_t sequence = 0; sequence < arguments.batch; ++sequence)
      if (session->length(sequence) >= 256) session->truncate(sequence, 4);
    const double before = monotonic_seconds();
    RETURN_IF_ERROR(session->feed(next));
    times.push_back(monotonic_seconds() - before);
  }
  if (!on_gpu) bandwidth = std::max(bandwidth, measure_read_bandwidth(threads));
  std::sort(times.begin(), times.end());
  const double median = times[times.size() / 2];
  const double bytes = static_cast<double>(counts.active_matmul * dtype_bytes(compute));
  std::printf(
      "{\"parameters\": %lld, \"compute\": \"%s\", \"batch\": %lld, \"tokens_per_second\": %.2f, "
      "\"weights_gb_per_second\": %.2f, "
      "\"bandwidth_gb_per_second\": %.2f, "
      "\"share_of_bandwidth\": %.4f}\n",
      static_cast<long long>(counts.total), arguments.compute.c_str(), static_cast<long long>(arguments.batch),
      static_cast<double>(arguments.batch) / median, bytes / median * 1e-9, bandwidth * 1e-9,
      bytes / median / bandwidth);
  return ok_status();
}

}  // namespace
}  // namespace colossus

int main(int argc, char** argv) {
  CLI::App app("Decoding speed");
  colossus::DecodeArguments arguments;
  app.add_option("--seconds", arguments.seconds);
  app.add_option("--threads", arguments.threads);
  app.add_option("--compute", arguments.compute)->check(CLI::IsMember({"bf16", "f32"}));
  app.add_option("--device", arguments.device)->check(CLI::IsMember({"cpu", "cuda"}));
  app.add_option("--model", arguments.model);
  app.add_option("--batch", arguments.batch);
  app.add_option("--context", arguments.context);
  app.add_option("--bandwidth", arguments.bandwidth);
  CLI11_PARSE(app, argc, argv);
  const colossus::Status status = colossus::run(arguments);
  if (!status.ok()) std::fprintf(stderr, "decode_bench: %s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
