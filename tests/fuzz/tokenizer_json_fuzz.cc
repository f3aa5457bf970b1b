// tokenizer.json: any JSON, and a text behind a zero byte.
#include "fuzz/tokenizer_checks.h"
#include "text/tokenizer_convert.h"

using namespace colossus;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const HeapLimit limit(size);
  InputParts parts(text_of(bytes, size));
  const std::string_view json = parts.up_to(std::string_view("\0", 1));
  const auto tokenizer = Tokenizer::from_json(json);
  if (!tokenizer.ok()) return 0;
  note_accepted();
  check_encoding(*tokenizer, kSampleText);
  check_encoding(*tokenizer, parts.rest());
  const std::string written = tokenizer->to_json();
  const auto again = Tokenizer::from_json(written);
  CHECK(again.ok(), again.status().message().c_str());
  CHECK(again->to_json() == written, "a tokenizer is written and read again equal");
  CHECK(again->vocab_size() == tokenizer->vocab_size());
  if (const auto portable = portable_json(*tokenizer); portable.ok())
    CHECK(Tokenizer::from_json(portable->json).ok(), "what is written for other programs can be read");
  return 0;
}
