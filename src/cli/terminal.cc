#include "cli/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace colossus {
namespace {

bool continues_character(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

bool locale_is_utf8() {
  // The first that is set decides (POSIX).
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == 0) continue;
    const std::string_view locale(value);
    return locale.find("UTF-8") != locale.npos || locale.find("utf8") != locale.npos;
  }
  return false;
}

}  // namespace

Terminal query_terminal(int descriptor) {
  Terminal terminal;
  const char* kind = std::getenv("TERM");
  terminal.interactive = isatty(descriptor) == 1 && kind != nullptr && std::string_view(kind) != "dumb";
  terminal.unicode = locale_is_utf8();
  winsize size{};
  if (ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) terminal.columns = size.ws_col;
  if (const char* columns = std::getenv("COLUMNS")) {
    if (const int asked = std::atoi(columns); asked > 0 && asked < 10'000) terminal.columns = asked;
  }
  return terminal;
}

Status print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return ok_status();
  return unavailable("cannot write to the standard output: the disk is full or its reader is gone");
}

int display_width(std::string_view text) {
  int columns = 0;
  for (const char c : text) columns += !continues_character(c);
  return columns;
}

std::string_view fit_to_columns(std::string_view text, int columns) {
  size_t end = 0;
  for (; end < text.size(); ++end) {
    if (!continues_character(text[end]) && columns-- <= 0) break;
  }
  return text.substr(0, end);
}

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

std::string format_duration(double seconds) {
  constexpr double kYear = 365.0 * 24 * 3600;
  if (!(seconds >= 0) || seconds > kYear) return "?";
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  const int64_t hours = whole / 3600, minutes = whole / 60 % 60;
  if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, minutes, whole % 60);
  return fmt::format("{}:{:02}", minutes, whole % 60);
}

}  // namespace colossus
