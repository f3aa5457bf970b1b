#include "train/train_step.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "base/clock.h"
#include "base/exact_sum.h"
#include "base/milestone.h"
#include "comm/agreement.h"
#include "comm/texts.h"
#include "train/leaf_balance.h"
#include "train/step_verifier.h"

namespace colossus {
namespace {

float read_scalar(Executable& executable, TensorId id) {
  float value = 0;
  executable.read_output(id, writable_bytes_of(value));
  return value;
}

}  // namespace

Result<std::unique_ptr<TrainStep>> TrainStep::create(const RunConfig& run, DType compute, Device& device,
                                                     Ranks& ranks) {
  std::unique_ptr<TrainStep> step(new TrainStep(run, device, ranks));
  ASSIGN_OR_RETURN(step->model_, write_rank_model(run, compute, ranks));
  RETURN_IF_ERROR(step->build());
  return step;
}

// Also when leaves are shared anew: the tensors are then there already, and stay.
Status TrainStep::build() {
  const TrainConfig& t = run_.train;
  microbatches_.reset();
  update_.reset();
  ASSIGN_OR_RETURN(microbatches_, Microbatches::create(run_, model_, device_, ranks_));
  ASSIGN_OR_RETURN(UpdateProgram update,
                   write_update_program(model_.table, run_.optimizer, microbatches_->update_groups(),
                                        {.num_microbatches = t.batch / t.microbatch, .world = ranks_.all()}));
  additions_ = std::move(update.additions);
  ASSIGN_OR_RETURN(update_, device_.compile(std::move(update.program), {.groups = &ranks_.groups}));
  // The update's first: it says where parameters and gradients lie.
  std::vector<Executable*> executables = microbatches_->executables();
  executables.insert(executables.begin(), update_.get());
  for (Executable* executable : executables)
    for (Role role : {Role::kParameter, Role::kGradient, Role::kOptimizerState})
      RETURN_IF_ERROR(tensors_.add_role(device_, executable->program(), role));
  tensors_.bind_to(*update_);
  for (Executable* executable : microbatches_->all_executables()) tensors_.bind_to(*executable);
  RETURN_IF_ERROR(update_inputs_.add_role(device_, update_->program(), Role::kInput));
  update_inputs_.bind_to(*update_);
  grad_norm_ = update_->program().find("grad_norm");
  clip_scale_ = update_->program().find("clip_scale");
  all_step_sums_ = update_->program().find("all_step_sums");
  RETURN_IF_ERROR(give_accumulators());
  list_state(update.parts);
  return ok_status();
}

// What a program's gradients are added into are the buffers that they are views of.
Status TrainStep::give_accumulators() {
  const Program& update = update_->program();
  std::vector<std::vector<Microbatches::Accumulator>> accumulators;
  for (const Executable* executable : microbatches_->executables()) {
    const Program& program = executable->program();
    std::set<std::string> buffers;
    for (const TensorId id : program.with_role(Role::kGradient))
      buffers.insert(update.tensor(update.root(update.find(program.tensor(id).name))).name);
    accumulators.emplace_back();
    for (const std::string& name : buffers) accumulators.back().push_back({name, tensors_.at(name).memory});
  }
  return microbatches_->sum_into(accumulators);
}

Result<std::string> TrainStep::balance() {
  const std::optional<RankSeconds> own = microbatches_->take_seconds();
  if (ranks_.size() == 1) return std::string();
  ASSIGN_OR_RETURN(const auto all, share_values(*ranks_.world(), own.value_or(RankSeconds{})));
  if (std::ranges::any_of(all, [](const RankSeconds& rank) { return rank.own == 0; })) return std::string();
  const std::vector<Straggler> slow = find_stragglers(ranks_.mesh, all);
  const std::vector<LeafRange> now = leaves_of_data_ranks(run_.train.reduction_leaves, ranks_);
  LeafBalance balance;
  if (reason_for_equal_shares(ranks_.mesh.config()).empty())
    balance = balance_leaves(run_.train.reduction_leaves, now,
                             paces_of_data_ranks(ranks_.mesh, all, now, microbatches_->per_leaf()));
  const auto are_others = [](const std::vector<Straggler>& found, std::vector<int64_t>& said) {
    std::vector<int64_t> ranks;
    for (const Straggler& each : found) ranks.push_back(each.rank);
    return std::exchange(said, ranks) != ranks;
  };
  const bool other_ranks = are_others(slow, slow_), other_data_ranks = are_others(balance.slow, slow_data_ranks_);
  std::string note;
  if (balance.leaves || other_ranks || other_data_ranks) {
    ASSIGN_OR_RETURN(const auto machines, share_texts(*ranks_.world(), ranks_.machine));
    note = balance_note(ranks_.mesh, now, balance, slow, machines);
  }
  if (!balance.leaves) return note;
  ranks_.leaves = std::move(*balance.leaves);
  RETURN_IF_ERROR(build());
  return note;
}

Result<bool> TrainStep::run(int64_t step, const Loader& data, const Asked& asked, StepReport& report) {
  const double start = monotonic_seconds();
  ranks_.groups.set_step(step + 1);
  std::optional<StepVerifier> verifier;
  if (run_.train.verify_every > 0 && (step + 1) % run_.train.verify_every == 0) {
    verifier.emplace(run_, ranks_, *microbatches_, data, step);
    ASSIGN_OR_RETURN(const bool checked, verifier->compute_others(asked.stop));
    if (!checked) return false;
  }
  Microbatches::Losses losses;
  ASSIGN_OR_RETURN(const bool done,
                   microbatches_->run(step, data, asked.stop, losses, verifier ? verifier->own() : nullptr));
  if (!done) return false;
  if (verifier) {
    const Status compared = verifier->compare();
    wrong_ranks_ = verifier->wrong_ranks();
    RETURN_IF_ERROR(compared);
    RETURN_IF_ERROR(microbatches_->exchange());
  }
  std::ranges::copy(losses.loss.words(), step_sums_.begin() + kLossWords);
  std::ranges::copy(losses.aux_loss.words(), step_sums_.begin() + kAuxLossWords);
  step_sums_[kStopRequests] = asked.stop.load(std::memory_order_relaxed) ? 1 : 0;
  step_sums_[kTimeIsUp] = asked.time_is_up ? 1 : 0;
  if (asked.before_update) RETURN_IF_ERROR(asked.before_update());
  milestone("update");
  RETURN_IF_ERROR(apply_update(step, report));
  report.step = step + 1;
  report.num_tokens = run_.train.batch * run_.train.tokens;
  report.seconds = monotonic_seconds() - start;
  return true;
}

Status TrainStep::apply_update(int64_t step, StepReport& report) {
  for (const LocalAddition& addition : additions_) {
    DeviceMemory& into = *tensors_.at(addition.into).memory;
    device_.add(into, *tensors_.at(addition.from).memory, into.num_bytes() / dtype_bytes(DType::kF32));
  }
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

StatePart TrainStep::part_of(const std::string& name, const std::string& tensor, size_t parameter,
                             const ElementRange& elements) const {
  const TensorSet::Entry& entry = tensors_.at(tensor);
  const TensorPart& part = model_.parameter(model_.table[parameter].name);
  return {.name = name,
          .role = entry.role,
          .whole = part.whole.shape,
          .piece = {.slice = local_slice(part.whole.shape, part.placement, ranks_.mesh.position(ranks_.rank)),
                    .begin = elements.begin,
                    .end = elements.end},
          .memory = entry.memory,
          .offset_bytes = entry.offset_bytes};
}

void TrainStep::list_state(const std::vector<UpdatedPart>& updated) {
  const Program& program = update_->program();
  for (auto* parts : {&parameters_, &updated_parts_, &parts_to_save_}) parts->clear();
  std::set<size_t> gathered;  // of these the rank has what it updates
  for (const UpdateBucket& bucket : microbatches_->buckets())
    for (size_t i = 0; i < bucket.bucket.tensors.size(); ++i) {
      const FlatTensor& tensor = bucket.bucket.tensors[i];
      const size_t index = bucket.parameter(i).index;
      if (bucket.group->gather)
        gathered.insert(index);
      else
        parameters_.push_back(part_of(tensor.name, tensor.name, index, {0, tensor.size()}));
    }
  for (const UpdatedPart& part : updated) {
    const auto add = [&](const std::string& name, const std::string& tensor) {
      updated_parts_.push_back(part_of(name, tensor, part.parameter, part.elements));
      if (!part.is_copy) parts_to_save_.push_back(updated_parts_.back());
    };
    const std::string& name = model_.table[part.parameter].name;
    add(name, part.tensor);
    if (gathered.contains(part.parameter)) parameters_.push_back(updated_parts_.back());
    for (const char* state : {".m", ".v", ".momentum"})
      if (program.find(name + state)) add(name + state, name + state);
  }
}

std::vector<StatePart> TrainStep::parts_to_load() const {
  std::vector<StatePart> parts = parameters_;
  for (const StatePart& part : updated_parts_)
    if (part.role == Role::kOptimizerState) parts.push_back(part);
  return parts;
}

}  // namespace colossus
