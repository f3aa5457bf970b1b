#include "fuzz/fuzz.h"

#include <cstdio>

namespace colossus {
namespace {

constexpr size_t kFreeBytes = size_t{64} << 20;

int64_t accepted = 0;

}  // namespace

HeapLimit::HeapLimit(size_t input_bytes, size_t more_bytes)
    : most_bytes_(kFreeBytes + 2 * input_bytes + more_bytes), before_bytes_(heap_bytes()) {
  restart_heap_peak();
}

HeapLimit::~HeapLimit() {
  const size_t peak = heap_peak_bytes(), used = peak > before_bytes_ ? peak - before_bytes_ : 0;
  if (used > most_bytes_)
    std::fprintf(stderr, "%zu bytes were allocated at once, %zu are allowed\n", used, most_bytes_);
  CHECK(used <= most_bytes_, "the reader takes too much memory for this input");
}

void note_accepted() { ++accepted; }
int64_t num_accepted() { return accepted; }

}  // namespace colossus
