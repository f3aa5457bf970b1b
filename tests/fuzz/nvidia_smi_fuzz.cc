// What nvidia-smi prints.
#include "node_check/nvidia_smi.h"

#include "fuzz/fuzz.h"

using namespace colossus;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const HeapLimit limit(size);
  const std::string_view text = text_of(bytes, size);
  const auto query = parse_smi_query(text), csv = parse_smi_csv(text);
  const auto topology = parse_smi_topology(text);
  const auto nvlinks = parse_smi_nvlinks(text);
  if (query.ok() || csv.ok() || topology.ok() || nvlinks.ok()) note_accepted();
  if (query.ok()) CHECK(!query->empty());
  if (csv.ok()) CHECK(!csv->empty());
  if (!topology.ok()) return 0;
  for (const std::string& from : topology->names)
    for (const std::string& to : topology->names) CHECK(topology->link(from, to).has_value());
  return 0;
}
