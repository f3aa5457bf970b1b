// SentencePiece's model file.
#include "text/sentencepiece.h"

#include "fuzz/tokenizer_checks.h"

using namespace colossus;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const HeapLimit limit(size);
  const std::string_view model_bytes = text_of(bytes, size);
  if (const auto model = read_sentencepiece(model_bytes); model.ok()) {
    const std::string written = write_sentencepiece(*model);
    const auto again = read_sentencepiece(written);
    CHECK(again.ok(), again.status().message().c_str());
    CHECK(write_sentencepiece(*again) == written, "a model is written and read again equal");
  }
  const auto tokenizer = tokenizer_from_sentencepiece(model_bytes);
  if (!tokenizer.ok()) return 0;
  note_accepted();
  check_encoding(*tokenizer, kSampleText);
  const auto again = Tokenizer::from_json(tokenizer->to_json());
  CHECK(again.ok() && again->vocab_size() == tokenizer->vocab_size(), "tokenizer.json keeps the model whole");
  return 0;
}
