#include "device/cuda/native/shared_library.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace colossus::gpu {

Result<void*> load_library(const std::string& what, std::initializer_list<const char*> names) {
  std::string first_reason;
  for (const char* name : names) {
    if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
    const char* reason = dlerror();
    if (first_reason.empty()) first_reason = reason ? reason : "";
  }
  return unavailable(fmt::format(
      "{} is not found ({}; tried {}): put the folder that has it into LD_LIBRARY_PATH, of a CUDA toolkit or "
      "of Python's nvidia packages (site-packages/nvidia/*/lib)",
      what, first_reason, fmt::join(names, ", ")));
}

Result<void*> find_symbol(void* library, const char* name) {
  if (void* symbol = dlsym(library, name)) return symbol;
  const char* reason = dlerror();
  return unavailable(fmt::format("{} is missing: {}", name, reason ? reason : "no reason given"));
}

}  // namespace colossus::gpu
