// Names of files that come from files.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace colossus {

// A name in the same directory: no slash, no "..", nothing that leads elsewhere.
inline bool is_plain_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.size() < 256 &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

}  // namespace colossus
