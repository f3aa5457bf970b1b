#include "io/json_depth.h"

#include <fmt/format.h>

namespace colossus {

Status check_json_depth(std::string_view text, int most) {
  int depth = 0;
  bool in_string = false;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (in_string) {
      if (c == '\\')
        ++at;
      else if (c == '"')
        in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > most)
        return invalid(
            fmt::format("objects and lists nested more than {} deep; no file of this kind needs that", most));
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return ok_status();
}

}  // namespace colossus
