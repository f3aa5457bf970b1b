// The kernel's log.
#include "node_check/kernel_log.h"

#include "fuzz/fuzz.h"
#include "node_check/xid.h"

using namespace colossus;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const HeapLimit limit(size);
  const std::string_view log = text_of(bytes, size);
  const KernelLogOptions options{.max_age_seconds = 1e9, .seconds_since_boot = 1000};
  int64_t lines = 1;
  for (const char c : log) lines += c == '\n';
  int64_t found = 0;
  for (const KernelLogFinding& finding : scan_kernel_log(log, options)) {
    CHECK(finding.count > 0 && !finding.kind.empty());
    found += finding.count;
  }
  CHECK(found <= lines);
  if (found > 0) note_accepted();
  static_cast<void>(judge_kernel_log(log, options));
  if (const auto xid = parse_xid(log)) static_cast<void>(judge_xid(*xid));
  return 0;
}
