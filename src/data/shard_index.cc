#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "data/shard_set.h"
#include "io/checked_json.h"

namespace colossus {
namespace {

// For writing alone: it looks through all keys of an object for each new one.
using OrderedJson = nlohmann::ordered_json;

constexpr const char* kFormat = "colossus token shards";
constexpr int kVersion = 1;
constexpr int64_t kMaxIndexBytes = int64_t{256} << 20;

std::string hex(uint64_t value) { return fmt::format("{:016x}", value); }

// A 64-bit number as JSON cannot hold it: 16 hexadecimal digits.
Result<uint64_t> hex_field(const Json& object, const char* name) {
  const auto found = object.find(name);
  uint64_t value = 0;
  if (found != object.end() && found->is_string()) {
    const auto& text = found->get_ref<const std::string&>();
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
    if (error == std::errc() && end == text.data() + text.size() && text.size() == 16) return value;
  }
  return invalid(fmt::format("\"{}\" should be 16 hexadecimal digits", name));
}

Result<int64_t> count_field(const Json& object, const char* name, int64_t limit) {
  const auto found = object.find(name);
  if (found != object.end() && found->is_number_unsigned() && found->get<uint64_t>() <= static_cast<uint64_t>(limit)) {
    return static_cast<int64_t>(found->get<uint64_t>());
  }
  return invalid(fmt::format("\"{}\" should be a number from 0 to {}", name, limit));
}

OrderedJson to_json(const std::vector<ShardListing>& shards) {
  OrderedJson list = OrderedJson::array();
  for (const ShardListing& shard : shards) {
    list.push_back({{"file", shard.file},
                    {"num_tokens", shard.counts.num_tokens},
                    {"num_documents", shard.counts.num_documents},
                    {"num_source_bytes", shard.counts.num_source_bytes},
                    {"checksum", hex(shard.contents_checksum)}});
  }
  return list;
}

Result<ShardListing> parse_listing(const Json& object) {
  if (!object.is_object()) return invalid("a shard should be an object");
  ShardListing shard;
  const auto file = object.find("file");
  if (file == object.end() || !file->is_string()) return invalid("a shard lacks \"file\"");
  shard.file = file->get<std::string>();
  if (shard.file.empty() || shard.file == "." || shard.file == ".." || shard.file.find('/') != std::string::npos) {
    return invalid(fmt::format("the shard file \"{}\" is not a name in this directory", shard.file));
  }
  ASSIGN_OR_RETURN(shard.counts.num_tokens, count_field(object, "num_tokens", kMaxShardTokens));
  ASSIGN_OR_RETURN(shard.counts.num_documents, count_field(object, "num_documents", kMaxShardTokens));
  ASSIGN_OR_RETURN(shard.counts.num_source_bytes, count_field(object, "num_source_bytes", INT64_MAX));
  ASSIGN_OR_RETURN(shard.contents_checksum, hex_field(object, "checksum"));
  return shard;
}

Result<std::vector<ShardListing>> parse_split(const Json& splits, const char* name) {
  const auto found = splits.find(name);
  if (found == splits.end() || !found->is_array())
    return invalid(fmt::format("\"{}\" should be a list of shards", name));
  std::vector<ShardListing> shards;
  for (const Json& object : *found) {
    ASSIGN_OR_RETURN(ShardListing shard, parse_listing(object));
    shards.push_back(std::move(shard));
  }
  return shards;
}

Result<ShardIndex> parse_index(const std::string& text) {
  auto parsed = parse_checked_json(text);
  if (!parsed.ok() || !parsed->is_object())
    return corrupt(fmt::format("{}; build the shards again", parsed.ok() ? "no object" : parsed.status().message()));
  const Json json = std::move(*parsed);
  if (json.value("format", Json()) != kFormat || json.value("version", Json()) != kVersion) {
    return invalid(fmt::format("not an index of \"{}\", version {}", kFormat, kVersion));
  }
  ShardIndex index;
  ASSIGN_OR_RETURN(index.identity.vocab_size, count_field(json, "vocab_size", INT32_MAX));
  ASSIGN_OR_RETURN(index.identity.tokenizer_hash, hex_field(json, "tokenizer_hash"));
  if (index.identity.vocab_size == 0) return invalid("\"vocab_size\" is 0");
  for (const auto& [name, token] :
       {std::pair("bos_token", &index.bos_token), std::pair("eos_token", &index.eos_token)}) {
    if (!json.contains(name) || json[name].is_null()) continue;
    ASSIGN_OR_RETURN(const int64_t id, count_field(json, name, index.identity.vocab_size - 1));
    *token = static_cast<int32_t>(id);
  }
  const Json rule = json.value("split_rule", Json(""));
  if (rule.is_string()) index.split_rule = rule.get<std::string>();
  ASSIGN_OR_RETURN(index.train, parse_split(json, kTrainSplit));
  ASSIGN_OR_RETURN(index.validation, parse_split(json, kValidationSplit));
  return index;
}

}  // namespace

Result<ShardIndex> read_shard_index(FileSystem& files, const std::string& directory) {
  const std::string path = directory + "/index.json";
  const auto text = read_file(files, path, kMaxIndexBytes);
  if (!text.ok() && text.status().code() == ErrorCode::kNotFound) {
    return not_found(
        fmt::format("{} holds no shards (no index.json): build them with `colossus data build --out {} ...`", directory,
                    directory));
  }
  RETURN_IF_ERROR(text);
  auto index = parse_index(*text);
  if (!index.ok()) return index.status().at(path);
  return index;
}

Status write_shard_index(FileSystem& files, const std::string& directory, const ShardIndex& index) {
  OrderedJson json = {{"format", kFormat},
                      {"version", kVersion},
                      {"dtype", index.identity.token_bytes() == 2 ? "uint16" : "uint32"},
                      {"vocab_size", index.identity.vocab_size},
                      {"tokenizer_hash", hex(index.identity.tokenizer_hash)},
                      {"bos_token", index.bos_token ? OrderedJson(*index.bos_token) : OrderedJson()},
                      {"eos_token", index.eos_token ? OrderedJson(*index.eos_token) : OrderedJson()},
                      {"split_rule", index.split_rule},
                      {kTrainSplit, to_json(index.train)},
                      {kValidationSplit, to_json(index.validation)}};
  return write_file_atomically(files, directory + "/index.json", json.dump(2) + "\n");
}

}  // namespace colossus
