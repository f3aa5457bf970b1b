// What other machines print of themselves, and lists of hosts.
#include "fuzz/fuzz.h"
#include "node_check/fleet.h"

using namespace colossus;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const HeapLimit limit(size);
  const std::string_view text = text_of(bytes, size);
  for (const std::string& command : drain_commands(compare_fleet(text, {"node-1"})))
    for (const char c : command) CHECK(c >= ' ' && c <= '~' && c != ';' && c != '$' && c != '`', "a shell is safe");
  if (const auto hosts = expand_host_list(text); hosts.ok())
    for (const std::string& host : *hosts) CHECK(is_host_name(host));
  const auto report = parse_node_report(text);
  if (!report.ok()) return 0;
  note_accepted();
  const std::string written = to_json_line(*report);
  CHECK(written.find('\n') == std::string::npos);
  const auto again = parse_node_report(written);
  CHECK(again.ok(), again.status().message().c_str());
  CHECK(again->host == report->host && again->verdict() == report->verdict());
  CHECK(to_json_line(*again) == written, "a report is written and read again equal");
  return 0;
}
