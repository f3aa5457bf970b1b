// A file of documents; the first byte says by its name of which kind.
#include "data/document_reader.h"

#include <array>

#include "fuzz/fuzz.h"
#include "fuzz/memory_files.h"

using namespace colossus;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const HeapLimit limit(size);
  constexpr std::array<const char*, 4> kNames = {"in/a.jsonl", "in/a.txt", "in/a.1", "in/a.jsonl.gz"};
  InputParts parts(text_of(bytes, size));
  const std::string name = kNames[parts.byte() % kNames.size()];
  MemoryFiles files;
  files.put(name, parts.rest());
  for (const bool dedupe : {false, true}) {
    auto reader = DocumentReader::open(files, {name}, {.dedupe = dedupe, .max_piece_bytes = 64});
    CHECK(reader.ok());
    Document document;
    int64_t text_bytes = 0;
    Result<bool> more = reader->next(document);
    for (; more.ok() && *more; more = reader->next(document)) {
      CHECK(!document.text.empty() && !document.place.empty());
      text_bytes += static_cast<int64_t>(document.text.size());
    }
    CHECK(reader->counts().text_bytes == text_bytes);
    if (more.ok() && text_bytes > 0) note_accepted();
  }
  return 0;
}
