// A GGUF file: its table, its tokenizer and its tensors as numbers.
#include "convert/gguf_file.h"

#include "convert/gguf_model.h"
#include "convert/gguf_tokenizer.h"
#include "fuzz/fuzz.h"
#include "fuzz/memory_files.h"

using namespace colossus;

namespace {

void read_arrays(const GgufFile& file) {
  for (const auto& [key, value] : file.metadata())
    if (const GgufArray* const array = value.array()) {
      CHECK(array->offset >= 0 && array->num_bytes >= 0 && array->offset + array->num_bytes <= file.num_bytes());
      static_cast<void>(file.texts(*array, 1000));
      static_cast<void>(file.floats(*array, 1000));
      static_cast<void>(file.wholes(*array, 1000));
      static_cast<void>(file.bytes(*array, 1000));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const HeapLimit limit(size);
  MemoryFiles files;
  files.put("in/model.gguf", text_of(bytes, size));
  const auto file = GgufFile::open(files, "in/model.gguf");
  if (!file.ok()) return 0;
  note_accepted();
  read_arrays(*file);
  static_cast<void>(read_gguf_tokenizer(*file, 1000));
  for (const GgufTensor& tensor : file->tensors()) {
    CHECK(tensor.offset >= file->data_offset() && tensor.num_bytes >= 0 &&
          tensor.offset + tensor.num_bytes <= file->num_bytes());
    std::vector<std::byte> content(static_cast<size_t>(tensor.num_bytes));
    CHECK(file->read(tensor, 0, content).ok(), "the header said that it is there");
  }
  const auto model = open_gguf_model(files, "in/model.gguf");
  if (!model.ok()) return 0;
  // Blocks of a few bits become numbers of four bytes: some at a time.
  std::vector<std::byte> part(4096);
  for (const auto& [name, tensor] : model->tensors) {
    const int64_t at_once = std::min<int64_t>(tensor.num_bytes(), static_cast<int64_t>(part.size()));
    CHECK(tensor.read(tensor.num_bytes() - at_once, std::span(part).first(static_cast<size_t>(at_once))).ok(),
          "a model that was opened can be read");
  }
  return 0;
}
