// Errors as values. A library function that the world can make fail returns Status or Result<T>.
// A message names the place, what was found, what was needed and what to do about it.
#pragma once

#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include "base/check.h"

namespace colossus {

// The kinds callers act on. The command line turns them into exit codes (see cli/main.cc).
enum class ErrorCode {
  kInvalid,      // a value or a file's contents is wrong; trying again will not help
  kNotFound,     // a file, key or tensor is not there
  kExhausted,    // disk, memory or a limit
  kCorrupt,      // bytes that were right once are not now (checksum, cut file)
  kUnavailable,  // the system refused for now (permissions, I/O error)
  kInterrupted,  // asked to stop
};

const char* error_code_name(ErrorCode code);

class [[nodiscard]] Status {
 public:
  Status() = default;  // ok
  Status(ErrorCode code, std::string message) : code_(code), message_(std::move(message)), failed_(true) {}

  bool ok() const { return !failed_; }
  // Only for a failed status.
  ErrorCode code() const {
    DCHECK(failed_);
    return code_;
  }
  const std::string& message() const { return message_; }
  // The same error with `place` put before its message: "[place] message".
  Status at(const std::string& place) const;

 private:
  ErrorCode code_ = ErrorCode::kInvalid;
  std::string message_;
  bool failed_ = false;
};

inline Status ok_status() { return {}; }
inline Status invalid(std::string message) { return {ErrorCode::kInvalid, std::move(message)}; }
inline Status not_found(std::string message) { return {ErrorCode::kNotFound, std::move(message)}; }
inline Status exhausted(std::string message) { return {ErrorCode::kExhausted, std::move(message)}; }
inline Status corrupt(std::string message) { return {ErrorCode::kCorrupt, std::move(message)}; }
inline Status unavailable(std::string message) { return {ErrorCode::kUnavailable, std::move(message)}; }
inline Status interrupted(std::string message) { return {ErrorCode::kInterrupted, std::move(message)}; }

// A T or the reason there is none. value() on a failed result is our mistake (CHECK).
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Status status) : state_(std::in_place_index<1>, std::move(status)) {
    CHECK(!std::get<1>(state_).ok(), "a Result was made from an ok Status");
  }
  template <class U>
    requires(std::is_convertible_v<U&&, T> && !std::is_same_v<std::remove_cvref_t<U>, T> &&
             !std::is_same_v<std::remove_cvref_t<U>, Status> && !std::is_same_v<std::remove_cvref_t<U>, Result<T>>)
  Result(U&& value) : state_(std::in_place_index<0>, std::forward<U>(value)) {}

  bool ok() const { return state_.index() == 0; }
  Status status() const { return ok() ? Status() : std::get<1>(state_); }

  T& value() & {
    CHECK(ok(), status_message());
    return std::get<0>(state_);
  }
  const T& value() const& {
    CHECK(ok(), status_message());
    return std::get<0>(state_);
  }
  // By value: a reference into a temporary would dangle in `for (auto& x : *f())`.
  T value() && {
    CHECK(ok(), status_message());
    return std::get<0>(std::move(state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  const char* status_message() const { return ok() ? "" : std::get<1>(state_).message().c_str(); }

  std::variant<T, Status> state_;
};

namespace internal {
inline Status to_status(Status status) { return status; }
template <class T>
Status to_status(const Result<T>& result) {
  return result.status();
}
}  // namespace internal

}  // namespace colossus

#define RETURN_IF_ERROR(expression)                                                                  \
  do {                                                                                               \
    if (auto colossus_status = ::colossus::internal::to_status((expression)); !colossus_status.ok()) \
      return colossus_status;                                                                        \
  } while (false)

#define COLOSSUS_CONCAT_INNER(a, b) a##b
#define COLOSSUS_CONCAT(a, b) COLOSSUS_CONCAT_INNER(a, b)
// ASSIGN_OR_RETURN(auto x, f()): x is f()'s value, or this function returns f()'s error.
#define ASSIGN_OR_RETURN(declaration, expression) \
  ASSIGN_OR_RETURN_NAMED(COLOSSUS_CONCAT(colossus_result_, __LINE__), declaration, expression)
#define ASSIGN_OR_RETURN_NAMED(result, declaration, expression) \
  auto result = (expression);                                   \
  if (!result.ok()) return result.status();                     \
  declaration = std::move(result).value()
