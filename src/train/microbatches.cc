#include "train/microbatches.h"

#include <algorithm>
#include <set>

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

void Microbatches::share(const RankModel& model, std::vector<Program>& programs, std::vector<Program>& last,
                         const std::vector<std::string>& shared) {
  RankGradients gradients{.programs = {}, .shared = shared};
  for (const Program& program : programs) gradients.programs.push_back(&program);
  groups_ = colossus::update_groups(model, gradients, run_.train.reduction_leaves, ranks_);
  buckets_ = make_update_buckets(model.table, run_.optimizer, groups_, kUpdateBucketElements);
  for (size_t i = 0; i < programs.size(); ++i) {
    programs[i] = share_state(std::move(programs[i]), buckets_);
    last[i] = write_last_run(programs[i], i, buckets_, leaves_);
  }
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
                                           [&](std::vector<Program>& programs, std::vector<Program>& last,
                                               const std::vector<std::string>& shared) {
                                             share(model, programs, last, shared);
                                             return ok_status();
                                           }},
                                      device_, ranks_.groups));
  } else {
    std::vector<Program> programs = {model.microbatch}, last(1);
    share(model, programs, last, {});
    const CompileOptions options{.groups = &ranks_.groups};
    ASSIGN_OR_RETURN(whole_, device_.compile(std::move(programs.front()), options));
    if (!last.front().operations.empty()) {
      ASSIGN_OR_RETURN(whole_last_, device_.compile(std::move(last.front()), options));
    }
    loss_ = whole_->program().find("loss");
    aux_loss_ = whole_->program().find("aux_loss");
  }
  RETURN_IF_ERROR(compile_exchange());
  for (Executable* executable : all_executables()) RETURN_IF_ERROR(inputs_.add(*executable));
  has_rng_ = inputs_.tensors().find("rng") != nullptr;
  if (inputs_.tensors().find("loss_grad"))
    inputs_.set("loss_grad", static_cast<float>(run_.train.microbatch) / static_cast<float>(run_.train.batch));
  return ok_status();
}

Status Microbatches::compile_exchange() {
  const auto compile = [&](ExchangedBehind which, std::unique_ptr<Executable>& executable) -> Status {
    Program program = write_exchange(buckets_, leaves_, which);
    if (program.operations.empty()) return ok_status();
    ASSIGN_OR_RETURN(executable, device_.compile(std::move(program), {.groups = &ranks_.groups}));
    return ok_status();
  };
  RETURN_IF_ERROR(compile(ExchangedBehind::kOthers, exchange_others_));
  return run_.train.verify_every > 0 ? compile(ExchangedBehind::kAll, exchange_all_) : ok_status();
}

std::vector<Executable*> Microbatches::executables() const {
  return stage_ ? stage_->executables() : std::vector<Executable*>{whole_.get()};
}

std::vector<Executable*> Microbatches::last_executables() const {
  return stage_ ? stage_->last_executables() : std::vector<Executable*>{whole_last_.get()};
}

std::vector<Executable*> Microbatches::all_executables() const {
  std::vector<Executable*> all = executables();
  std::ranges::copy(last_executables(), std::back_inserter(all));
  for (const auto* exchange : {&exchange_others_, &exchange_all_}) all.push_back(exchange->get());
  std::erase(all, nullptr);
  return all;
}

std::vector<std::pair<const Program*, int64_t>> Microbatches::programs_of_step() const {
  std::vector<std::pair<const Program*, int64_t>> programs;
  const std::vector<Executable*> all = executables(), last = last_executables();
  const int64_t num_microbatches = leaves_.size() * per_leaf();
  for (size_t i = 0; i < all.size(); ++i) {
    programs.emplace_back(&all[i]->program(), num_microbatches - (last[i] ? 1 : 0));
    if (last[i]) programs.emplace_back(&last[i]->program(), 1);
  }
  if (exchange_others_) programs.emplace_back(&exchange_others_->program(), 1);
  return programs;
}

int64_t Microbatches::leaf_of_turn(int64_t turn) const {
  if (ranks_.mesh.config().zero_stage == 1) return first_leaf_ + turn;
  return turn * ranks_.num_data_ranks() + ranks_.data_rank();  // in turn: those of one turn make up a whole subtree
}

Status Microbatches::sum_into(const std::vector<std::vector<Accumulator>>& accumulators) {
  std::set<std::string> exchanged;
  for (const UpdateBucket& bucket : buckets_)
    for (size_t i = 0; bucket.group->last_run && i < bucket.group->num_accumulators(); ++i)
      exchanged.insert(bucket.gradients_name(i));
  const auto make_tree = [&](const std::vector<Accumulator>& all, bool of_exchanged,
                             std::optional<GradientTree>& tree) -> Status {
    std::vector<Accumulator> own;
    std::vector<std::shared_ptr<DeviceMemory>> memories;
    for (const Accumulator& accumulator : all) {
      if (exchanged.contains(accumulator.name) != of_exchanged) continue;
      own.push_back(accumulator);
      memories.push_back(accumulator.memory);
    }
    if (own.empty()) return ok_status();
    ASSIGN_OR_RETURN(tree, GradientTree::create(device_, std::move(memories), leaves_));
    for (Executable* executable : all_executables())
      for (size_t at = 0; at < own.size(); ++at)
        for (size_t i = 0; i < tree->num_partial(); ++i)
          if (const TensorId id = executable->program().find(partial_sum_name(own[at].name, i)))
            executable->bind(id, tree->partial(i)[at]);
    return ok_status();
  };
  for (const std::vector<Accumulator>& all : accumulators) {
    Trees& trees = trees_.emplace_back();
    RETURN_IF_ERROR(make_tree(all, true, trees.exchanged));
    RETURN_IF_ERROR(make_tree(all, false, trees.others));
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
  exchanges_ = checksums == nullptr;
  checksums_ = checksums;
  ASSIGN_OR_RETURN(const bool done, run_leaves(step, data, stop, losses));
  if (done && exchanges_ && exchange_others_) RETURN_IF_ERROR(exchange_others_->run());
  return done;
}

Result<bool> Microbatches::run_again(int64_t step, const Loader& data, const std::atomic<bool>& stop,
                                     int64_t first_leaf, LeafChecksums& checksums) {
  first_leaf_ = first_leaf;
  sums_ = exchanges_ = false;
  checksums_ = &checksums;
  Losses losses;
  return run_leaves(step, data, stop, losses);
}

Result<bool> Microbatches::run_leaves(int64_t step, const Loader& data, const std::atomic<bool>& stop, Losses& losses) {
  losses = {};
  if (checksums_) checksums_->assign(static_cast<size_t>(leaves_.size()), 0);
  for (Trees& trees : trees_)
    for (auto* tree : {&trees.exchanged, &trees.others}) {
      if (!*tree) continue;
      (*tree)->begin_step();
      (*tree)->begin_leaf();
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
      const bool ends_step = exchanges_ && whole_last_ && is_last(turn) && i + 1 == per_leaf();
      Executable& microbatch = ends_step ? *whole_last_ : *whole_;
      const double begun = monotonic_seconds();
      milestone("microbatch");
      RETURN_IF_ERROR(microbatch.run());
      times_.add(microbatch, monotonic_seconds() - begun);
      add_output(microbatch, loss_, of_leaf.loss);
      add_output(microbatch, aux_loss_, of_leaf.aux_loss);
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

// The gradients of `program` are those of a leaf, or have been exchanged.
void Microbatches::end_leaf(size_t program, int64_t turn) {
  Trees& of_program = trees_[program];
  std::vector<GradientTree*> trees;
  for (auto* tree : {&of_program.exchanged, &of_program.others})
    if (*tree) trees.push_back(&**tree);
  if (milestone_flips("gradient")) flip_bit(device_, *trees.front()->work().front());
  if (checksums_) {
    // Programs come to the ends of their leaves in an order that depends on the leaf's place in the schedule.
    std::vector<uint64_t> sums = {program};
    for (const GradientTree* tree : trees)
      for (const auto& memory : tree->work()) sums.push_back(checksum_of(*memory));
    (*checksums_)[static_cast<size_t>(turn)] += checksum(std::as_bytes(std::span(sums)));
  }
  const bool was_exchanged = exchanges_ && is_last(turn);
  for (GradientTree* tree : trees) {
    const bool is_summed = was_exchanged && of_program.exchanged && tree == &*of_program.exchanged;
    if (sums_ && !is_summed) tree->end_leaf();
    if (!is_last(turn)) tree->begin_leaf();
  }
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
          },
      .use_last = exchanges_};
  PipelineReport report;
  RETURN_IF_ERROR(stage_->run(callbacks, report));
  losses = {report.loss, report.aux_loss};
  return ok_status();
}

std::optional<RankSeconds> Microbatches::take_seconds() {
  RankSeconds seconds;
  const bool ran = stage_ ? stage_->take_seconds(seconds) : times_.take(PipelineWork::kForward, seconds);
  return ran ? std::optional(seconds) : std::nullopt;
}

int64_t Microbatches::partial_sum_bytes() const {
  int64_t bytes = 0;
  for (const Trees& trees : trees_)
    for (const auto* tree : {&trees.exchanged, &trees.others})
      if (*tree) bytes += (*tree)->num_bytes();
  return bytes;
}

int64_t Microbatches::arena_bytes() const {
  int64_t most = 0;
  for (const Executable* executable : all_executables()) most = std::max(most, executable->memory_plan().arena_bytes);
  return most;
}

int64_t Microbatches::packed_bytes() const {
  int64_t bytes = 0;
  for (const Executable* executable : executables()) bytes += executable->packed_bytes();
  return bytes;
}

}  // namespace colossus
