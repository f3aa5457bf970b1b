// A safetensors file.
#include "io/safetensors.h"

#include "fuzz/fuzz.h"
#include "fuzz/memory_files.h"

using namespace colossus;

namespace {

std::string bytes_of(const SafetensorsFile& file, const SafetensorsEntry& tensor) {
  std::string bytes(static_cast<size_t>(tensor.size_bytes), '\0');
  CHECK(file.read(tensor, 0, std::as_writable_bytes(std::span(bytes))).ok(), "the header said that it is there");
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const HeapLimit limit(size);
  MemoryFiles files;
  files.put("a.safetensors", text_of(bytes, size));
  const auto file = SafetensorsFile::open(files, "a.safetensors");
  if (!file.ok()) return 0;
  note_accepted();
  std::vector<SafetensorsSpec> specs;
  for (const SafetensorsEntry& tensor : file->tensors()) {
    CHECK(tensor.offset >= 0 && tensor.size_bytes >= 0 &&
          tensor.offset + tensor.size_bytes <= static_cast<int64_t>(size));
    specs.push_back({tensor.name, tensor.dtype, tensor.shape});
  }
  auto writer = SafetensorsWriter::create(files, "b.safetensors", specs, file->metadata());
  CHECK(writer.ok(), writer.status().message().c_str());
  for (const SafetensorsEntry& tensor : file->tensors()) {
    const std::string content = bytes_of(*file, tensor);
    CHECK(writer->append(std::as_bytes(std::span(content))).ok());
  }
  CHECK(writer->finish().ok());
  const auto again = SafetensorsFile::open(files, "b.safetensors");
  CHECK(again.ok(), again.status().message().c_str());
  CHECK(again->metadata() == file->metadata() && again->tensors().size() == file->tensors().size());
  for (const SafetensorsEntry& tensor : file->tensors()) {
    const SafetensorsEntry* const same = again->find(tensor.name);
    CHECK(same != nullptr && same->dtype == tensor.dtype && same->shape == tensor.shape);
    CHECK(bytes_of(*again, *same) == bytes_of(*file, tensor), "tensors are written and read again equal");
  }
  return 0;
}
