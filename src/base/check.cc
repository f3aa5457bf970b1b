#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace colossus::internal {

void check_failed(const char* file, int line, const char* condition, const char* message) {
  std::fprintf(stderr, "%s:%d: CHECK(%s) failed%s%s\n", file, line, condition, *message ? ": " : "", message);
  std::abort();
}

}  // namespace colossus::internal
