#include "plan/decode_time.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "device/sim/kernel_work.h"
#include "device/sim/network.h"
#include "model/model.h"

namespace colossus {
namespace {

constexpr double kUsableMemory = 0.92;  // libraries, buffers, activations take the rest
constexpr double kCacheBytes = 2;       // bf16
constexpr int64_t kMostSequences = 1 << 20;

double weights_bytes(const DecodeQuestion& question, const ParameterCounts& counts) {
  return static_cast<double>(counts.total) * question.weight_bytes / static_cast<double>(question.gpus);
}

// Of one sequence, on one GPU. Heads that are fewer than the GPUs are kept by several.
double cache_bytes(const DecodeQuestion& question) {
  const ModelConfig& model = question.model;
  const auto heads = static_cast<double>(std::max<int64_t>(1, model.num_kv_heads / question.gpus));
  return 2 * kCacheBytes * static_cast<double>(model.num_layers) * heads * static_cast<double>(model.head_dim) *
         static_cast<double>(question.context);
}

// Experts that any of so many tokens meets, were all equally likely.
double experts_met(const ModelConfig& model, int64_t batch) {
  const auto experts = static_cast<double>(model.num_experts);
  const double missed = 1 - static_cast<double>(model.num_experts_per_token) / experts;
  return experts * (1 - std::pow(missed, static_cast<double>(batch)));
}

// A product with its columns cut over the GPUs; weights in their own width, all else in bf16.
void cut_product(const DecodeQuestion& question, int64_t batch, KernelWork& work) {
  work.n = (work.n + question.gpus - 1) / question.gpus;
  if (work.count > 1 && !work.head) {
    const int64_t rows = batch * question.model.num_experts_per_token;
    work.count = std::clamp<int64_t>(std::llround(experts_met(question.model, batch)), 1, work.count);
    work.m = (rows + work.count - 1) / work.count;
  }
  const auto m = static_cast<double>(work.m), n = static_cast<double>(work.n), k = static_cast<double>(work.k),
             count = static_cast<double>(work.count);
  work.flops = 2 * m * n * k * count;
  work.bytes = count * (question.weight_bytes * k * n + 2 * m * (k + n));
}

// A few rows are computed in tiles of eight, whatever the weights' side is cut into: the tiles of training, which
// kernel_times.h knows, would leave most of the units without work.
double product_seconds(const DecodeQuestion& question, const KernelWork& work) {
  constexpr int64_t kRows = 8;
  const auto count = static_cast<double>(work.count);
  const double rows = static_cast<double>((work.m + kRows - 1) / kRows * kRows);
  const double flops = 2 * rows * static_cast<double>(work.n) * static_cast<double>(work.k) * count;
  const KernelRates& rates = question.rates;
  const double share = rates.matmul_bf16 * (work.head ? 1 : rates.grouped + (1 - rates.grouped) / count);
  return std::max(flops / (question.gpu.bf16_tflops * 1e12 * rates.clock * share),
                  work.bytes / (question.gpu.memory_gb_per_second * 1e9 * rates.memory));
}

double sum_seconds(const DecodeQuestion& question, int64_t batch) {
  if (question.gpus == 1) return 0;
  std::vector<int64_t> members(static_cast<size_t>(question.gpus));
  std::iota(members.begin(), members.end(), 0);
  const Network network(question.network);
  const PlacedGroup group = network.place(place_group(question.network, members));
  const double size = 2 * static_cast<double>(batch) * static_cast<double>(question.model.width);
  const double sent = bytes_sent_of_size(CollectiveKind::kAllReduce, size, question.gpus);
  return 2 * static_cast<double>(question.model.num_layers) * group.time_of(CollectiveKind::kAllReduce, sent).seconds;
}

}  // namespace

Result<DecodeTime> time_decode(const DecodeQuestion& question, int64_t batch) {
  if (batch < 1 || question.gpus < 1 || question.context < 1 || question.context > (int64_t{1} << 30))
    return invalid("decoding needs a sequence, a GPU, and tokens of context that a machine can hold");
  // A cache counts as half full.
  ASSIGN_OR_RETURN(const Program program,
                   write_decode_program(question.model, {.batch = batch, .tokens = 1, .compute = DType::kBF16},
                                        2 * question.context + 1));
  ASSIGN_OR_RETURN(const ParameterCounts counts, count_parameters(question.model));
  KernelRates rates = question.rates;
  rates.launch_us = 0;
  const KernelTimes kernels(question.gpu, rates, ProductType::kBF16);
  const double bandwidth = question.gpu.memory_gb_per_second * 1e9 * rates.memory;
  DecodeTime time{.batch = batch,
                  .weights_gb = weights_bytes(question, counts) * 1e-9,
                  .cache_gb = cache_bytes(question) * static_cast<double>(batch) * 1e-9};
  double waited = 0;
  for (const Operation& operation : program.operations) {
    KernelWork work = work_of(program, operation);
    if (work.kind == WorkKind::kMatmul) {
      cut_product(question, batch, work);
    } else {
      // Heads are cut, and between the products each GPU has its share of the rows.
      work.bytes /= static_cast<double>(question.gpus);
    }
    const double seconds = work.kind == WorkKind::kMatmul ? product_seconds(question, work) : kernels.seconds(work);
    const double memory = work.bytes / bandwidth;
    time.seconds += seconds;
    if (memory >= seconds * 0.999) waited += seconds;
  }
  const double sums = sum_seconds(question, batch);
  time.seconds += sums;
  time.memory_bound = waited / time.seconds;
  time.communication = sums / time.seconds;
  time.tokens_per_second_per_gpu = static_cast<double>(batch) / time.seconds / static_cast<double>(question.gpus);
  return time;
}

Result<int64_t> largest_decode_batch(const DecodeQuestion& question) {
  ASSIGN_OR_RETURN(const ParameterCounts counts, count_parameters(question.model));
  const double room = kUsableMemory * question.gpu.memory_gb * 1e9 - weights_bytes(question, counts);
  if (room <= 0) return 0;
  return std::min(kMostSequences, static_cast<int64_t>(room / cache_bytes(question)));
}

}  // namespace colossus
