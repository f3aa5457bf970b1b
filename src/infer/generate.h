// Text from a model: prompts in, pieces of text out as they come.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "base/function_ref.h"
#include "infer/decode_session.h"
#include "infer/sampler.h"
#include "text/tokenizer.h"

namespace colossus {

struct GenerateOptions {
  SamplerOptions sampler;
  int64_t max_tokens = 256;
  std::vector<int32_t> stop_ids;          // end a sequence; not part of its text
  std::vector<std::string> stop_strings;  // the same, wherever they arise, also across tokens
};

// kContextFull: the session holds its context in tokens, and the one that they predict was given out; it is not fed.
enum class EndReason { kMaxTokens, kStopToken, kStopString, kContextFull, kInterrupted };
const char* end_reason_name(EndReason reason);

struct Generation {
  std::string text;
  std::vector<int32_t> tokens;  // generated ones, without a stop token
  EndReason reason = EndReason::kMaxTokens;
};

// Turns tokens into text that can be shown at once: whole characters only, and never a part of a stop string.
class TextStream {
 public:
  // `before`: the ids that it goes on from. Where they are none but special ones a text begins here, and loses what
  // tokenizers put in front of a text.
  TextStream(const Tokenizer& tokenizer, std::vector<std::string> stop_strings, std::span<const int32_t> before = {});

  std::string push(int32_t token);           // what may be shown now; "" is common
  std::string flush();                       // the rest, at the end
  bool stopped() const { return stopped_; }  // a stop string was met: what follows it is dropped

 private:
  std::string release();

  TokenDecoder decoder_;
  std::vector<std::string> stop_strings_;
  std::string held_;
  bool stopped_ = false;
};

// Continues every prompt (ids, at least one each; as many as the session's batch). `on_text` hears each sequence's text
// as it comes. The session keeps the caches, so a later call can go on from there. `stop` is looked at between tokens.
Result<std::vector<Generation>> generate(DecodeSession& session, const Tokenizer& tokenizer,
                                         std::span<const std::vector<int32_t>> prompts, const GenerateOptions& options,
                                         FunctionRef<void(int64_t sequence, std::string_view text)> on_text,
                                         const std::atomic<bool>* stop = nullptr);

}  // namespace colossus
