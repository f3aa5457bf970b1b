// What all fuzz targets share. A target is a file <reader>_fuzz.cc with one entry point, which reads bytes as a
// stranger would give them and CHECKs what holds for every input (docs/fuzzing.md): libFuzzer calls it with inputs it
// makes up, fuzz_test.cc with those that are kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size);

namespace colossus {

inline std::string_view text_of(const uint8_t* bytes, size_t size) {
  return {reinterpret_cast<const char*>(bytes), size};
}

// An input of several parts, cut off its front. At the end everything is zero or empty.
class InputParts {
 public:
  explicit InputParts(std::string_view input) : rest_(input) {}

  uint8_t byte() {
    if (rest_.empty()) return 0;
    const auto byte = static_cast<uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    return byte;
  }
  // Up to the next line end, which is dropped.
  std::string_view line() {
    const std::string_view line = rest_.substr(0, rest_.find('\n'));
    rest_.remove_prefix(line.size() < rest_.size() ? line.size() + 1 : line.size());
    return line;
  }
  // Up to the next mark, which is dropped.
  std::string_view up_to(std::string_view mark) {
    const size_t at = rest_.find(mark);
    const std::string_view part = rest_.substr(0, at);
    rest_.remove_prefix(at == std::string_view::npos ? rest_.size() : at + mark.size());
    return part;
  }
  bool empty() const { return rest_.empty(); }
  std::string_view rest() const { return rest_; }

 private:
  std::string_view rest_;
};

// How much a reader may hold at once: 64 MiB and twice its input, and what `more_bytes` allows on top, for which the
// target says why. Checked where this is destroyed.
class HeapLimit {
 public:
  explicit HeapLimit(size_t input_bytes, size_t more_bytes = 0);
  ~HeapLimit();
  HeapLimit(const HeapLimit&) = delete;
  HeapLimit& operator=(const HeapLimit&) = delete;

 private:
  const size_t most_bytes_;
  const size_t before_bytes_;
};

// By a target whose reader took the input for good. Files of the corpus that are called valid-* must be.
void note_accepted();
int64_t num_accepted();

// Bytes that are allocated now, and the most that were since the last restart_heap_peak(). Of all threads.
size_t heap_bytes();
size_t heap_peak_bytes();
void restart_heap_peak();

struct FuzzTarget {
  const char* name;  // of the reader, and of its folder in corpus/
  int (*run)(const uint8_t* bytes, size_t size);
};
// All of them; written by cmake/fuzz.cmake.
std::span<const FuzzTarget> fuzz_targets();

}  // namespace colossus
