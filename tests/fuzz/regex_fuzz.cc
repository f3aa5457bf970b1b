// Regular expressions of pre-tokenizers: a line with the expression, then the text that it splits.
#include "text/regex.h"

#include "fuzz/fuzz.h"

using namespace colossus;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const HeapLimit limit(size);
  InputParts parts(text_of(bytes, size));
  const auto regex = Regex::compile(parts.line());
  if (!regex.ok()) return 0;
  note_accepted();
  const std::string_view text = parts.rest();
  size_t last = 0;
  const Status found = regex->for_each_match(text, [&](size_t begin, size_t end) {
    CHECK(last <= begin && begin < end && end <= text.size(), "matches are in order, apart and not empty");
    last = end;
  });
  static_cast<void>(found);  // an expression that runs away ends
  return 0;
}
