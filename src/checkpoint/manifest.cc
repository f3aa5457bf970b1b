#include "checkpoint/manifest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "checkpoint/coverage.h"
#include "io/checked_json.h"
#include "io/checksum.h"

namespace colossus {
namespace {

constexpr int kVersion = 2;
constexpr const char* kFormat = "colossus-checkpoint";
constexpr size_t kDigits = 16;  // of a checksum
constexpr size_t kGuardBytes = kDigits + 1;

std::string digits_of(uint64_t checksum) { return fmt::format("{:016x}", checksum); }

std::optional<uint64_t> checksum_of(std::string_view digits) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  if (digits.size() != kDigits || error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  // One spelling for one number.
  return digits_of(value) == digits ? std::optional(value) : std::nullopt;
}

std::string guard_of(std::string_view body) { return digits_of(checksum(body)) + "\n"; }

// The values of a JSON number or list; throws, as the library does, where they are something else.
int64_t whole_number(const Json& json) { return json.get_ref<const Json::number_integer_t&>(); }
std::vector<int64_t> whole_numbers(const Json& json) {
  std::vector<int64_t> numbers;
  for (const Json& number : json.get_ref<const Json::array_t&>()) numbers.push_back(whole_number(number));
  return numbers;
}

std::vector<int64_t> sizes_of(const Shape& shape) { return {shape.sizes().begin(), shape.sizes().end()}; }

Json piece_to_json(const Shape& whole, const StoredPiece& stored) {
  const Slice& slice = stored.piece.slice;
  Json json = {{"in", stored.file_name}};
  if (!(slice == Slice{.shape = whole})) {
    json["begin"] = std::vector(slice.begin.begin(), slice.begin.begin() + slice.shape.rank());
    json["shape"] = sizes_of(slice.shape);
  }
  if (!(stored.piece == whole_piece(slice))) json["range"] = {stored.piece.begin, stored.piece.end};
  std::string blocks;
  for (const uint64_t block : stored.block_checksums) blocks += digits_of(block);
  json["blocks"] = std::move(blocks);
  return json;
}

Json tensor_to_json(const Checkpoint::Entry& entry) {
  Json json = {{"file", entry.file},
               {"name", entry.name},
               {"dtype", dtype_name(entry.dtype)},
               {"shape", sizes_of(entry.shape)},
               {"pieces", Json::array()}};
  for (const StoredPiece& stored : entry.pieces) json["pieces"].push_back(piece_to_json(entry.shape, stored));
  return json;
}

Status check_keys(const Json& json, std::initializer_list<std::string_view> known) {
  for (const auto& [key, value] : json.get_ref<const Json::object_t&>())
    if (std::find(known.begin(), known.end(), key) == known.end())
      return corrupt(fmt::format("the key \"{}\" is unknown", key));
  return ok_status();
}

Result<Shape> parse_shape(const Json& json) {
  const std::vector<int64_t> sizes = whole_numbers(json);
  if (sizes.size() > Shape::kMaxRank) return corrupt(fmt::format("{} dimensions are too many", sizes.size()));
  return Shape(std::span<const int64_t>(sizes));
}

Result<Piece> parse_piece_place(const Json& json, const Shape& whole) {
  Slice slice{.shape = whole};
  if (json.contains("begin") || json.contains("shape")) {
    const std::vector<int64_t> begin = whole_numbers(json.at("begin"));
    ASSIGN_OR_RETURN(slice.shape, parse_shape(json.at("shape")));
    if (begin.size() != static_cast<size_t>(slice.shape.rank()))
      return corrupt(fmt::format("begin has {} numbers, shape {}", begin.size(), slice.shape.rank()));
    std::copy(begin.begin(), begin.end(), slice.begin.begin());
  }
  // The slice is looked at before its elements are counted.
  RETURN_IF_ERROR(check_piece(whole, {.slice = slice}));
  Piece piece = whole_piece(slice);
  if (json.contains("range")) {
    const std::vector<int64_t> range = whole_numbers(json["range"]);
    if (range.size() != 2) return corrupt(fmt::format("range has {} numbers, not 2", range.size()));
    piece.begin = range[0];
    piece.end = range[1];
    RETURN_IF_ERROR(check_piece(whole, piece));
  }
  return piece;
}

// Names in a manifest are plain: none leads out of the checkpoint.
Status check_plain(std::string_view name) {
  if (!name.empty() && name != "." && name != ".." && name.find('/') == std::string_view::npos &&
      name.find('\0') == std::string_view::npos)
    return ok_status();
  return corrupt(fmt::format("\"{}\" is no plain name", name));
}

Result<StoredPiece> parse_piece(const Json& json, const Checkpoint::Entry& entry) {
  RETURN_IF_ERROR(check_keys(json, {"in", "begin", "shape", "range", "blocks"}));
  StoredPiece stored{.file_name = json.at("in").get<std::string>(), .piece = {}, .block_checksums = {}};
  auto piece = parse_piece_place(json, entry.shape);
  if (!piece.ok()) return corrupt("in " + stored.file_name + ": " + piece.status().message());
  stored.piece = *piece;
  const auto& digits = json.at("blocks").get_ref<const std::string&>();
  const int64_t needed = num_blocks(stored.piece.size() * dtype_bytes(entry.dtype));
  if (static_cast<int64_t>(digits.size() / kDigits) != needed || digits.size() % kDigits != 0)
    return corrupt(fmt::format("in {}: {} digits of checksums; {} blocks have {}", stored.file_name, digits.size(),
                               needed, needed * static_cast<int64_t>(kDigits)));
  stored.block_checksums.reserve(static_cast<size_t>(needed));
  for (size_t at = 0; at < digits.size(); at += kDigits) {
    const auto sum = checksum_of(std::string_view(digits).substr(at, kDigits));
    if (!sum) return corrupt(fmt::format("in {}: {} is no checksum", stored.file_name, digits.substr(at, kDigits)));
    stored.block_checksums.push_back(*sum);
  }
  return stored;
}

Result<Checkpoint::Entry> parse_tensor(const Json& json) {
  RETURN_IF_ERROR(check_keys(json, {"file", "name", "dtype", "shape", "pieces"}));
  Checkpoint::Entry entry{.file = json.at("file").get<std::string>(),
                          .name = json.at("name").get<std::string>(),
                          .shape = {},
                          .pieces = {}};
  RETURN_IF_ERROR(check_plain(entry.file));
  const auto dtype = dtype_from_name(json.at("dtype").get_ref<const std::string&>());
  if (!dtype)
    return corrupt(fmt::format("tensor {}/{}: the dtype {} is unknown", entry.file, entry.name, json["dtype"].dump()));
  entry.dtype = *dtype;
  ASSIGN_OR_RETURN(entry.shape, parse_shape(json.at("shape")));
  if (const Status shape = check_shape(entry.shape); !shape.ok())
    return corrupt(fmt::format("tensor {}/{}: {}", entry.file, entry.name, shape.message()));
  for (const Json& piece : json.at("pieces").get_ref<const Json::array_t&>()) {
    auto stored = parse_piece(piece, entry);
    if (!stored.ok())
      return corrupt(fmt::format("tensor {}/{}, piece {} {}", entry.file, entry.name, entry.pieces.size(),
                                 stored.status().message()));
    entry.pieces.push_back(std::move(*stored));
  }
  return entry;
}

Result<Manifest> parse_json(const Json& json) {
  if (!json.is_object() || !json.contains("format") || json["format"] != kFormat)
    return corrupt("not a checkpoint's manifest");
  if (!json.contains("version") || json["version"] != kVersion)
    return invalid(fmt::format("version {}; this program reads version {}",
                               json.contains("version") ? json["version"].dump() : "null", kVersion));
  RETURN_IF_ERROR(
      check_keys(json, {"format", "version", "step", "validation_loss", "block_bytes", "texts", "files", "tensors"}));
  if (whole_number(json.at("block_bytes")) != kCheckpointBlockBytes)
    return invalid(fmt::format("blocks of {} bytes; this program reads blocks of {}", json["block_bytes"].dump(),
                               kCheckpointBlockBytes));
  Manifest manifest{
      .step = whole_number(json.at("step")), .validation_loss = {}, .texts = {}, .files = {}, .tensors = {}};
  if (json.contains("validation_loss")) manifest.validation_loss = json["validation_loss"].get<double>();
  for (const auto& [name, digits] : json.at("texts").get_ref<const Json::object_t&>()) {
    RETURN_IF_ERROR(check_plain(name));
    const auto sum = checksum_of(digits.get_ref<const std::string&>());
    if (!sum) return corrupt(fmt::format("{}: {} is no checksum", name, digits.dump()));
    manifest.texts[name] = *sum;
  }
  for (const auto& [name, bytes] : json.at("files").get_ref<const Json::object_t&>()) {
    RETURN_IF_ERROR(check_plain(name));
    manifest.files[name] = whole_number(bytes);
  }
  for (const Json& tensor : json.at("tensors").get_ref<const Json::array_t&>()) {
    ASSIGN_OR_RETURN(Checkpoint::Entry entry, parse_tensor(tensor));
    if (!manifest.tensors.empty() && !entry_before(manifest.tensors.back(), entry))
      return corrupt(fmt::format("tensor {}/{} is there twice, or not in its place", entry.file, entry.name));
    for (const StoredPiece& stored : entry.pieces)
      if (!manifest.files.contains(stored.file_name))
        return corrupt(fmt::format("tensor {}/{} is in {}, which is not one of the files", entry.file, entry.name,
                                   stored.file_name));
    manifest.tensors.push_back(std::move(entry));
  }
  return manifest;
}

// The pieces that hold an element, for a message.
std::string describe_holders(const Checkpoint::Entry& entry, const std::vector<size_t>& holders) {
  if (holders.empty()) return "in no piece";
  std::vector<std::string> names;
  for (const size_t holder : holders) names.push_back(entry.pieces[holder].file_name);
  return fmt::format("in {} pieces: of {}", names.size(), fmt::join(names, " and "));
}

}  // namespace

std::string manifest_text(const Manifest& manifest) {
  Json head = {{"format", kFormat},     {"version", kVersion},     {"block_bytes", kCheckpointBlockBytes},
               {"step", manifest.step}, {"files", manifest.files}, {"texts", Json::object()}};
  if (manifest.validation_loss) head["validation_loss"] = *manifest.validation_loss;
  for (const auto& [name, sum] : manifest.texts) head["texts"][name] = digits_of(sum);
  std::string body = head.dump(1);
  // One line for each tensor: readable, and no longer than it must be.
  body.resize(body.size() - 2);
  body += ",\n \"tensors\": [";
  for (size_t i = 0; i < manifest.tensors.size(); ++i)
    body += (i == 0 ? "\n  " : ",\n  ") + tensor_to_json(manifest.tensors[i]).dump();
  body += "\n ]\n}\n";
  // The last line guards the manifest itself.
  return body + guard_of(body);
}

Result<Manifest> parse_manifest(std::string_view text) {
  const std::string_view body = text.substr(0, text.size() - std::min(text.size(), kGuardBytes));
  if (guard_of(body) != text.substr(body.size()))
    return corrupt("the manifest was cut or altered: its checksum does not match; use an earlier checkpoint");
  const auto json = parse_checked_json(body);
  if (!json.ok()) return corrupt(json.status().message());  // an earlier checkpoint will do, whatever is wrong with it
  try {
    return parse_json(*json);
  } catch (const nlohmann::json::exception& error) {  // a value of another type
    return corrupt(error.what());
  }
}

Result<Manifest> merge_manifests(std::vector<Manifest> parts) {
  CHECK(!parts.empty());
  Manifest all{.step = parts[0].step, .validation_loss = {}, .texts = {}, .files = {}, .tensors = {}};
  std::vector<Checkpoint::Entry> entries;
  for (size_t rank = 0; rank < parts.size(); ++rank) {
    if (parts[rank].step != all.step)
      return invalid(fmt::format("rank 0 saves step {}, rank {} saves step {}", all.step, rank, parts[rank].step));
    for (const auto& [name, bytes] : parts[rank].files)
      if (!all.files.emplace(name, bytes).second) return invalid(fmt::format("two ranks wrote {}", name));
    std::move(parts[rank].tensors.begin(), parts[rank].tensors.end(), std::back_inserter(entries));
  }
  std::stable_sort(entries.begin(), entries.end(), entry_before);
  for (Checkpoint::Entry& entry : entries) {
    if (all.tensors.empty() || entry_before(all.tensors.back(), entry)) {
      all.tensors.push_back(std::move(entry));
      continue;
    }
    Checkpoint::Entry& same = all.tensors.back();
    if (same.dtype != entry.dtype || !(same.shape == entry.shape))
      return invalid(fmt::format("tensor {}/{} is {} {} in {} and {} {} in {}", same.file, same.name,
                                 dtype_name(same.dtype), same.shape.to_string(), same.pieces.front().file_name,
                                 dtype_name(entry.dtype), entry.shape.to_string(), entry.pieces.front().file_name));
    std::move(entry.pieces.begin(), entry.pieces.end(), std::back_inserter(same.pieces));
  }
  return all;
}

Status check_complete(const Manifest& manifest) {
  for (const Checkpoint::Entry& entry : manifest.tensors) {
    std::vector<Piece> pieces;
    std::set<std::string_view> names;
    for (const StoredPiece& stored : entry.pieces) {
      pieces.push_back(stored.piece);
      if (!names.insert(stored.file_name).second)
        return corrupt(fmt::format("tensor {}/{} has two pieces in {}", entry.file, entry.name, stored.file_name));
    }
    if (const auto fault = find_coverage_fault(entry.shape, pieces))
      return corrupt(fmt::format("tensor {}/{} {}: element [{}] is {}", entry.file, entry.name, entry.shape.to_string(),
                                 fmt::join(fault->element, ", "), describe_holders(entry, fault->holders)));
  }
  return ok_status();
}

Result<Manifest> read_manifest(FileSystem& files, const std::string& path) {
  const std::string place = path + "/" + kManifestName;
  ASSIGN_OR_RETURN(const std::string text, read_file(files, place, kMaxManifestBytes));
  auto manifest = parse_manifest(text);
  if (!manifest.ok()) return manifest.status().at(place);
  return manifest;
}

int64_t num_blocks(int64_t num_bytes) { return (num_bytes + kCheckpointBlockBytes - 1) / kCheckpointBlockBytes; }

std::vector<int64_t> stored_shape(const Piece& piece) {
  if (!(piece == whole_piece(piece.slice))) return {piece.size()};
  return sizes_of(piece.slice.shape);
}

std::string safetensors_word(DType dtype) {
  std::string word(dtype_name(dtype));
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return word;
}

const std::map<std::string, std::string>& checkpoint_file_metadata() {
  static const std::map<std::string, std::string> metadata = {{"format", "colossus"}};
  return metadata;
}

}  // namespace colossus
