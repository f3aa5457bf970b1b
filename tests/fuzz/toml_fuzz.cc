// A TOML file that describes a run.
#include "fuzz/fuzz.h"
#include "io/config.h"
#include "train/run_config.h"

using namespace colossus;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const HeapLimit limit(size);
  const std::string_view text = text_of(bytes, size);
  const auto tree = parse_toml(text, "run.toml");
  if (!tree.ok()) return 0;
  for (const ConfigEntry& entry : *tree->table()) static_cast<void>(toml_text(entry.node));
  const auto run = parse_config<RunConfig>(text, "run.toml");
  if (!run.ok()) return 0;
  note_accepted();
  const std::string written = print_config(*run);
  const auto again = parse_config<RunConfig>(written, "again.toml");
  CHECK(again.ok(), again.status().message().c_str());
  CHECK(print_config(*again) == written, "a run is written and read again equal");
  static_cast<void>(check_layout(*run));
  return 0;
}
