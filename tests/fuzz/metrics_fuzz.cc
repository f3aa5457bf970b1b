// The metrics of a run that goes on: lines that are kept or cut off.
#include "train/metrics/metrics.h"

#include "fuzz/fuzz.h"
#include "fuzz/memory_files.h"

using namespace colossus;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const HeapLimit limit(size);
  constexpr int64_t kLastStep = 7;
  const std::string old(text_of(bytes, size));
  MemoryFiles files;
  files.put("metrics.jsonl", old);
  {
    auto writer = open_json_lines(files, "metrics.jsonl", kLastStep);
    if (!writer.ok()) return 0;
    CHECK((*writer)->write(8, 1.5, {}).ok() && (*writer)->close().ok());
  }
  const std::string cut = files.at("metrics.jsonl"), last = "{\"step\":8,\"time\":1.500}\n";
  CHECK(cut.ends_with(last) && cut.size() <= old.size() + last.size());
  if (cut.size() > last.size()) note_accepted();
  CHECK(open_json_lines(files, "metrics.jsonl", kLastStep).ok());
  CHECK(files.at("metrics.jsonl") + last == cut, "cutting again cuts just what came since");
  return 0;
}
