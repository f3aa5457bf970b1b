// How deep JSON of strangers may nest. Libraries walk trees by recursion, where they copy, compare or print them: a
// million brackets would take the stack with them.
#pragma once

#include <string_view>

#include "base/status.h"

namespace colossus {

inline constexpr int kMaxJsonNesting = 128;

// Looks at the brackets outside of strings; whether the text is JSON at all, the parser says.
Status check_json_depth(std::string_view text, int most = kMaxJsonNesting);

}  // namespace colossus
