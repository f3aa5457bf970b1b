// What the machines of a run find in the store; the first byte says which record it is.
#include "train/recovery/run_records.h"

#include "fuzz/fuzz.h"
#include "train/recovery/waits.h"

using namespace colossus;

namespace {

template <class Parse, class Print>
void read_twice(const std::string& text, const Parse& parse, const Print& print) {
  const auto record = parse(text);
  if (!record.ok()) return;
  note_accepted();
  const std::string written = print(*record);
  const auto again = parse(written);
  CHECK(again.ok(), again.status().message().c_str());
  CHECK(print(*again) == written, "a record is written and read again equal");
}

void read_membership(const std::string& text) {
  const auto store = make_memory_store();
  CHECK(store->set("generation", text).ok() && store->set("heartbeats/w", text).ok());
  CHECK(store->set("broken/1/w", text).ok() && store->set("lease", text).ok());
  const auto members = current_membership(*store);
  const auto heartbeat = read_heartbeat(*store, "w");
  static_cast<void>(read_broken(*store, 1, "w"));
  static_cast<void>(read_lease(*store));
  if (members.ok() && *members) {
    note_accepted();
    CHECK(publish(*store, **members).ok());
    CHECK(*current_membership(*store) == *members, "a membership is written and read again equal");
  }
  if (heartbeat.ok() && *heartbeat) {
    CHECK(write_heartbeat(*store, "w", **heartbeat).ok());
    CHECK(*read_heartbeat(*store, "w") == *heartbeat, "a heartbeat is written and read again equal");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  if (size > static_cast<size_t>(KeyValueStore::kMaxValueBytes)) return 0;
  const HeapLimit limit(size);
  InputParts parts(text_of(bytes, size));
  const int kind = parts.byte() % 5;
  const std::string text(parts.rest());
  if (kind == 0) read_twice(text, parse_life_record, print_life_record);
  if (kind == 1) read_twice(text, parse_report, print_report);
  if (kind == 2) {
    read_twice(text, parse_assignment, print_assignment);
    if (const auto assignment = parse_assignment(text); assignment.ok()) static_cast<void>(assignment->membership());
  }
  if (kind == 3) static_cast<void>(who_waits({text, text.substr(text.size() / 2)}));
  if (kind == 4) read_membership(text);
  return 0;
}
