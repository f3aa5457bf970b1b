#include "train/microbatches.h"

#include <algorithm>

#include "base/clock.h"
#include "base/milestone.h"
#include "io/checksum.h"
#include "train/shared_state.h"

namespace colossus {
namespace {

void add_output(Executable& executable, TensorId id, ExactSum& sum) {
  if (!id) return;
  float value = 0;
  executable.read_output(id, writable_bytes_of(value));
  sum.add(static_cast<double>(value));
}

// For tests: what a processor that errs leaves behind. Of the first number from the middle on that is not zero.
void flip_bit(Device& device, DeviceMemory& memory) {
  constexpr uint32_t kBit = uint32_t{1} << 22;  // makes half as much more of a number, or less
  for (int64_t at = memory.num_bytes() / 8 * 4; at < memory.num_bytes(); at += 4) {
    uint32_t bits = 0;
    device.read(memory, at, writable_bytes_of(bits));
    if (bits == 0) continue;
    return device.write(memory, at, bytes_of(bits ^ kBit));
  }
}

// Ranks that share sequences all know their loss.
bool counts_losses(const Ranks& ranks) {
  return ranks.mesh.coordinate(ranks.rank, MeshAxis::kContext) == 0 &&
         ranks.mesh.coordinate(ranks.rank, MeshAxis::kTensor) == 0;
}

}  // namespace

Result<std::unique_ptr<Microbatches>> Microbatches::create(const RunConfig& run, const RankModel& model, Device& device,
                                                           Ranks& ranks) {
  std::unique_ptr<Microbatches> microbatches(new Microbatches(run, model, device, ranks));
  microbatches->leaves_ = leaves_of_tree(run.train.reduction_leaves, ranks);
  RETURN_IF_ERROR(microbatches->compile(model));
  return microbatches;
}

void Microbatches::share(const RankModel& model, std::vector<Program>& programs,
                         const std::vector<std::string>& shared) {
  RankGradients gradients{.programs = {}, .shared = shared};
  for (const Program& program : programs) gradients.programs.push_back(&program);
  groups_ = colossus::update_groups(model, gradients, run_.train.reduction_leaves, ranks_);
  buckets_ = make_update_buckets(model.table, run_.optimizer, groups_, kUpdateBucketElements);
  for (Program& program : programs) program = share_state(std::move(program), buckets_);
}

Status Microbatches::compile(const RankModel& model) {
  const MeshConfig& mesh = ranks_.mesh.config();
  if (mesh.pipeline > 1) {
    ASSIGN_OR_RETURN(
        stage_, PipelineStage::create(model.microbatch, cut_layers(run_.model.num_layers, mesh.pipeline * mesh.chunks),
                                      {.shape = {.kind = mesh.schedule,
                                                 .num_stages = static_cast<int>(mesh.pipeline),
                                                 .num_chunks = static_cast<int>(mesh.chunks),
                                                 .num_microbatches = leaves_.size() * per_leaf()},
                                       .stage = ranks_.mesh.coordinate(ranks_.rank, MeshAxis::kPipeline),
                                       .num_leaves = leaves_.size(),
                                       .rewrite =
                                           [&](std::vector<Program>& programs, const std::vector<std::string>& shared) {
                                             share(model, programs, shared);
                                             return ok_status();
                                           }},
                                      device_, ranks_.groups));
  } else {
    std::vector<Program> programs = {model.microbatch};
    share(model, programs, {});
    ASSIGN_OR_RETURN(whole_, device_.compile(std::move(programs.front()), {.groups = &ranks_.groups}));
    loss_ = whole_->program().find("loss");
    aux_loss_ = whole_->program().find("aux_loss");
  }
  for (Executable* executable : executables()) RETURN_IF_ERROR(inputs_.add(*executable));
  has_rng_ = inputs_.tensors().find("rng") != nullptr;
  if (inputs_.tensors().find("loss_grad"))
    inputs_.set("loss_grad", static_cast<float>(run_.train.microbatch) / static_cast<float>(run_.train.batch));
  return ok_status();
}

std::vector<Executable*> Microbatches::executables() const {
  return stage_ ? stage_->executables() : std::vector<Executable*>{whole_.get()};
}

int64_t Microbatches::leaf_of_turn(int64_t turn) const {
  if (ranks_.mesh.config().zero_stage == 1) return first_leaf_ + turn;
  return turn * ranks_.num_data_ranks() + ranks_.data_rank();  // in turn: those of one turn make up a whole subtree
}

Status Microbatches::sum_into(const std::vector<std::vector<std::shared_ptr<DeviceMemory>>>& accumulators) {
  for (const auto& memories : accumulators) {
    trees_.emplace_back();
    if (memories.empty()) continue;
    ASSIGN_OR_RETURN(trees_.back(), GradientTree::create(device_, memories, leaves_));
  }
  return ok_status();
}

Status Microbatches::feed(const Loader& data, int64_t step, int64_t first_row, const Program& program) {
  milestone("load");
  const Traced traced(device_.trace(), kComputeLane, "load");
  RETURN_IF_ERROR(inputs_.read(data, step, first_row));
  inputs_.write(program);
  if (has_rng_) inputs_.set("rng", std::array<int64_t, 3>{run_.train.seed, step, first_row});
  return ok_status();
}

Result<bool> Microbatches::run(int64_t step, const Loader& data, const std::atomic<bool>& stop, Losses& losses,
                               LeafChecksums* checksums) {
  first_leaf_ = leaves_.begin;
  sums_ = true;
  checksums_ = checksums;
  return run_leaves(step, data, stop, losses);
}

Result<bool> Microbatches::run_again(int64_t step, const Loader& data, const std::atomic<bool>& stop,
                                     int64_t first_leaf, LeafChecksums& checksums) {
  first_leaf_ = first_leaf;
  sums_ = false;
  checksums_ = &checksums;
  Losses losses;
  return run_leaves(step, data, stop, losses);
}

Result<bool> Microbatches::run_leaves(int64_t step, const Loader& data, const std::atomic<bool>& stop, Losses& losses) {
  losses = {};
  if (checksums_) checksums_->assign(static_cast<size_t>(leaves_.size()), 0);
  for (auto& tree : trees_) {
    if (!tree) continue;
    tree->begin_step();
    tree->begin_leaf();
  }
  bool done = true;
  if (stage_) {
    RETURN_IF_ERROR(run_stage(step, data, losses));
  } else {
    ASSIGN_OR_RETURN(done, run_whole(step, data, stop, losses));
  }
  if (!counts_losses(ranks_)) losses = {};
  return done;
}

Result<bool> Microbatches::run_whole(int64_t step, const Loader& data, const std::atomic<bool>& stop, Losses& losses) {
  for (int64_t turn = 0; turn < leaves_.size(); ++turn) {
    const int64_t leaf = leaf_of_turn(turn);
    Losses of_leaf;
    for (int64_t i = 0; i < per_leaf(); ++i) {
      if (ranks_.size() == 1 && stop.load(std::memory_order_relaxed)) return false;
      RETURN_IF_ERROR(feed(data, step, (leaf * per_leaf() + i) * run_.train.microbatch, whole_->program()));
      const double begun = monotonic_seconds();
      milestone("microbatch");
      RETURN_IF_ERROR(whole_->run());
      seconds_.push_back(monotonic_seconds() - begun);
      add_output(*whole_, loss_, of_leaf.loss);
      add_output(*whole_, aux_loss_, of_leaf.aux_loss);
    }
    losses.loss.add(of_leaf.loss);
    losses.aux_loss.add(of_leaf.aux_loss);
    if (checksums_) {
      const std::array words = {of_leaf.loss.words(), of_leaf.aux_loss.words()};
      (*checksums_)[static_cast<size_t>(turn)] += checksum(bytes_of(words));
    }
    end_leaf(0, turn);
  }
  return true;
}

// The gradients of `program` are those of a leaf.
void Microbatches::end_leaf(size_t program, int64_t turn) {
  GradientTree& tree = *trees_[program];
  if (milestone_flips("gradient")) flip_bit(device_, *tree.work().front());
  if (checksums_) {
    // Programs come to the ends of their leaves in an order that depends on the leaf's place in the schedule.
    std::vector<uint64_t> sums = {program};
    for (const auto& memory : tree.work()) sums.push_back(checksum_of(*memory));
    (*checksums_)[static_cast<size_t>(turn)] += checksum(std::as_bytes(std::span(sums)));
  }
  if (sums_) tree.end_leaf();
  if (turn + 1 < leaves_.size()) tree.begin_leaf();
}

uint64_t Microbatches::checksum_of(const DeviceMemory& memory) {
  constexpr int64_t kPieceBytes = int64_t{1} << 20;
  read_.resize(static_cast<size_t>(std::min(kPieceBytes, memory.num_bytes())));
  StreamingChecksum sum;
  for (int64_t at = 0; at < memory.num_bytes(); at += kPieceBytes) {
    const auto piece = std::span(read_).first(static_cast<size_t>(std::min(kPieceBytes, memory.num_bytes() - at)));
    device_.read(memory, at, piece);
    sum.add(piece);
  }
  return sum.value();
}

Status Microbatches::run_stage(int64_t step, const Loader& data, Losses& losses) {
  const std::vector<Executable*> all = executables();
  const PipelineCallbacks callbacks{
      .fill_inputs =
          [&](int64_t microbatch, const Program& program) {
            const int64_t leaf = leaf_of_turn(microbatch / per_leaf());
            return feed(data, step, (leaf * per_leaf() + microbatch % per_leaf()) * run_.train.microbatch, program);
          },
      .end_leaf =
          [&](int64_t turn, const Program& program) {
            const auto same = [&](const Executable* executable) { return &executable->program() == &program; };
            end_leaf(static_cast<size_t>(std::ranges::find_if(all, same) - all.begin()), turn);
            return ok_status();
          }};
  PipelineReport report;
  RETURN_IF_ERROR(stage_->run(callbacks, report));
  losses = {report.loss, report.aux_loss};
  return ok_status();
}

double Microbatches::take_median_seconds() {
  if (seconds_.empty()) return 0;
  const auto middle = seconds_.begin() + static_cast<std::ptrdiff_t>(seconds_.size() / 2);
  std::nth_element(seconds_.begin(), middle, seconds_.end());
  const double median = *middle;
  seconds_.clear();
  return median;
}

int64_t Microbatches::partial_sum_bytes() const {
  int64_t bytes = 0;
  for (const auto& tree : trees_)
    if (tree) bytes += tree->num_bytes();
  return bytes;
}

int64_t Microbatches::arena_bytes() const {
  int64_t most = 0;
  for (const Executable* executable : executables()) most = std::max(most, executable->memory_plan().arena_bytes);
  return most;
}

int64_t Microbatches::packed_bytes() const {
  int64_t bytes = 0;
  for (const Executable* executable : executables()) bytes += executable->packed_bytes();
  return bytes;
}

}  // namespace colossus
