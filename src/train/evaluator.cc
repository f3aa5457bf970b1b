#include "train/evaluator.h"

#include <algorithm>

#include "base/exact_sum.h"
#include "base/milestone.h"

namespace colossus {
namespace {

Status add_over_ranks(Communicator& ranks, ExactSum& sum, int64_t& num_tokens, bool& stopped) {
  struct Share {
    ExactSum::Words words;
    int64_t num_tokens, stopped;
  };
  const Share own{sum.words(), num_tokens, stopped ? 1 : 0};
  std::vector<Share> all(static_cast<size_t>(ranks.size()));
  RETURN_IF_ERROR(ranks.all_gather(std::as_bytes(std::span(&own, 1)), std::as_writable_bytes(std::span(all))));
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

Result<std::unique_ptr<Evaluator>> Evaluator::create(Device& device, const TensorSet& tensors, const ModelConfig& model,
                                                     const ProgramOptions& options) {
  std::unique_ptr<Evaluator> e(new Evaluator);
  e->device_ = &device;
  e->options_ = options;
  ModelConfig still = model;
  still.dropout = 0;
  ASSIGN_OR_RETURN(Program program, write_loss_program(still, options));
  RETURN_IF_ERROR(e->inputs_.add_role(device, program, Role::kInput));
  ASSIGN_OR_RETURN(e->executable_, device.compile(fuse(std::move(program))));
  tensors.bind_to(*e->executable_);
  e->inputs_.bind_to(*e->executable_);
  e->token_loss_ = e->executable_->program().find("token_loss");
  const auto count = static_cast<size_t>(options.batch * options.tokens);
  e->tokens_.resize(count);
  e->targets_.resize(count);
  if (options.document_mask) e->document_start_.resize(count);
  e->losses_.resize(count);
  return e;
}

Result<Evaluation> Evaluator::run(const Loader& loader, int64_t max_tokens, const std::atomic<bool>* stop,
                                  std::atomic<double>* progress, Communicator* ranks) {
  CHECK(!loader.options().shuffle && loader.options().row_tokens == options_.tokens &&
        loader.options().rows_per_step == options_.batch);
  int64_t num_rows = loader.rows_per_epoch();
  if (max_tokens > 0) num_rows = std::min(num_rows, (max_tokens + options_.tokens - 1) / options_.tokens);
  Evaluation result;
  ExactSum sum;
  const int64_t num_ranks = ranks ? ranks->size() : 1, own = ranks ? ranks->rank() : 0;
  bool stopped = false;
  for (int64_t first = own * options_.batch; first < num_rows; first += num_ranks * options_.batch) {
    stopped = stop && stop->load();
    if (stopped) break;
    milestone("evaluate");
    RETURN_IF_ERROR(loader.fill(first / options_.batch, 0, options_.batch, tokens_, targets_, document_start_));
    // Rows past the last belong to the next epoch: their targets do not count.
    const auto counted = static_cast<size_t>(std::min(options_.batch, num_rows - first) * options_.tokens);
    std::fill(targets_.begin() + static_cast<int64_t>(counted), targets_.end(), -1);
    device_->write(*inputs_.at("tokens").memory, 0, std::as_bytes(std::span(tokens_)));
    device_->write(*inputs_.at("targets").memory, 0, std::as_bytes(std::span(targets_)));
    if (options_.document_mask)
      device_->write(*inputs_.at("document_start").memory, 0, std::as_bytes(std::span(document_start_)));
    RETURN_IF_ERROR(executable_->run());
    executable_->read_output(token_loss_, std::as_writable_bytes(std::span(losses_)));
    for (size_t i = 0; i < counted; ++i) sum.add(static_cast<double>(losses_[i]));
    result.num_tokens += static_cast<int64_t>(counted);
    if (progress)
      progress->store(static_cast<double>(std::min(num_rows, first + options_.batch)) / static_cast<double>(num_rows));
  }
  if (ranks) RETURN_IF_ERROR(add_over_ranks(*ranks, sum, result.num_tokens, stopped));
  if (stopped) return interrupted("evaluation was stopped");
  result.loss = result.num_tokens > 0 ? sum.value() / static_cast<double>(result.num_tokens) : 0;
  return result;
}

}  // namespace colossus
