// model.safetensors.index.json beside two good files, one of which lies outside of the model's directory.
#include "convert/tensor_files.h"
#include "fuzz/fuzz.h"
#include "fuzz/memory_files.h"

using namespace colossus;

namespace {

void write_tensor(MemoryFiles& files, const std::string& path, const std::string& name) {
  auto writer = SafetensorsWriter::create(files, path, {{.name = name, .dtype = "F32", .shape = {2}}});
  const float values[2] = {1, 2};
  CHECK(writer.ok() && writer->append(std::as_bytes(std::span(values))).ok() && writer->finish().ok());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const HeapLimit limit(size);
  MemoryFiles files;
  files.put(std::string("in/model/") + kIndexName, text_of(bytes, size));
  write_tensor(files, "in/model/a.safetensors", "a");
  write_tensor(files, "in/model/b.safetensors", "b");
  write_tensor(files, "in/secret.safetensors", "a");
  const auto opened = open_tensor_files(files, "in/model");
  if (!opened.ok()) return 0;
  note_accepted();
  for (const auto& file : opened->files)
    CHECK(file->path().starts_with("in/model/") && file->path().find("..") == std::string::npos,
          "an index names nothing outside of its directory");
  for (const auto& [name, tensor] : opened->tensors) {
    std::vector<std::byte> content(static_cast<size_t>(tensor.num_bytes()));
    CHECK(tensor.read(0, content).ok());
  }
  return 0;
}
