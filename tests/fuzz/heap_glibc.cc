// Counts every allocation of the process, those of C libraries too: malloc and its relatives stand in for glibc's,
// which glibc allows a program ("Replacing malloc" in its manual), and call what they stand for.
#include <malloc.h>

#include <cerrno>
#include <cstdlib>

#include "fuzz/fuzz.h"
#include "fuzz/heap_count.h"

extern "C" {

void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);
void* __libc_memalign(size_t alignment, size_t size);
void __libc_free(void* memory);

}  // extern "C"

namespace {

void* counted(void* memory) {
  if (memory != nullptr) colossus::internal::count_allocation(malloc_usable_size(memory));
  return memory;
}

}  // namespace

extern "C" {

void* malloc(size_t size) { return counted(__libc_malloc(size)); }
void* calloc(size_t count, size_t size) { return counted(__libc_calloc(count, size)); }
void* memalign(size_t alignment, size_t size) { return counted(__libc_memalign(alignment, size)); }
void* aligned_alloc(size_t alignment, size_t size) { return counted(__libc_memalign(alignment, size)); }
int posix_memalign(void** memory, size_t alignment, size_t size) {
  *memory = counted(__libc_memalign(alignment, size));
  return *memory == nullptr ? ENOMEM : 0;
}
void* realloc(void* old, size_t size) {
  const size_t before = old == nullptr ? 0 : malloc_usable_size(old);
  void* const memory = __libc_realloc(old, size);
  if (memory == nullptr && size > 0) return nullptr;
  colossus::internal::count_release(before);
  return counted(memory);
}
void free(void* memory) {
  if (memory == nullptr) return;
  colossus::internal::count_release(malloc_usable_size(memory));
  __libc_free(memory);
}

}  // extern "C"

namespace colossus {

size_t heap_bytes() { return internal::heap_now.load(); }
size_t heap_peak_bytes() { return internal::heap_peak.load(); }
void restart_heap_peak() { internal::heap_peak.store(internal::heap_now.load()); }

}  // namespace colossus
