#include "plan/validation.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>

#include "io/config.h"
#include "plan/layout_network.h"
#include "plan/memory.h"

namespace colossus {
namespace {

// What is left of a GPU's memory beside the libraries' buffers and fragmentation.
constexpr double kUsableMemory = 0.92;

// The largest of 1, 2 and 4 sequences that the batch allows and with which everything fits.
Status fill_microbatch(PublishedRun& run, const StackConfig& stack, const GpuSpec& gpu) {
  for (const int64_t microbatch : {4, 2, 1}) {
    run.layout.microbatch = microbatch;
    const int64_t unit = microbatch * run.layout.mesh.data * run.layout.mesh.shard;
    if (run.layout.batch % unit != 0) continue;
    if (microbatch == 1) break;
    ASSIGN_OR_RETURN(const RankPieces pieces, write_rank_pieces(run.model, run.layout, stack));
    ASSIGN_OR_RETURN(const RankMemory memory, memory_of(run.model, run.layout, pieces, kMixedState));
    if (memory.total() <= kUsableMemory * gpu.memory_gb * 1e9) break;
  }
  return ok_status();
}

// Fills what the row leaves open: activations are computed again as the stack does by default, and experts wider than
// the model are cut as little as lets the state fit. (What activations take is not asked: how much of them others keep
// is not known well enough.)
Result<RankPieces> write_as_filled(PublishedRun& run, const StackConfig& stack, const GpuSpec& gpu) {
  MeshConfig& mesh = run.layout.mesh;
  if (!run.recompute_stated) {
    run.layout.recompute = stack.recompute;
    run.filled += fmt::format("recompute {}; ", recompute_name(stack.recompute));
  }
  if (!run.microbatch_stated) {
    RETURN_IF_ERROR(fill_microbatch(run, stack, gpu));
    run.filled += fmt::format("microbatch {}; ", run.layout.microbatch);
  }
  std::vector<int64_t> cuts = {1};
  const int64_t of_stage = run.num_gpus / mesh.pipeline;
  if (mesh.expert > 1 && mesh.tensor > 1 && run.model.expert_width > run.model.width &&
      of_stage % (mesh.expert * mesh.tensor) == 0) {
    if (!stack.expert_folding) cuts.clear();
    cuts.push_back(mesh.tensor);
  }
  for (const int64_t cut : cuts) {
    mesh.expert_tensor = cut;
    ASSIGN_OR_RETURN(RankPieces pieces, write_rank_pieces(run.model, run.layout, stack));
    ASSIGN_OR_RETURN(const RankMemory memory, memory_of(run.model, run.layout, pieces, kMixedState));
    if (cut != cuts.back() && memory.state() > kUsableMemory * gpu.memory_gb * 1e9) continue;
    if (mesh.expert > 1) run.filled += fmt::format("expert_tensor {}; ", cut);
    return pieces;
  }
  return invalid("no cut of the experts");
}

Status prepare(PublishedRun& run, const Calibration& calibration, FileSystem& files, const std::string& clusters,
               std::shared_ptr<const ClusterConfig>& cluster, std::shared_ptr<const RankPieces>& pieces) {
  const MachineRule* machine = calibration.cluster_of(run.gpu);
  if (!machine) return invalid("no cluster is known with gpu = \"" + run.gpu + "\"");
  ASSIGN_OR_RETURN(ClusterConfig loaded, load_config<ClusterConfig>(files, clusters + "/" + machine->cluster));
  if (!calibration.rates_of(loaded.pools.front().gpu.name))
    return invalid("no rates are known of " + loaded.pools.front().gpu.name);
  const StackConfig stack = calibration.stack_of(run);
  ASSIGN_OR_RETURN(RankPieces written, write_as_filled(run, stack, loaded.pools.front().gpu));
  cluster = std::make_shared<const ClusterConfig>(std::move(loaded));
  pieces = std::make_shared<const RankPieces>(std::move(written));
  return ok_status();
}

// Layouts are powers of two, so jobs of more than one NVLink domain of 72 use 64 of each.
int64_t usable_domain(int64_t domain_gpus, int64_t num_gpus) {
  return num_gpus <= domain_gpus ? domain_gpus
                                 : static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(domain_gpus)));
}

}  // namespace

RunToPlay RunToPlay::create(const CsvTable& table, size_t row, const Calibration& calibration, FileSystem& files,
                            const std::string& clusters) {
  RunToPlay result;
  PlayedRun& played = result.played_;
  played.name = table.at(row, "name");
  played.line = table.line(row);
  const std::string& said = table.at(row, "fit");
  played.used_to_fit = said.empty() ? is_used_to_fit(played.name) : said == "yes";
  auto run = read_published_run(table, row);
  if (!run.ok()) {
    played.refused = run.status().message();
    return result;
  }
  played.run = std::move(*run);
  const Status prepared = prepare(played.run, calibration, files, clusters, result.cluster_, result.pieces_);
  if (!prepared.ok())
    played.refused = prepared.message();
  else
    played.gpu = result.cluster_->pools.front().gpu.name;
  return result;
}

PlayedRun RunToPlay::play(const Calibration& calibration) const {
  PlayedRun played = played_;
  if (refused()) return played;
  const PublishedRun& run = played.run;
  const GpuSpec& gpu = cluster_->pools.front().gpu;
  const KernelTimes kernels(gpu, *calibration.rates_of(gpu.name), run.layout.products);
  const StackConfig stack = calibration.stack_of(run);
  const PoolSpec& pool = cluster_->pools.front();
  NetworkSpec spec = cluster_->network;
  spec.domain_gpus = usable_domain(spec.domain_gpus, run.num_gpus);
  if (pool.processor_cores) spec.domain_gpus = std::max(spec.domain_gpus, run.num_gpus);
  const Network network(spec);
  LayoutNetwork groups(network, run.layout.mesh, run.model.num_experts_per_token, stack);
  played.stack = stack.name;
  const auto time = time_of_step(run.model, run.layout, *pieces_,
                                 {.kernels = &kernels,
                                  .communication = [&](RankGroup group, Exchange exchange,
                                                       double bytes) { return groups.seconds(group, exchange, bytes); },
                                  .stack = stack,
                                  .experts_again = run.experts_again,
                                  .straggling = calibration.straggling(run.num_gpus),
                                  .cores = pool.shared_cores(run.num_gpus),
                                  .clock = pool.clock_of(run.num_gpus)});
  if (time.ok())
    played.time = *time;
  else
    played.refused = time.status().message();
  return played;
}

bool is_used_to_fit(const std::string& name) {
  uint32_t hash = 2166136261u;  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  return (hash >> 8) % 2 == 0;
}

ValidationSummary summarize(const std::vector<PlayedRun>& runs) {
  ValidationSummary summary{.rows = runs.size()};
  std::vector<double> errors;
  for (const PlayedRun& run : runs) {
    if (!run.refused.empty())
      ++summary.refused;
    else
      errors.push_back(std::abs(run.error()));
  }
  if (errors.empty()) return summary;
  std::sort(errors.begin(), errors.end());
  for (const double error : errors) summary.mean_error += error / static_cast<double>(errors.size());
  // The smallest that at least nine in ten do not exceed.
  summary.worst_decile = errors[static_cast<size_t>(std::ceil(0.9 * static_cast<double>(errors.size()))) - 1];
  return summary;
}

}  // namespace colossus
