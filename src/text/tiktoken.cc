#include "text/tiktoken.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/base64.h"

namespace colossus {

namespace {

Status read_ranks(std::string_view text, std::vector<std::string>& tokens) {
  const size_t num_lines = static_cast<size_t>(std::count(text.begin(), text.end(), '\n')) + 1;
  int64_t line_number = 0;
  while (!text.empty()) {
    ++line_number;
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.empty()) continue;
    const size_t space = line.find(' ');
    const std::string_view number = space == std::string_view::npos ? std::string_view() : line.substr(space + 1);
    std::optional<std::string> bytes = decode_base64(line.substr(0, space));
    uint32_t rank = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), rank);
    if (error != std::errc() || end != number.data() + number.size() || !bytes || bytes->empty()) {
      return invalid(
          fmt::format("line {} is '{}'; wanted base64, a space and a rank", line_number, line.substr(0, 60)));
    }
    if (rank >= 2 * num_lines + 1024) {
      return invalid(
          fmt::format("line {}: rank {} is out of range for a file of {} lines", line_number, rank, num_lines));
    }
    if (rank >= tokens.size()) tokens.resize(rank + 1);
    if (!tokens[rank].empty()) return invalid(fmt::format("line {}: rank {} stands twice", line_number, rank));
    tokens[rank] = *std::move(bytes);
  }
  return tokens.empty() ? invalid("no ranks in the file; wanted lines of base64, a space and a rank") : ok_status();
}

}  // namespace

Result<Tokenizer> tokenizer_from_tiktoken(std::string_view ranks, SplitPattern pattern, std::vector<AddedToken> added) {
  TokenizerSpec spec;
  spec.pattern = pattern;
  RETURN_IF_ERROR(read_ranks(ranks, spec.tokens));
  std::array<int32_t, 256> byte_ids;
  byte_ids.fill(-1);
  const int32_t num_ranks = static_cast<int32_t>(spec.tokens.size());
  for (int32_t id = 0; id < num_ranks; ++id) {
    if (spec.tokens[id].size() == 1) byte_ids[static_cast<uint8_t>(spec.tokens[id][0])] = id;
  }
  MergeTable merges(spec.tokens.size());
  std::vector<int32_t> parts;
  for (int32_t id = 0; id < num_ranks; ++id) {
    const std::string& token = spec.tokens[id];
    if (token.size() < 2) continue;
    parts.clear();
    for (const char byte : token) parts.push_back(byte_ids[static_cast<uint8_t>(byte)]);
    merges.apply(parts);
    if (parts.size() != 2 || !merges.insert(parts[0], parts[1], {static_cast<uint32_t>(id), id})) {
      return invalid(fmt::format("rank {} is {} parts by the ranks below it; a merge joins two", id, parts.size()));
    }
    spec.merges.emplace_back(parts[0], parts[1]);
  }
  for (const AddedToken& token : added) {
    if (token.id < 0 || token.id > 2 * num_ranks)
      return invalid(fmt::format("added token id {} is out of range", token.id));
    if (static_cast<size_t>(token.id) >= spec.tokens.size()) spec.tokens.resize(token.id + 1);
    if (!spec.tokens[token.id].empty())
      return invalid(fmt::format("added token '{}' takes a used id {}", token.text, token.id));
    spec.tokens[token.id] = token.text;
  }
  spec.added = std::move(added);
  return Tokenizer::create(std::move(spec));
}

}  // namespace colossus
