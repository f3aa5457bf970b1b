// A TOML file that describes a cluster or holds a calibration.
#include "fuzz/fuzz.h"
#include "io/config.h"
#include "plan/calibration.h"
#include "plan/cluster.h"

using namespace colossus;

namespace {

template <class C>
void read_twice(std::string_view text) {
  const auto config = parse_config<C>(text, "in.toml");
  if (!config.ok()) return;
  note_accepted();
  const std::string written = print_config(*config);
  const auto again = parse_config<C>(written, "again.toml");
  CHECK(again.ok(), again.status().message().c_str());
  CHECK(print_config(*again) == written, "what was read is written and read again equal");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const HeapLimit limit(size);
  read_twice<ClusterConfig>(text_of(bytes, size));
  read_twice<Calibration>(text_of(bytes, size));
  return 0;
}
