// llama2.c's model file and, behind a mark, its tokenizer.
#include "convert/llama2c.h"

#include "fuzz/fuzz.h"
#include "fuzz/memory_files.h"

using namespace colossus;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const HeapLimit limit(size);
  InputParts parts(text_of(bytes, size));
  MemoryFiles files;
  files.put("in/model.bin", parts.up_to("|tokenizer|"));
  if (!parts.empty()) files.put("in/tokenizer.bin", parts.rest());
  static_cast<void>(count_llama2c_pieces(files, "in/tokenizer.bin"));
  for (const int64_t vocab_size : {3, 5, 300})
    static_cast<void>(llama2c_tokenizer_json(files, "in/tokenizer.bin", vocab_size));
  const auto model = open_llama2c(files, "in/model.bin", "");
  if (!model.ok()) return 0;
  note_accepted();
  for (const auto& [name, tensor] : model->tensors) {
    std::vector<std::byte> content(static_cast<size_t>(tensor.num_bytes()));
    CHECK(tensor.read(0, content).ok(), "the header's tensors lie in the file");
  }
  return 0;
}
