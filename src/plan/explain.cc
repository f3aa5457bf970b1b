#include "plan/explain.h"

#include <fmt/format.h>

#include <algorithm>

namespace colossus {

const std::vector<StepPart>& step_parts() {
  static const std::vector<StepPart> kParts = {{"kernels of the microbatches", "kernels", &StepTime::compute},
                                               {"waiting for the tensor axis", "tensor", &StepTime::exposed_tensor},
                                               {"waiting for the context axis", "context", &StepTime::exposed_context},
                                               {"waiting for experts", "expert", &StepTime::exposed_expert},
                                               {"waiting for other stages (bubble)", "bubble", &StepTime::bubble},
                                               {"gradients and parameters", "data", &StepTime::exposed_data},
                                               {"optimizer", "update", &StepTime::update},
                                               {"the slowest of all ranks", "slowest rank", &StepTime::straggling}};
  return kParts;
}

const std::vector<MemoryPart>& memory_parts() {
  static const std::vector<MemoryPart> kParts = {{"weights", &RankMemory::weights},
                                                 {"gradients", &RankMemory::gradients},
                                                 {"optimizer", &RankMemory::optimizer},
                                                 {"activations of microbatches in flight", &RankMemory::stashes},
                                                 {"within a pass", &RankMemory::arena}};
  return kParts;
}

std::string memory_fault(const RankMemory& memory, const GpuSpec& gpu) {
  if (memory.total() <= usable_bytes(gpu)) return "";
  return fmt::format("does not fit: {:.1f} GB, and {:.1f} of {}'s {:.0f} are free for programs", memory.total() * 1e-9,
                     usable_bytes(gpu) * 1e-9, gpu.name, gpu.memory_gb);
}

std::string why_slower(const JudgedLayout& judged, const JudgedLayout& best) {
  // Of the same number of tokens.
  const double scale = static_cast<double>(best.layout.batch) / static_cast<double>(judged.layout.batch);
  std::string text;
  for (const StepPart& part : step_parts()) {
    if (part.of == &StepTime::straggling) continue;  // a share of all others
    const double more = (judged.time.*part.of * scale - best.time.*part.of) / best.time.seconds;
    if (more > 0.003) text += fmt::format("{}{} +{:.1f} %", text.empty() ? "" : ", ", part.short_name, 100 * more);
  }
  return text.empty() ? "fewer GPUs, or as fast" : text;
}

std::string what_binds(const JudgedLayout& judged, const GpuSpec& gpu) {
  const StepTime& time = judged.time;
  const std::vector<StepPart>& parts = step_parts();
  const StepPart* largest = nullptr;
  for (const StepPart& part : parts) {
    if (part.of == &StepTime::compute || part.of == &StepTime::straggling) continue;
    if (!largest || time.*part.of > time.*largest->of) largest = &part;
  }
  const double share = time.*largest->of / time.seconds;
  const bool is_network = largest->of != &StepTime::bubble && largest->of != &StepTime::update;
  std::string text = share < 0.02 ? "kernels"
                     : is_network ? fmt::format("network ({}) {:.0f} %", largest->short_name, 100 * share)
                                  : fmt::format("{} {:.0f} %", largest->short_name, 100 * share);
  const double full = judged.memory.total() / usable_bytes(gpu);
  if (full > 0.9) text += fmt::format(", memory {:.0f} % full", 100 * full);
  return text;
}

RunCost cost_of_tokens(const PlanQuestion& question, const JudgedLayout& judged, double tokens) {
  const PoolSpec& pool = question.gpu_pool();
  const auto gpus = static_cast<double>(judged.num_gpus);
  RunCost cost;
  cost.days = tokens / judged.tokens_per_second / 86400;
  const double hours = 24 * cost.days;
  cost.gpu_hours = hours * gpus;
  cost.megawatt_hours = busy_watts_per_gpu(question.cluster, pool) * cost.gpu_hours * 1e-6;
  const HourlyPrice price = hourly_price(question.cluster, pool);
  const double share = gpus / static_cast<double>(pool.num_gpus());
  if (price.rent) cost.usd_rent = *price.rent * share * hours;
  if (price.owned)
    cost.usd_owned = *price.owned * share * hours + 1000 * cost.megawatt_hours * question.cluster.prices.usd_per_kwh;
  return cost;
}

}  // namespace colossus
