// Counts every allocation of the process with the hooks of the sanitizers' allocator.
#include <sanitizer/allocator_interface.h>

#include "fuzz/fuzz.h"
#include "fuzz/heap_count.h"

namespace colossus {
namespace {

void on_allocation(const volatile void* memory, size_t size) {
  static_cast<void>(memory);
  internal::count_allocation(size);
}

void on_release(const volatile void* memory) {
  // What was allocated before the hooks were there is not counted when it goes either: the count would pass below zero.
  const size_t size = memory == nullptr ? 0 : __sanitizer_get_allocated_size(memory);
  if (size <= internal::heap_now.load()) internal::count_release(size);
}

const int kInstalled = __sanitizer_install_malloc_and_free_hooks(on_allocation, on_release);

}  // namespace

size_t heap_bytes() {
  CHECK(kInstalled > 0, "the sanitizer has room for a hook");
  return internal::heap_now.load();
}
size_t heap_peak_bytes() { return internal::heap_peak.load(); }
void restart_heap_peak() { internal::heap_peak.store(internal::heap_now.load()); }

}  // namespace colossus
