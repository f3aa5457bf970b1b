#include "train/evaluator.h"

#include <algorithm>

#include "base/exact_sum.h"
#include "base/milestone.h"
#include "comm/agreement.h"
#include "train/rank_model.h"
#include "train/shared_state.h"

namespace colossus {
namespace {

Status add_over_ranks(Communicator& ranks, ExactSum& sum, int64_t& num_tokens, bool& stopped) {
  struct Share {
    ExactSum::Words words;
    int64_t num_tokens, stopped;
  };
  ASSIGN_OR_RETURN(const auto all, share_values(ranks, Share{sum.words(), num_tokens, stopped ? 1 : 0}));
  sum = {};
  num_tokens = 0;
  for (const Share& share : all) {
    sum.add(ExactSum(share.words));
    num_tokens += share.num_tokens;
    stopped = stopped || share.stopped != 0;
  }
  return ok_status();
}

}  // namespace

Evaluator::Evaluator(Device& device, const ProgramOptions& options, Ranks* ranks)
    : device_(device), options_(options), ranks_(ranks ? *ranks : alone_) {
  shares_model_ = ranks_.size() > ranks_.num_data_ranks() || ranks_.mesh.config().expert > 1 ||
                  ranks_.mesh.config().expert_tensor > 1 ||
                  (ranks_.mesh.config().zero_stage == 3 && ranks_.mesh.config().shard > 1);
}

Result<std::unique_ptr<Evaluator>> Evaluator::create(Device& device, const TensorSet& tensors, const ModelConfig& model,
                                                     const ProgramOptions& options, Ranks* ranks,
                                                     const std::vector<UpdateBucket>& buckets) {
  std::unique_ptr<Evaluator> evaluator(new Evaluator(device, options, ranks));
  RETURN_IF_ERROR(evaluator->compile(model, tensors, buckets));
  return evaluator;
}

Status Evaluator::compile(const ModelConfig& model, const TensorSet& tensors,
                          const std::vector<UpdateBucket>& buckets) {
  ModelConfig still = model;
  still.dropout = 0;
  ASSIGN_OR_RETURN(const auto table, parameter_table(still));
  ASSIGN_OR_RETURN(const Program loss, write_loss_program(still, options_));
  const MeshPosition position = ranks_.mesh.position(ranks_.rank);
  ASSIGN_OR_RETURN(RankProgram own, partition(loss, placements_of(table), position));
  inputs_ = std::make_unique<InputFeed>(device_, options_, own.inputs, ranks_);
  const TensorPart& token_loss = *std::ranges::find(own.outputs, "token_loss", &TensorPart::name);
  for (const MeshAxis axis : {MeshAxis::kContext, MeshAxis::kTensor}) {
    if (position[axis].coordinate == 0) continue;
    counts_tokens_ = false;
    if (!token_loss.placement.find(axis)) counts_losses_ = false;
  }
  Program forward = fuse(std::move(own.program));
  const MeshConfig& mesh = ranks_.mesh.config();
  if (mesh.pipeline > 1) {
    ASSIGN_OR_RETURN(stage_, PipelineStage::create(forward, cut_layers(model.num_layers, mesh.pipeline * mesh.chunks),
                                                   {.shape = {.num_stages = static_cast<int>(mesh.pipeline),
                                                              .num_chunks = static_cast<int>(mesh.chunks)},
                                                    .stage = position[MeshAxis::kPipeline].coordinate,
                                                    .forward_only = true,
                                                    .rewrite =
                                                        [&](std::vector<Program>& programs, auto&, const auto&) {
                                                          for (Program& program : programs)
                                                            program = share_state(std::move(program), buckets);
                                                          return ok_status();
                                                        }},
                                                   device_, ranks_.groups));
    counts_tokens_ = counts_tokens_ && position[MeshAxis::kPipeline].coordinate == 0;
  } else {
    ASSIGN_OR_RETURN(whole_, device_.compile(share_state(std::move(forward), buckets), {.groups = &ranks_.groups}));
  }
  for (Executable* executable : executables()) {
    tensors.bind_to(*executable);
    RETURN_IF_ERROR(inputs_->add(*executable));
  }
  return ok_status();
}

std::vector<Executable*> Evaluator::executables() const {
  return stage_ ? stage_->executables() : std::vector<Executable*>{whole_.get()};
}

int64_t Evaluator::arena_bytes() const {
  int64_t most = 0;
  for (const Executable* executable : executables()) most = std::max(most, executable->memory_plan().arena_bytes);
  return most;
}

void Evaluator::add_losses(Executable& executable) {
  const TensorId id = executable.program().find("token_loss");
  if (!id || !counts_losses_) return;
  losses_.resize(static_cast<size_t>(executable.program().tensor(id).type.shape.num_elements()));
  executable.read_output(id, std::as_writable_bytes(std::span(losses_)));
  for (const float loss : losses_) sum_.add(static_cast<double>(loss));  // 0 where there is no target
}

Status Evaluator::run_batch(const Loader& loader, int64_t batch, int64_t num_rows) {
  milestone("evaluate");
  // Rows past the last belong to the next epoch: their targets do not count.
  RETURN_IF_ERROR(inputs_->read(loader, batch, 0, num_rows));
  if (stage_) {
    PipelineReport report;
    return stage_->run({.fill_inputs =
                            [&](int64_t, const Program& program) {
                              inputs_->write(program);
                              return ok_status();
                            },
                        .on_outputs = [&](Executable& executable) { add_losses(executable); }},
                       report);
  }
  inputs_->write(whole_->program());
  RETURN_IF_ERROR(whole_->run());
  add_losses(*whole_);
  return ok_status();
}

Result<bool> Evaluator::stops(bool own) const {
  if (!shares_model_) return own;
  ASSIGN_OR_RETURN(const auto all, share_values<char>(*ranks_.world(), own ? 1 : 0));
  return std::ranges::count(all, 1) > 0;
}

Result<Evaluation> Evaluator::run(const Loader& loader, int64_t max_tokens, const std::atomic<bool>* stop,
                                  std::atomic<double>* progress) {
  CHECK(!loader.options().shuffle && loader.options().row_tokens == options_.tokens &&
        loader.options().rows_per_step == options_.batch);
  // Ranks that share a model look for a stop together, and not before each batch: stages would wait for one another.
  const int64_t look_every = shares_model_ ? 4 : 1;
  int64_t num_rows = loader.rows_per_epoch();
  if (max_tokens > 0) num_rows = std::min(num_rows, (max_tokens + options_.tokens - 1) / options_.tokens);
  const int64_t per_round = ranks_.num_data_ranks() * options_.batch;
  const int64_t num_rounds = (num_rows + per_round - 1) / per_round;
  Evaluation result;
  sum_ = {};
  bool stopped = false;
  for (int64_t round = 0; round < num_rounds && !stopped; ++round) {
    if (round % look_every == 0) {
      ASSIGN_OR_RETURN(stopped, stops(stop && stop->load()));
      if (stopped) break;
    }
    const int64_t batch = round * ranks_.num_data_ranks() + ranks_.data_rank();
    const int64_t rows = std::clamp<int64_t>(num_rows - batch * options_.batch, 0, options_.batch);
    // Experts of this rank may have to work for the rows of others.
    if (rows > 0 || shares_model_) RETURN_IF_ERROR(run_batch(loader, batch, rows));
    if (counts_tokens_) result.num_tokens += rows * options_.tokens;
    if (progress) progress->store(static_cast<double>(round + 1) / static_cast<double>(num_rounds));
  }
  if (ranks_.size() > 1) RETURN_IF_ERROR(add_over_ranks(*ranks_.world(), sum_, result.num_tokens, stopped));
  if (stopped) return interrupted("evaluation was stopped");
  result.loss = result.num_tokens > 0 ? sum_.value() / static_cast<double>(result.num_tokens) : 0;
  return result;
}

}  // namespace colossus
