// manifest.json of a checkpoint. The line that guards it is put behind the input, so that what it guards is reached.
#include "checkpoint/manifest.h"

#include <fmt/format.h>

#include "fuzz/fuzz.h"
#include "io/checksum.h"

using namespace colossus;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const HeapLimit limit(size);
  const std::string body(text_of(bytes, size));
  static_cast<void>(parse_manifest(body));
  const auto manifest = parse_manifest(body + fmt::format("{:016x}\n", checksum(body)));
  if (!manifest.ok()) return 0;
  static_cast<void>(check_complete(*manifest));
  note_accepted();
  const std::string written = manifest_text(*manifest);
  const auto again = parse_manifest(written);
  CHECK(again.ok(), again.status().message().c_str());
  CHECK(manifest_text(*again) == written, "a manifest is written and read again equal");
  return 0;
}
