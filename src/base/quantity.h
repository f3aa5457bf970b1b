// Numbers as people read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace colossus {

// 1234567 as "1.23M"; bytes as "1.23 MB". Three digits.
std::string format_quantity(double value, std::string_view unit = "");

// 1234567 as "1,234,567".
std::string with_separators(int64_t value);

// "6T" as 6e12: with k, M, G or B, T behind it. `option` names it in the message: "[--tokens] 6X; give a number, ...".
Result<double> read_quantity(const std::string& option, const std::string& text);

}  // namespace colossus
