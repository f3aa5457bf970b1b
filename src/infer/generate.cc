#include "infer/generate.h"

#include <algorithm>

namespace colossus {

const char* end_reason_name(EndReason reason) {
  switch (reason) {
    case EndReason::kMaxTokens: return "max_tokens";
    case EndReason::kStopToken: return "stop_token";
    case EndReason::kStopString: return "stop_string";
    case EndReason::kContextFull: return "context_full";
    case EndReason::kInterrupted: return "interrupted";
  }
  return "?";
}

TextStream::TextStream(const Tokenizer& tokenizer, std::vector<std::string> stop_strings,
                       std::span<const int32_t> before)
    : decoder_(tokenizer), stop_strings_(std::move(stop_strings)) {
  for (const int32_t id : before)
    if (!tokenizer.is_special(id)) decoder_.push(id);
}

std::string TextStream::push(int32_t token) {
  if (stopped_) return {};
  held_ += decoder_.push(token);
  return release();
}

std::string TextStream::flush() {
  if (stopped_) return {};
  held_ += decoder_.flush();
  std::string shown = release();
  if (!stopped_) shown += std::exchange(held_, {});
  return shown;
}

std::string TextStream::release() {
  size_t first_stop = std::string::npos;
  for (const std::string& stop : stop_strings_)
    if (!stop.empty()) first_stop = std::min(first_stop, held_.find(stop));
  if (first_stop != std::string::npos) {
    stopped_ = true;
    return held_.substr(0, first_stop);
  }
  // Keep back the longest end of the text that a stop string could begin with.
  size_t keep = 0;
  for (const std::string& stop : stop_strings_)
    for (size_t length = std::min(held_.size(), stop.size() - std::min<size_t>(stop.size(), 1)); length > keep;
         --length)
      if (held_.compare(held_.size() - length, length, stop, 0, length) == 0) keep = length;
  std::string shown = held_.substr(0, held_.size() - keep);
  held_.erase(0, shown.size());
  return shown;
}

Result<std::vector<Generation>> generate(DecodeSession& session, const Tokenizer& tokenizer,
                                         std::span<const std::vector<int32_t>> prompts, const GenerateOptions& options,
                                         FunctionRef<void(int64_t, std::string_view)> on_text,
                                         const std::atomic<bool>* stop) {
  for (size_t i = 0; i < prompts.size(); ++i)
    if (prompts[i].empty()) return invalid("prompt " + std::to_string(i) + " has no tokens; give at least one");
  RETURN_IF_ERROR(session.feed(prompts));
  Sampler sampler(options.sampler);
  std::vector<Generation> results(prompts.size());
  std::vector<std::vector<int32_t>> histories(prompts.begin(), prompts.end()), next(prompts.size());
  std::vector<TextStream> streams;
  for (const auto& prompt : prompts) streams.emplace_back(tokenizer, options.stop_strings, prompt);
  std::vector<bool> ended(prompts.size(), false);
  size_t num_running = prompts.size();
  const auto show = [&](size_t i, std::string text) {
    if (text.empty()) return;
    on_text(static_cast<int64_t>(i), text);
    results[i].text += text;
  };
  const auto end = [&](size_t i, EndReason reason) {
    results[i].reason = reason;
    show(i, streams[i].flush());
    ended[i] = true;
    --num_running;
  };
  for (int64_t made = 0; num_running > 0; ++made) {
    for (size_t i = 0; i < prompts.size(); ++i) {
      next[i].clear();
      if (ended[i]) continue;
      if (stop && stop->load())
        end(i, EndReason::kInterrupted);
      else if (made == options.max_tokens)
        end(i, EndReason::kMaxTokens);
      if (ended[i]) continue;
      const int32_t token =
          sampler.sample(session.logits(static_cast<int64_t>(i)), histories[i], static_cast<int64_t>(i));
      if (std::find(options.stop_ids.begin(), options.stop_ids.end(), token) != options.stop_ids.end()) {
        end(i, EndReason::kStopToken);
        continue;
      }
      results[i].tokens.push_back(token);
      histories[i].push_back(token);
      show(i, streams[i].push(token));
      if (streams[i].stopped())
        end(i, EndReason::kStopString);
      else if (session.length(static_cast<int64_t>(i)) < session.context())
        next[i].push_back(token);
      else if (made + 1 < options.max_tokens)  // a full context still says what comes next, but cannot take it in
        end(i, EndReason::kContextFull);
    }
    if (num_running > 0) RETURN_IF_ERROR(session.feed(next));
  }
  return results;
}

}  // namespace colossus
