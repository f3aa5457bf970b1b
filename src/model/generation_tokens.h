// Which token ids begin and end a model's texts: what a checkpoint has beside model.toml where the model came from
// others. They cannot be read off the tokenizer: a chat model ends its messages with tokens of its own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/fields.h"

namespace colossus {

struct GenerationTokens {
  std::vector<int32_t> begin;  // stand before a text; an empty prompt is these alone
  bool add_begin = false;      // before every prompt, not only an empty one
  std::vector<int32_t> end;    // each of them ends a text

  void visit_fields(FieldVisitor& v) {
    v.field("begin", begin, "ids that stand before a text; an empty prompt is these alone");
    v.field("add_begin", add_begin, "whether they are put before every prompt");
    v.field("end", end, "ids of which each ends a text");
  }
};

inline constexpr const char* kGenerationFile = "generation.toml";  // among a checkpoint's texts

}  // namespace colossus
