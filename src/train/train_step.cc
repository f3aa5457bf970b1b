#include "train/train_step.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "base/exact_sum.h"
#include "base/milestone.h"

namespace colossus {
namespace {

// What ranks exchange in one operation: large enough that the wire is busy, small enough that the sum of one overlaps
// the exchange of the next.
constexpr int64_t kBucketElements = int64_t{4} << 20;

float read_scalar(Executable& executable, TensorId id) {
  float value = 0;
  executable.read_output(id, writable_bytes_of(value));
  return value;
}

Peers peers_of(const Ranks& ranks, RankGroup group) {
  const Communicator* end = ranks.groups.find(group);
  return end ? Peers{group, end->size(), end->rank()} : Peers{group};
}

// Equal shares; leaves per rank differ by at most one.
std::vector<LeafRange> leaf_ranges(int64_t num_leaves, int64_t num_ranks) {
  return share_leaves(num_leaves, std::vector<double>(static_cast<size_t>(num_ranks), 1.0));
}

UpdateRanks update_ranks(const Ranks& ranks, int64_t num_leaves) {
  // One of two axes alone is what both are together.
  const auto along = [&](MeshAxis axis) {
    return ranks.mesh.size(axis) == ranks.mesh.size(MeshAxis::kData) * ranks.mesh.size(MeshAxis::kShard)
               ? peers_of(ranks, kUpdateRanks)
               : peers_of(ranks, RankGroup::along({axis}));
  };
  UpdateRanks result{.all = peers_of(ranks, kUpdateRanks),
                     .replicas = along(MeshAxis::kData),
                     .shards = along(MeshAxis::kShard),
                     .sums = {}};
  for (const LeafRange& leaves : leaf_ranges(num_leaves, result.all.ranks))
    result.sums.push_back(whole_subtrees(leaves));
  return result;
}

}  // namespace

Result<std::unique_ptr<TrainStep>> TrainStep::create(const RunConfig& run, DType compute, Device& device,
                                                     Ranks& ranks) {
  std::unique_ptr<TrainStep> step(new TrainStep(run, device, ranks));
  RETURN_IF_ERROR(step->build(compute));
  return step;
}

Status TrainStep::build(DType compute) {
  const TrainConfig& t = run_.train;
  options_ = {.batch = t.microbatch, .tokens = t.tokens, .compute = compute, .document_mask = run_.data.document_mask};
  ASSIGN_OR_RETURN(parameters_, parameter_table(run_.model));
  const UpdateRanks update_over = update_ranks(ranks_, t.reduction_leaves);
  leaves_ = leaf_ranges(t.reduction_leaves, update_over.all.ranks)[static_cast<size_t>(update_over.all.rank)];
  const auto buckets = parameter_buckets(parameters_, run_.optimizer, kBucketElements);
  ASSIGN_OR_RETURN(UpdateProgram update,
                   write_update_program(parameters_, run_.optimizer, buckets, update_over, t.batch / t.microbatch));
  updated_ = std::move(update.parts);
  ASSIGN_OR_RETURN(Program microbatch, write_training_program(run_.model, options_, t.recompute));
  // The update first: it says where parameters and gradients lie.
  for (const Program* program : {&update.program, &microbatch}) {
    for (Role role : {Role::kParameter, Role::kGradient, Role::kOptimizerState})
      RETURN_IF_ERROR(tensors_.add_role(device_, *program, role));
    RETURN_IF_ERROR(inputs_.add_role(device_, *program, Role::kInput));
  }
  ASSIGN_OR_RETURN(microbatch_, device_.compile(std::move(microbatch)));
  ASSIGN_OR_RETURN(update_, device_.compile(std::move(update.program), {.groups = &ranks_.groups}));
  for (Executable* executable : {microbatch_.get(), update_.get()}) {
    tensors_.bind_to(*executable);
    inputs_.bind_to(*executable);
  }
  loss_ = microbatch_->program().find("loss");
  aux_loss_ = microbatch_->program().find("aux_loss");
  grad_norm_ = update_->program().find("grad_norm");
  clip_scale_ = update_->program().find("clip_scale");
  all_step_sums_ = update_->program().find("all_step_sums");
  RETURN_IF_ERROR(make_gradient_tree(buckets.size()));
  set_input("loss_grad", static_cast<float>(t.microbatch) / static_cast<float>(t.batch));
  const auto count = static_cast<size_t>(t.microbatch * t.tokens);
  tokens_.resize(count);
  targets_.resize(count);
  if (options_.document_mask) document_start_.resize(count);
  return ok_status();
}

Status TrainStep::make_gradient_tree(size_t num_buckets) {
  std::vector<std::shared_ptr<DeviceMemory>> work;
  for (size_t i = 0; i < num_buckets; ++i) work.push_back(tensors_.at(fmt::format("gradients.{}", i)).memory);
  ASSIGN_OR_RETURN(gradients_, GradientTree::create(device_, std::move(work), leaves_));
  for (size_t bucket = 0; bucket < num_buckets; ++bucket)
    for (size_t i = 0;; ++i) {
      const TensorId id = update_->program().find(partial_sum_name(bucket, i));
      if (!id) break;
      update_->bind(id, gradients_->partial(i)[bucket]);
    }
  return ok_status();
}

Status TrainStep::run_microbatch(const Loader& data, int64_t step, int64_t first_row) {
  milestone("load");
  {
    const Traced traced(device_.trace(), kComputeLane, "load");
    RETURN_IF_ERROR(data.fill(step, first_row, run_.train.microbatch, tokens_, targets_, document_start_));
  }
  device_.write(*inputs_.at("tokens").memory, 0, std::as_bytes(std::span(tokens_)));
  device_.write(*inputs_.at("targets").memory, 0, std::as_bytes(std::span(targets_)));
  if (options_.document_mask)
    device_.write(*inputs_.at("document_start").memory, 0, std::as_bytes(std::span(document_start_)));
  if (inputs_.find("rng")) set_input("rng", std::array<int64_t, 3>{run_.train.seed, step, first_row});
  milestone("microbatch");
  return microbatch_->run();
}

Result<bool> TrainStep::run(int64_t step, const Loader& data, const Asked& asked, StepReport& report) {
  const double start = monotonic_seconds();
  const TrainConfig& t = run_.train;
  const int64_t per_leaf = t.batch / t.microbatch / t.reduction_leaves;
  ranks_.groups.set_step(step + 1);
  ExactSum loss, aux_loss;
  gradients_->begin_step();
  for (int64_t leaf = leaves_.begin; leaf < leaves_.end; ++leaf) {
    gradients_->begin_leaf();
    for (int64_t i = 0; i < per_leaf; ++i) {
      if (ranks_.size() == 1 && asked.stop.load(std::memory_order_relaxed)) return false;
      RETURN_IF_ERROR(run_microbatch(data, step, (leaf * per_leaf + i) * t.microbatch));
      loss.add(static_cast<double>(read_scalar(*microbatch_, loss_)));
      if (aux_loss_) aux_loss.add(static_cast<double>(read_scalar(*microbatch_, aux_loss_)));
    }
    gradients_->end_leaf();
  }
  std::ranges::copy(loss.words(), step_sums_.begin() + kLossWords);
  std::ranges::copy(aux_loss.words(), step_sums_.begin() + kAuxLossWords);
  step_sums_[kStopRequests] = asked.stop.load(std::memory_order_relaxed) ? 1 : 0;
  step_sums_[kTimeIsUp] = asked.time_is_up ? 1 : 0;
  if (asked.before_update) RETURN_IF_ERROR(asked.before_update());
  milestone("update");
  RETURN_IF_ERROR(apply_update(step, report));
  report.step = step + 1;
  report.num_tokens = t.batch * t.tokens;
  report.seconds = monotonic_seconds() - start;
  return true;
}

Status TrainStep::apply_update(int64_t step, StepReport& report) {
  const double factor = learning_rate_factor(run_.optimizer, step, run_.train.steps);
  report.learning_rate = factor * run_.optimizer.learning_rate;
  set_input("lr", static_cast<float>(report.learning_rate));
  set_input("muon_lr", static_cast<float>(factor * run_.optimizer.muon_learning_rate));
  set_input("step", step + 1);
  set_input("step_sums", step_sums_);
  RETURN_IF_ERROR(update_->run());
  report.grad_norm = static_cast<double>(read_scalar(*update_, grad_norm_));
  report.skipped = std::isnan(read_scalar(*update_, clip_scale_));
  if (all_step_sums_) {
    update_->read_output(all_step_sums_, writable_bytes_of(step_sums_));
    report.stop_requested = step_sums_[kStopRequests] > 0;
    report.time_is_up = step_sums_[kTimeIsUp] > 0;
  }
  const auto mean = [&](int64_t first_word) {
    ExactSum::Words words;
    std::copy_n(step_sums_.begin() + first_word, words.size(), words.begin());
    return ExactSum(words).value() / static_cast<double>(run_.train.batch / run_.train.microbatch);
  };
  report.loss = mean(kLossWords);
  report.aux_loss = mean(kAuxLossWords);
  return ok_status();
}

StatePart TrainStep::part_of(const Tensor& tensor, const UpdatedPart& part) const {
  const TensorSet::Entry& entry = tensors_.at(tensor.name);
  const int64_t first = tensor.role == Role::kParameter ? part.elements.begin : 0;
  return {.name = tensor.name,
          .role = tensor.role,
          .whole = parameters_[part.parameter].shape,
          .piece = {.slice = whole_piece(parameters_[part.parameter].shape).slice,
                    .begin = part.elements.begin,
                    .end = part.elements.end},
          .memory = entry.memory,
          .offset_bytes = entry.offset_bytes + first * dtype_bytes(tensor.type.dtype)};
}

std::vector<StatePart> TrainStep::updated_parts() const {
  std::vector<StatePart> parts;
  const Program& program = update_->program();
  for (const UpdatedPart& part : updated_) {
    const std::string& name = parameters_[part.parameter].name;
    for (const char* state : {"", ".m", ".v", ".momentum"})
      if (const TensorId id = program.find(name + state)) parts.push_back(part_of(program.tensor(id), part));
  }
  return parts;
}

std::vector<StatePart> TrainStep::parts_to_save() const {
  const bool is_copy = ranks_.mesh.coordinate(ranks_.rank, MeshAxis::kData) != 0;
  return is_copy ? std::vector<StatePart>() : updated_parts();
}

std::vector<StatePart> TrainStep::parts_to_load() const {
  std::vector<StatePart> parts;
  const Program& program = update_->program();
  for (size_t i = 0; i < parameters_.size(); ++i)
    parts.push_back(part_of(program.tensor(program.find(parameters_[i].name)),
                            {.parameter = i, .elements = {0, parameters_[i].shape.num_elements()}}));
  for (const UpdatedPart& part : updated_)
    for (const char* state : {".m", ".v", ".momentum"})
      if (const TensorId id = program.find(parameters_[part.parameter].name + state))
        parts.push_back(part_of(program.tensor(id), part));
  return parts;
}

}  // namespace colossus
