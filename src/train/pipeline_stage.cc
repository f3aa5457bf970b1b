#include "train/pipeline_stage.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/clock.h"
#include "base/milestone.h"

namespace colossus {
namespace {

// The work that is a microbatch's last on a chunk.
bool frees_stash(PipelineWork work) { return work == PipelineWork::kBackward || work == PipelineWork::kBackwardWeight; }

void add_output(Executable& executable, TensorId id, ExactSum& sum) {
  if (!id) return;
  float value = 0;
  executable.read_output(id, writable_bytes_of(value));
  sum.add(static_cast<double>(value));
}

}  // namespace

Result<std::unique_ptr<PipelineStage>> PipelineStage::create(const Program& microbatch,
                                                             const std::vector<LayerRange>& pieces,
                                                             const PipelineStageOptions& options, Device& device,
                                                             RankGroups& groups) {
  const PipelineShape& shape = options.shape;
  CHECK(options.stage >= 0 && options.stage < shape.num_stages);
  CHECK(static_cast<int64_t>(pieces.size()) == int64_t{shape.num_stages} * shape.num_chunks);
  CHECK(options.num_leaves >= 1 && shape.num_microbatches % options.num_leaves == 0);
  std::unique_ptr<PipelineStage> stage(new PipelineStage(options, device, groups));
  RETURN_IF_ERROR(stage->plan_steps());
  RETURN_IF_ERROR(stage->compile(microbatch, pieces));
  RETURN_IF_ERROR(stage->check_gradients_apart());
  for (const StashKind kind : kStashKinds) {
    stage->first_slot_[kind] = stage->stash_bytes_;
    stage->stash_bytes_ += stage->slots_[kind].count * stage->slot_bytes_[kind];
  }
  ASSIGN_OR_RETURN(stage->stash_, device.allocate(std::max<int64_t>(stage->stash_bytes_, 1)));
  return stage;
}

Status PipelineStage::plan_steps() {
  const PipelineShape& shape = options_.shape;
  if (!options_.forward_only) {
    ASSIGN_OR_RETURN(auto steps, write_pipeline_schedule(shape));
    ASSIGN_OR_RETURN(auto slots, assign_stage_slots(shape, steps));
    steps_ = std::move(steps[static_cast<size_t>(options_.stage)]);
    slots_ = std::move(slots[static_cast<size_t>(options_.stage)]);
    return ok_status();
  }
  plan_evaluation();
  return ok_status();
}

// Two outboxes: one is being taken while the other is filled. Two inboxes: one is being filled while the other is read.
void PipelineStage::plan_evaluation() {
  for (const StashKind kind : {StashKind::kOutbox, StashKind::kInbox}) slots_[kind].count = 2;
  for (int64_t microbatch = 0; microbatch < options_.shape.num_microbatches; ++microbatch)
    for (int chunk = 0; chunk < options_.shape.num_chunks; ++chunk) {
      for (const StashKind kind : kStashKinds)
        slots_[kind].of_step.push_back(slots_[kind].count > 0 ? static_cast<int64_t>(steps_.size() % 2) : -1);
      steps_.push_back({PipelineWork::kForward, chunk, microbatch});
    }
}

Status PipelineStage::compile(const Program& microbatch, const std::vector<LayerRange>& pieces) {
  const bool split = options_.shape.kind == PipelineScheduleKind::kZeroBubble && !options_.forward_only;
  chunks_.resize(static_cast<size_t>(options_.shape.num_chunks));
  std::set<std::string> shared;
  std::vector<ByStashKind<Stash>> stashes;  // by chunk
  std::vector<Program> programs;
  std::vector<std::pair<int, PipelineWork>> works;  // chunk and work, of each
  for (int chunk = 0; chunk < options_.shape.num_chunks; ++chunk) {
    const int64_t piece_number = int64_t{chunk} * options_.shape.num_stages + options_.stage;
    ASSIGN_OR_RETURN(
        PipelinePiece piece,
        cut_pipeline_piece(microbatch, {.layers = pieces, .piece = piece_number, .split_backward = split}));
    shared.insert(piece.shared_parameters.begin(), piece.shared_parameters.end());
    for (const StashKind kind : kStashKinds)
      slot_bytes_[kind] = std::max(slot_bytes_[kind], piece.stashes[kind].num_bytes);
    const auto add = [&](Program& program, PipelineWork work) {
      programs.push_back(std::move(program));
      works.emplace_back(chunk, work);
    };
    const PipelineWork backward = split ? PipelineWork::kBackwardInput : PipelineWork::kBackward;
    RETURN_IF_ERROR(add_receives(std::move(piece.receive_forward), piece.stashes, chunk, PipelineWork::kForward));
    RETURN_IF_ERROR(add_receives(std::move(piece.receive_backward), piece.stashes, chunk, backward));
    add(piece.forward, PipelineWork::kForward);
    if (!options_.forward_only) add(piece.backward, backward);
    if (split) add(piece.backward_weight, PipelineWork::kBackwardWeight);
    stashes.push_back(std::move(piece.stashes));
  }
  shared_parameters_.assign(shared.begin(), shared.end());
  std::vector<Program> last(programs.size());
  if (options_.rewrite) RETURN_IF_ERROR(options_.rewrite(programs, last, shared_parameters_));
  for (size_t i = 0; i < programs.size(); ++i) {
    const auto [chunk, work] = works[i];
    RETURN_IF_ERROR(
        add_program(std::move(programs[i]), std::move(last[i]), stashes[static_cast<size_t>(chunk)], chunk, work));
  }
  return ok_status();
}

std::vector<PipelineStage::StashedPart> PipelineStage::stashed_parts(const Program& program,
                                                                     const ByStashKind<Stash>& stashes) {
  std::vector<StashedPart> parts;
  for (const StashKind kind : kStashKinds)
    for (const Stash::Part& part : stashes[kind].parts)
      if (const TensorId id = program.find(part.name)) parts.push_back({id, kind, part.offset_bytes});
  return parts;
}

Status PipelineStage::add_receives(Program program, const ByStashKind<Stash>& stashes, int chunk, PipelineWork work) {
  if (program.operations.empty()) return ok_status();
  Work& added = work_of({work, chunk, 0});
  added.received_stashes = stashed_parts(program, stashes);
  ASSIGN_OR_RETURN(added.receive,
                   device_.compile(std::move(program), {.profile = options_.profile, .groups = &groups_}));
  return ok_status();
}

Status PipelineStage::add_program(Program program, Program last, const ByStashKind<Stash>& stashes, int chunk,
                                  PipelineWork work) {
  Work& added = work_of({work, chunk, 0});
  added.stashes = stashed_parts(program, stashes);
  const auto output = [&](const char* name) {
    const TensorId id = program.find(name);
    return id && program.tensor(id).role == Role::kOutput ? id : TensorId{};
  };
  added.loss = output("loss");
  added.aux_loss = output("aux_loss");
  added.has_inputs = !program.with_role(Role::kInput).empty();
  added.has_gradients = !program.with_role(Role::kGradient).empty();
  const CompileOptions options{.profile = options_.profile, .groups = &groups_};
  ASSIGN_OR_RETURN(added.executable, device_.compile(std::move(program), options));
  if (last.operations.empty()) return ok_status();
  ASSIGN_OR_RETURN(added.last, device_.compile(std::move(last), options));
  return ok_status();
}

// Two programs of a stage come to the end of a leaf at different times, so neither may add into the other's sums.
Status PipelineStage::check_gradients_apart() const {
  std::set<std::string> seen;
  for (const Executable* executable : executables())
    for (const TensorId id : executable->program().with_role(Role::kGradient)) {
      const std::string& name = executable->program().tensor(id).name;
      if (!seen.insert(name).second)
        return invalid(fmt::format("[mesh] two pieces of stage {} add into {}; use more stages, or one chunk",
                                   options_.stage, name));
    }
  return ok_status();
}

PipelineStage::Work& PipelineStage::work_of(const PipelineStep& step) {
  return chunks_[static_cast<size_t>(step.chunk)][static_cast<size_t>(step.work)];
}

std::vector<Executable*> PipelineStage::executables() const {
  std::vector<Executable*> all;
  for (const auto& chunk : chunks_)
    for (const Work& work : chunk)
      if (work.executable) all.push_back(work.executable.get());
  return all;
}

std::vector<Executable*> PipelineStage::last_executables() const {
  std::vector<Executable*> all;
  for (const auto& chunk : chunks_)
    for (const Work& work : chunk)
      if (work.executable) all.push_back(work.last.get());
  return all;
}

Status PipelineStage::run(const PipelineCallbacks& callbacks, PipelineReport& report) {
  const Status status = run_steps(callbacks, report);
  if (!status.ok()) groups_.abort(status.message());  // or the neighbours would wait for what never comes
  const Status sent = device_.synchronize();
  return status.ok() ? sent : status;
}

Status PipelineStage::run_steps(const PipelineCallbacks& callbacks, PipelineReport& report) {
  report = {};
  int64_t in_use = 0;
  RETURN_IF_ERROR(receive_for(0));
  for (size_t i = 0; i < steps_.size(); ++i) {
    const PipelineStep& step = steps_[i];
    if (i + 1 < steps_.size()) RETURN_IF_ERROR(receive_for(i + 1));
    if (step.work == PipelineWork::kForward) report.most_stashes = std::max(report.most_stashes, ++in_use);
    RETURN_IF_ERROR(run_step(i, callbacks, report));
    if (frees_stash(step.work)) --in_use;
  }
  return ok_status();
}

void PipelineStage::bind_stash(size_t step, const std::vector<StashedPart>& parts, Executable& executable) {
  for (const auto& [id, kind, offset] : parts) {
    const int64_t slot = slots_[kind].of_step[step];
    CHECK(slot >= 0 && slot < slots_[kind].count, "a step without its stash");
    executable.bind(id, stash_, first_slot_[kind] + slot * slot_bytes_[kind] + offset);
  }
}

Status PipelineStage::receive_for(size_t step) {
  const Work& work = work_of(steps_[step]);
  if (!work.receive) return ok_status();
  bind_stash(step, work.received_stashes, *work.receive);
  return work.receive->run();
}

Status PipelineStage::run_step(size_t step, const PipelineCallbacks& callbacks, PipelineReport& report) {
  const int64_t microbatch = steps_[step].microbatch;
  Work& work = work_of(steps_[step]);
  const bool is_last = callbacks.use_last && work.last && microbatch + 1 == options_.shape.num_microbatches;
  Executable& executable = is_last ? *work.last : *work.executable;
  const Program& program = work.executable->program();
  bind_stash(step, work.stashes, executable);
  if (work.has_inputs) RETURN_IF_ERROR(callbacks.fill_inputs(microbatch, program));
  const double begun = monotonic_seconds();
  milestone("microbatch");
  RETURN_IF_ERROR(executable.run());
  work.times.add(executable, monotonic_seconds() - begun);
  if (callbacks.on_outputs) callbacks.on_outputs(executable);
  add_output(executable, work.loss, report.loss);
  add_output(executable, work.aux_loss, report.aux_loss);
  const int64_t per_leaf = options_.shape.num_microbatches / options_.num_leaves;
  if (work.has_gradients && (microbatch + 1) % per_leaf == 0)
    RETURN_IF_ERROR(callbacks.end_leaf(microbatch / per_leaf, program));
  return ok_status();
}

bool PipelineStage::take_seconds(RankSeconds& seconds) {
  bool any = false;
  for (auto& chunk : chunks_)
    for (size_t work = 0; work < kNumPipelineWorks; ++work)
      any |= chunk[work].times.take(static_cast<PipelineWork>(work), seconds);
  return any;
}

}  // namespace colossus
