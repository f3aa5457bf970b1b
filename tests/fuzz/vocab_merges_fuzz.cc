// GPT-2's vocab.json, and behind a zero byte its merges.txt.
#include "convert/vocab_merges.h"

#include "fuzz/memory_files.h"
#include "fuzz/tokenizer_checks.h"

using namespace colossus;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const HeapLimit limit(size);
  InputParts parts(text_of(bytes, size));
  MemoryFiles files;
  files.put("model/vocab.json", parts.up_to(std::string_view("\0", 1)));
  files.put("model/merges.txt", parts.rest());
  const auto json = tokenizer_of_vocab_and_merges(files, "model", "gpt-2");
  if (!json.ok()) return 0;
  const auto tokenizer = Tokenizer::from_json(*json);
  if (!tokenizer.ok()) return 0;
  note_accepted();
  check_encoding(*tokenizer, kSampleText);
  return 0;
}
