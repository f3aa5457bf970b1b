#include "infer/decode_session.h"

#include <fmt/format.h>

#include <algorithm>

namespace colossus {

Result<std::unique_ptr<DecodeSession>> DecodeSession::create(Device& device, const TensorSet& parameters,
                                                             const ModelConfig& model, const DecodeOptions& options) {
  std::unique_ptr<DecodeSession> session(new DecodeSession);
  session->device_ = &device;
  session->batch_ = options.batch;
  session->context_ = options.context > 0 ? options.context : model.context;
  if (session->context_ > model.context)
    return invalid(fmt::format("[context] {} tokens asked of a model made for {}", session->context_, model.context));
  session->vocab_size_ = model.vocab_size;
  const int64_t most = std::min(options.prefill_tokens, session->context_);
  // A chunk writes all its rows, also those past the end of a short prompt: they need a place.
  session->cache_tokens_ = session->context_ + most;
  // A short prompt does not pay for the rows of a long one. The widest comes first: it has the largest arena.
  constexpr int64_t kFewTokens = 8;
  for (int64_t tokens = most; tokens > 1; tokens = tokens / 2 >= kFewTokens ? tokens / 2 : 1)
    RETURN_IF_ERROR(session->compile(tokens, parameters, model, options));
  RETURN_IF_ERROR(session->compile(1, parameters, model, options));
  std::ranges::reverse(session->extensions_);
  session->lengths_.assign(static_cast<size_t>(options.batch), 0);
  session->logits_.assign(static_cast<size_t>(options.batch * model.vocab_size), 0);
  session->chunk_logits_.resize(session->logits_.size());
  return session;
}

Status DecodeSession::compile(int64_t tokens, const TensorSet& parameters, const ModelConfig& model,
                              const DecodeOptions& options) {
  Extension& extension = extensions_.emplace_back(Extension{.tokens = tokens});
  ASSIGN_OR_RETURN(
      Program program,
      write_decode_program(
          model, {.batch = batch_, .tokens = extension.tokens, .compute = options.compute, .stored = options.stored},
          cache_tokens_));
  RETURN_IF_ERROR(states_.add_role(*device_, program, Role::kState));
  RETURN_IF_ERROR(extension.inputs.add_role(*device_, program, Role::kInput));
  ASSIGN_OR_RETURN(extension.executable, device_->compile(std::move(program)));
  parameters.bind_to(*extension.executable);
  states_.bind_to(*extension.executable);
  extension.inputs.bind_to(*extension.executable);
  RETURN_IF_ERROR(extension.executable->load());
  extension.logits = extension.executable->program().find("logits");
  return ok_status();
}

DecodeSession::Extension& DecodeSession::extension_for(int64_t tokens) {
  const auto enough = std::ranges::lower_bound(extensions_, tokens, {}, &Extension::tokens);
  return enough == extensions_.end() ? extensions_.back() : *enough;
}

Status DecodeSession::feed(std::span<const std::vector<int32_t>> tokens) {
  CHECK(static_cast<int64_t>(tokens.size()) == batch_);
  int64_t longest = 0;
  for (int64_t b = 0; b < batch_; ++b) {
    const auto& added = tokens[static_cast<size_t>(b)];
    longest = std::max(longest, static_cast<int64_t>(added.size()));
    if (length(b) + static_cast<int64_t>(added.size()) > context_)
      return exhausted(fmt::format("sequence {}: {} tokens and {} more are beyond the context of {}", b, length(b),
                                   added.size(), context_));
    for (int32_t token : added)
      if (token < 0 || token >= vocab_size_)
        return invalid(fmt::format("sequence {}: token {} is outside the vocabulary of {}", b, token, vocab_size_));
  }
  std::vector<int64_t> done(tokens.size(), 0);
  for (int64_t left = longest; left > 0;) {
    Extension& extension = extension_for(left);
    run_chunk(extension, tokens, done);
    left -= extension.tokens;
  }
  return ok_status();
}

void DecodeSession::run_chunk(Extension& extension, std::span<const std::vector<int32_t>> tokens,
                              std::span<int64_t> done) {
  const int64_t width = extension.tokens;
  tokens_.assign(static_cast<size_t>(batch_ * width), 0);
  positions_.assign(static_cast<size_t>(batch_ * width), 0);
  last_.assign(static_cast<size_t>(batch_), 0);
  std::vector<int64_t> taken(static_cast<size_t>(batch_));
  for (int64_t b = 0; b < batch_; ++b) {
    const auto s = static_cast<size_t>(b);
    taken[s] = std::clamp<int64_t>(static_cast<int64_t>(tokens[s].size()) - done[s], 0, width);
    for (int64_t t = 0; t < width; ++t) {
      if (t < taken[s]) tokens_[static_cast<size_t>(b * width + t)] = tokens[s][static_cast<size_t>(done[s] + t)];
      positions_[static_cast<size_t>(b * width + t)] =
          static_cast<int32_t>(std::min<int64_t>(lengths_[s] + t, context_ - 1));
    }
    last_[s] = static_cast<int32_t>(std::max<int64_t>(taken[s] - 1, 0));
  }
  const auto write = [&](const char* name, const std::vector<int32_t>& values) {
    device_->write(*extension.inputs.at(name).memory, 0, std::as_bytes(std::span(values)));
  };
  write("tokens", tokens_);
  write("positions", positions_);
  write("lengths", lengths_);
  write("last", last_);
  const Status ran = extension.executable->run();
  CHECK(ran.ok(), ran.message().c_str());
  extension.executable->read_output(extension.logits, std::as_writable_bytes(std::span(chunk_logits_)));
  for (int64_t b = 0; b < batch_; ++b) {
    const auto s = static_cast<size_t>(b);
    if (taken[s] == 0) continue;
    done[s] += taken[s];
    lengths_[s] += static_cast<int32_t>(taken[s]);
    std::copy_n(chunk_logits_.begin() + b * vocab_size_, vocab_size_, logits_.begin() + b * vocab_size_);
  }
}

std::span<const float> DecodeSession::logits(int64_t sequence) const {
  return std::span(logits_).subspan(static_cast<size_t>(sequence * vocab_size_), static_cast<size_t>(vocab_size_));
}

void DecodeSession::truncate(int64_t sequence, int64_t length) {
  CHECK(length >= 0 && length <= lengths_[static_cast<size_t>(sequence)]);
  lengths_[static_cast<size_t>(sequence)] = static_cast<int32_t>(length);
}

}  // namespace colossus
