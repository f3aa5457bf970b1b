// The vocabulary of a GGUF file as whoever reads the file has it: a byte of flags, the model, the split, and one token
// a line: a type, a score and the text; lines that begin with '+' are merges.
#include "text/gguf_vocabulary.h"

#include "fuzz/tokenizer_checks.h"

using namespace colossus;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const HeapLimit limit(size);
  InputParts parts(text_of(bytes, size));
  GgufVocabulary vocabulary;
  const uint8_t flags = parts.byte();
  if (flags & 1) vocabulary.add_bos = true;
  if (flags & 2) vocabulary.add_eos = true;
  if (flags & 4) vocabulary.add_space_prefix = false;
  if (flags & 8) vocabulary.remove_extra_whitespaces = true;
  if (flags & 16) vocabulary.bos_id = static_cast<int8_t>(parts.byte());
  if (flags & 32) vocabulary.eos_id = static_cast<int8_t>(parts.byte());
  if (flags & 64) vocabulary.unknown_id = static_cast<int8_t>(parts.byte());
  vocabulary.model = parts.line();
  vocabulary.pre = parts.line();
  if (flags & 128) vocabulary.precompiled_charsmap = parts.line();
  while (!parts.empty()) {
    InputParts line(parts.line());
    const auto type = static_cast<int8_t>(line.byte());
    if (type == '+') {
      vocabulary.merges.emplace_back(line.rest());
      continue;
    }
    vocabulary.types.push_back(type - '0');
    vocabulary.scores.push_back(static_cast<int8_t>(line.byte()));
    vocabulary.tokens.emplace_back(line.rest());
  }
  const auto tokenizer = tokenizer_from_gguf(vocabulary);
  if (!tokenizer.ok()) return 0;
  note_accepted();
  check_encoding(*tokenizer, kSampleText);
  const auto again = Tokenizer::from_json(tokenizer->to_json());
  CHECK(again.ok(), again.status().message().c_str());
  return 0;
}
