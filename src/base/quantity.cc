#include "base/quantity.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <cstdlib>

namespace colossus {

std::string format_quantity(double value, std::string_view unit) {
  constexpr std::array<const char*, 6> kPrefixes = {"", "k", "M", "G", "T", "P"};
  size_t prefix = 0;
  double scaled = value;
  // 999.5 would print as "1000": the next prefix begins where rounding to three digits does.
  while (std::abs(scaled) >= 999.5 && prefix + 1 < kPrefixes.size()) {
    scaled /= 1000;
    ++prefix;
  }
  const double magnitude = std::abs(scaled);
  const bool whole = prefix == 0 && value == std::floor(value);
  const int decimals = whole || magnitude >= 99.95 ? 0 : magnitude >= 9.995 ? 1 : 2;
  const std::string number = fmt::format("{:.{}f}", scaled, decimals);
  if (unit == "bytes") return fmt::format("{} {}B", number, kPrefixes[prefix]);
  return fmt::format("{}{}{}{}", number, kPrefixes[prefix], unit.empty() ? "" : " ", unit);
}

std::string with_separators(int64_t value) {
  const std::string digits = fmt::format("{}", value);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && digits[i - 1] != '-' && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

Result<double> read_quantity(const std::string& option, const std::string& text) {
  const std::string suffixes = "kMGT";
  std::string number = text;
  double factor = 1;
  if (!number.empty())
    if (const size_t at = (number.back() == 'B' ? std::string("kMBT") : suffixes).find(number.back());
        at != std::string::npos) {
      factor = std::pow(1000.0, static_cast<double>(at + 1));
      number.pop_back();
    }
  char* end = nullptr;
  const double value = std::strtod(number.c_str(), &end);
  if (number.empty() || end != number.c_str() + number.size() || !std::isfinite(value) || value < 0)
    return invalid(
        fmt::format("[{}] {}; give a number, with k, M, B or T behind it if you like, such as 6T", option, text));
  return value * factor;
}

}  // namespace colossus
