// index.json of a directory of shards.
#include "data/shard_set.h"
#include "fuzz/fuzz.h"
#include "fuzz/memory_files.h"

using namespace colossus;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const HeapLimit limit(size);
  MemoryFiles files;
  files.put("in/index.json", text_of(bytes, size));
  const auto index = read_shard_index(files, "in");
  static_cast<void>(ShardSet::open(files, "in", kTrainSplit));
  if (!index.ok()) return 0;
  note_accepted();
  for (const auto& split : {index->train, index->validation})
    for (const ShardListing& shard : split)
      CHECK(shard.file.find('/') == std::string::npos && shard.file != "..", "shards lie beside their index");
  CHECK(write_shard_index(files, "in", *index).ok());
  const std::string written = files.at("in/index.json");
  const auto again = read_shard_index(files, "in");
  CHECK(again.ok(), again.status().message().c_str());
  CHECK(write_shard_index(files, "in", *again).ok());
  CHECK(files.at("in/index.json") == written, "an index is written and read again equal");
  return 0;
}
