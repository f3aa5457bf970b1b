#include "text/tiktoken.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <unordered_map>

#include "base/base64.h"
#include "text/merge_table.h"

namespace colossus {

namespace {

constexpr size_t kMaxFreeToken = 1024;  // each way to cut such a token is looked at

Status read_ranks(std::string_view text, std::vector<std::string>& tokens) {
  const size_t num_lines = static_cast<size_t>(std::count(text.begin(), text.end(), '\n')) + 1;
  int64_t line_number = 0;
  while (!text.empty()) {
    ++line_number;
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.ends_with('\r')) line.remove_suffix(1);
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

// A token whose parts by the ranks below are not two (the runs of blanks of p50k): it is made from any two tokens that
// spell it.
Status insert_all_ways(const std::vector<std::string>& tokens, int32_t id,
                       const std::unordered_map<std::string_view, int32_t>& ids, size_t num_parts, MergeTable& merges,
                       TokenizerSpec& spec) {
  const std::string_view token = tokens[static_cast<size_t>(id)];
  bool any = false;
  for (size_t at = 1; token.size() <= kMaxFreeToken && at < token.size(); ++at) {
    const auto left = ids.find(token.substr(0, at));
    const auto right = left == ids.end() ? ids.end() : ids.find(token.substr(at));
    if (right == ids.end() || left->second >= id || right->second >= id) continue;
    if (spec.merges.size() > 2 * tokens.size()) return invalid(fmt::format("rank {} can be made in too many ways", id));
    if (!merges.insert(left->second, right->second, {static_cast<uint32_t>(id), id})) continue;
    spec.merges.emplace_back(left->second, right->second);
    spec.merge_ranks.push_back(static_cast<uint32_t>(id));
    any = true;
  }
  if (any) return ok_status();
  return invalid(fmt::format("rank {} is {} parts by the ranks below it; a merge joins two", id, num_parts));
}

}  // namespace

const std::vector<TiktokenEncoding>& tiktoken_encodings() {
  static const std::vector<TiktokenEncoding> encodings = {
      {"r50k_base", 50256, SplitPattern::kGpt2, {{50256, "<|endoftext|>"}}},
      {"p50k_base", 50280, SplitPattern::kGpt2, {{50256, "<|endoftext|>"}}},
      {"cl100k_base",
       100256,
       SplitPattern::kCl100k,
       {{100257, "<|endoftext|>"},
        {100258, "<|fim_prefix|>"},
        {100259, "<|fim_middle|>"},
        {100260, "<|fim_suffix|>"},
        {100276, "<|endofprompt|>"}}},
      {"o200k_base", 199998, SplitPattern::kO200k, {{199999, "<|endoftext|>"}, {200018, "<|endofprompt|>"}}},
  };
  return encodings;
}

Result<Tokenizer> tokenizer_from_tiktoken(std::string_view ranks, std::optional<std::string_view> name) {
  size_t num_ranks = 0;
  if (!name) {
    std::vector<std::string> tokens;
    RETURN_IF_ERROR(read_ranks(ranks, tokens));
    num_ranks = static_cast<size_t>(
        std::count_if(tokens.begin(), tokens.end(), [](const std::string& token) { return !token.empty(); }));
  }
  std::string names;
  for (const TiktokenEncoding& encoding : tiktoken_encodings()) {
    if (name ? encoding.name == *name : encoding.num_ranks == num_ranks) {
      return tokenizer_from_tiktoken(ranks, encoding.pattern, encoding.added);
    }
    names += fmt::format(" {} ({})", encoding.name, encoding.num_ranks);
  }
  return invalid(fmt::format("{} ranks are none of the published encodings:{}",
                             name ? std::string(*name) : std::to_string(num_ranks), names));
}

Result<Tokenizer> tokenizer_from_tiktoken(std::string_view ranks, SplitPattern pattern, std::vector<AddedToken> added) {
  TokenizerSpec spec;
  spec.pattern = pattern;
  RETURN_IF_ERROR(read_ranks(ranks, spec.tokens));
  std::array<int32_t, 256> byte_ids;
  byte_ids.fill(-1);
  std::unordered_map<std::string_view, int32_t> ids;
  const int32_t num_ranks = static_cast<int32_t>(spec.tokens.size());
  for (int32_t id = 0; id < num_ranks; ++id) {
    if (spec.tokens[id].size() == 1) byte_ids[static_cast<uint8_t>(spec.tokens[id][0])] = id;
    ids.emplace(spec.tokens[id], id);
  }
  MergeTable merges(2 * spec.tokens.size());
  std::vector<int32_t> parts;
  for (int32_t id = 0; id < num_ranks; ++id) {
    const std::string& token = spec.tokens[id];
    if (token.size() < 2) continue;
    parts.clear();
    for (const char byte : token) parts.push_back(byte_ids[static_cast<uint8_t>(byte)]);
    merges.apply(parts);
    if (parts.size() != 2) {
      RETURN_IF_ERROR(insert_all_ways(spec.tokens, id, ids, parts.size(), merges, spec));
      spec.ignore_merges = true;  // and where it is a piece by itself, it is taken as it is
      continue;
    }
    if (parts[0] < 0 || parts[1] < 0 || !merges.insert(parts[0], parts[1], {static_cast<uint32_t>(id), id})) {
      return invalid(fmt::format("rank {} is made of bytes that no rank has, or repeats one", id));
    }
    spec.merges.emplace_back(parts[0], parts[1]);
    spec.merge_ranks.push_back(static_cast<uint32_t>(id));
  }
  if (!spec.ignore_merges) spec.merge_ranks.clear();
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

Result<std::string> tiktoken_ranks(const Tokenizer& tokenizer) {
  const TokenizerSpec& spec = tokenizer.spec();
  if (spec.alphabet != Alphabet::kBytes || spec.unigram) return invalid("its tokens are not merged from bytes");
  if (!spec.normalizer.empty()) return invalid("it normalizes text, which ranks cannot say");
  std::vector<bool> added(spec.tokens.size());
  for (const AddedToken& token : spec.added) added[static_cast<size_t>(token.id)] = true;
  int32_t last = -1;
  for (const auto& [left, right] : spec.merges) {
    const auto id = tokenizer.token_id(spec.tokens[left] + spec.tokens[right]);
    if (!id || *id < last) {
      return invalid(fmt::format("token {} is merged after token {}; ranks are ids, which must rise with the merges",
                                 id.value_or(-1), last));
    }
    last = *id;
  }
  std::string out;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (spec.tokens[id].empty() || added[id]) continue;
    out += fmt::format("{} {}\n", encode_base64(spec.tokens[id]), id);
  }
  return out;
}

}  // namespace colossus
