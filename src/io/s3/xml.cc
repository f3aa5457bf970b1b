#include "io/s3/xml.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace colossus {
namespace {

constexpr std::pair<std::string_view, char> kEntities[] = {
    {"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}};

void append_utf8(uint32_t code, std::string& text) {
  if (code < 0x80) {
    text += static_cast<char>(code);
  } else if (code < 0x800) {
    text += {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
  } else if (code < 0x10000) {
    text += {static_cast<char>(0xe0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 0x3f)),
             static_cast<char>(0x80 | (code & 0x3f))};
  } else if (code < 0x110000) {
    text += {static_cast<char>(0xf0 | code >> 18), static_cast<char>(0x80 | (code >> 12 & 0x3f)),
             static_cast<char>(0x80 | (code >> 6 & 0x3f)), static_cast<char>(0x80 | (code & 0x3f))};
  }
}

// "#10", "#xA", "amp"; false for what is no entity.
bool append_entity(std::string_view name, std::string& text) {
  for (const auto& [known, character] : kEntities)
    if (name == known) {
      text += character;
      return true;
    }
  if (!name.starts_with('#')) return false;
  const bool hexadecimal = name.size() > 1 && (name[1] == 'x' || name[1] == 'X');
  name.remove_prefix(hexadecimal ? 2 : 1);
  uint32_t code = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), code, hexadecimal ? 16 : 10);
  if (error != std::errc() || end != name.data() + name.size()) return false;
  append_utf8(code, text);
  return true;
}

}  // namespace

std::vector<std::string_view> xml_elements(std::string_view xml, std::string_view name) {
  std::vector<std::string_view> found;
  const std::string open = fmt::format("<{}", name), close = fmt::format("</{}>", name);
  for (size_t at = 0; (at = xml.find(open, at)) != std::string_view::npos;) {
    at += open.size();
    // "<Key" is not "<KeyCount"; a tag may have attributes (xmlns).
    if (at == xml.size() || (xml[at] != '>' && xml[at] != ' ' && xml[at] != '/')) continue;
    const size_t tag_end = xml.find('>', at);
    if (tag_end == std::string_view::npos) break;
    if (xml[tag_end - 1] == '/') {
      found.emplace_back();
      at = tag_end;
      continue;
    }
    const size_t end = xml.find(close, tag_end);
    if (end == std::string_view::npos) break;
    found.push_back(xml.substr(tag_end + 1, end - tag_end - 1));
    at = end + close.size();
  }
  return found;
}

std::optional<std::string> xml_text(std::string_view xml, std::string_view name) {
  const auto found = xml_elements(xml, name);
  return found.empty() ? std::nullopt : std::optional(xml_decode(found.front()));
}

std::string xml_decode(std::string_view text) {
  std::string decoded;
  for (size_t at = 0; at < text.size(); ++at) {
    // No entity is longer: whoever writes nothing but '&' must not have all of the text searched for each.
    constexpr size_t kMaxEntityBytes = 16;
    const std::string_view ahead = text.substr(at + 1, kMaxEntityBytes);
    const size_t length = text[at] == '&' ? ahead.find(';') : std::string_view::npos;
    if (length != std::string_view::npos && append_entity(ahead.substr(0, length), decoded))
      at += 1 + length;
    else
      decoded += text[at];
  }
  return decoded;
}

std::string xml_encode(std::string_view text) {
  std::string encoded;
  for (const char c : text) {
    const auto* const known = std::find_if(std::begin(kEntities), std::end(kEntities),
                                           [c](const auto& entity) { return entity.second == c; });
    if (known == std::end(kEntities))
      encoded += c;
    else
      encoded += fmt::format("&{};", known->first);
  }
  return encoded;
}

}  // namespace colossus
