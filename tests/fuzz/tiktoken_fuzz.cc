// Ranks as tiktoken has them; the first byte says how text is split.
#include "fuzz/tokenizer_checks.h"
#include "text/tiktoken.h"

using namespace colossus;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const HeapLimit limit(size);
  InputParts parts(text_of(bytes, size));
  const auto pattern = static_cast<SplitPattern>(parts.byte() % 5);
  const auto tokenizer = tokenizer_from_tiktoken(parts.rest(), pattern, {});
  static_cast<void>(read_tokenizer(parts.rest()));
  if (!tokenizer.ok()) return 0;
  note_accepted();
  check_encoding(*tokenizer, kSampleText);
  const auto ranks = tiktoken_ranks(*tokenizer);
  if (!ranks.ok()) return 0;  // ways to merge that ranks alone do not say
  const auto again = tokenizer_from_tiktoken(*ranks, pattern, {});
  CHECK(again.ok(), again.status().message().c_str());
  CHECK(again->spec().tokens == tokenizer->spec().tokens, "ranks are written and read again equal");
  return 0;
}
