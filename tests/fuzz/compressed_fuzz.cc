// gzip and zstd streams, and the same bytes compressed by us.
#include <vector>

#include "fuzz/fuzz.h"
#include "fuzz/memory_files.h"
#include "io/byte_stream.h"
#include "io/testing_compression.h"

using namespace colossus;

namespace {

constexpr size_t kKept = size_t{1} << 20;  // of what comes out: bombs are counted, not collected

// What comes out, up to its first fault.
std::string read_all(MemoryFiles& files, const std::string& path, bool* whole) {
  *whole = false;
  auto stream = open_byte_stream(files, path);
  if (!stream.ok()) return "";
  std::string out;
  std::vector<std::byte> piece(size_t{64} << 10);
  size_t size = 0;
  while (true) {
    const auto got = (*stream)->read(piece);
    if (!got.ok()) return out;
    *whole = *got == 0;
    if (*whole) return out;
    size += static_cast<size_t>(*got);
    if (size <= kKept) out.append(reinterpret_cast<const char*>(piece.data()), static_cast<size_t>(*got));
    CHECK(size <= kFreeExpandedBytes + kMaxExpansion * (files.at(path).size() + 1) + piece.size(), "no bomb goes off");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  if (size > kKept / 2) return 0;
  // zstd's window, which its format may ask for.
  const HeapLimit limit(size, size_t{130} << 20);
  const std::string text(text_of(bytes, size));
  MemoryFiles files;
  files.put("in", text);
  bool whole = false;
  static_cast<void>(read_all(files, "in", &whole));
  if (whole) note_accepted();
  for (const std::string& compressed : {gzip(text), zstd(text), gzip(text) + gzip(text)}) {
    files.put("ours", compressed);
    const std::string out = read_all(files, "ours", &whole);
    CHECK(whole && out.starts_with(text) && out.size() % std::max<size_t>(text.size(), 1) == 0,
          "what was compressed comes back");
  }
  return 0;
}
