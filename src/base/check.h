// CHECK is for our own mistakes: it prints the place and aborts. The world's faults (files, sockets, users)
// are values: see status.h.
#pragma once

namespace colossus::internal {

[[noreturn]] void check_failed(const char* file, int line, const char* condition, const char* message = "");

}  // namespace colossus::internal

#define CHECK(condition, ...)                          \
  (static_cast<bool>(condition) ? static_cast<void>(0) \
                                : ::colossus::internal::check_failed(__FILE__, __LINE__, #condition, ##__VA_ARGS__))

#ifdef NDEBUG
#define DCHECK(condition, ...) static_cast<void>(0)
#else
#define DCHECK(condition, ...) CHECK(condition, ##__VA_ARGS__)
#endif
