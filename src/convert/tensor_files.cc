#include "convert/tensor_files.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "convert/int8_weights.h"
#include "convert/plain_name.h"
#include "io/checked_json.h"
#include "io/checksum.h"

namespace colossus {
namespace {

constexpr std::string_view kSuffix = ".safetensors";
constexpr int64_t kSampleBytes = 64 << 10;
constexpr int64_t kNumSamples = 16;

bool is_pickle(const std::string& name) {
  for (const char* suffix : {".bin", ".pt", ".pth", ".pkl", ".ckpt"})
    if (name.ends_with(suffix)) return true;
  return name.starts_with("tensor000");  // Grok-1 as it was released: tensor00000_000
}

Status no_tensor_files(const std::string& directory, const std::vector<FileEntry>& entries) {
  const auto pickle =
      std::ranges::find_if(entries, [](const FileEntry& e) { return !e.is_directory && is_pickle(e.name); });
  if (pickle != entries.end())
    return invalid(
        fmt::format("[{}] holds {}, a pickle, and no *.safetensors. Pickles are programs and are never run here. Where "
                    "you trust the "
                    "file, write it as safetensors first, with PyTorch: safetensors.torch.save_file(torch.load(\"{}\", "
                    "weights_only=True), \"model.safetensors\")",
                    directory, pickle->name, pickle->name));
  return not_found(fmt::format(
      "[{}] holds no *.safetensors; needed the directory of a model with config.json and model.safetensors, or shards "
      "and {}",
      directory, kIndexName));
}

// file name of each tensor
Result<std::map<std::string, std::string>> read_index(FileSystem& files, const std::string& path) {
  ASSIGN_OR_RETURN(const Json index, read_checked_json(files, path));
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
    return invalid(fmt::format("[{}] has no object weight_map; it must name the file of each tensor", path));
  std::map<std::string, std::string> file_of;
  for (const auto& [name, file] : index["weight_map"].items()) {
    if (!file.is_string() || !is_plain_name(file.get<std::string>()) || !file.get<std::string>().ends_with(kSuffix))
      return invalid(fmt::format(
          "[{}] weight_map puts \"{}\" into {}; needed the name of a *.safetensors file in the same directory", path,
          name, file.dump(-1, ' ', false, Json::error_handler_t::replace)));
    file_of.emplace(name, file.get<std::string>());
  }
  if (file_of.empty()) return invalid(fmt::format("[{}] its weight_map is empty", path));
  return file_of;
}

std::optional<DType> importable(const std::string& word) {
  if (word == "F32") return DType::kF32;
  if (word == "F16") return DType::kF16;
  if (word == "BF16") return DType::kBF16;
  return std::nullopt;
}

Status add_tensors(const std::shared_ptr<const SafetensorsFile>& file, TensorFiles& opened,
                   std::map<std::string, std::string>& place_of, Int8Weights& int8) {
  for (const SafetensorsEntry& entry : file->tensors()) {
    const auto [at, is_new] = place_of.emplace(entry.name, file->path());
    if (!is_new)
      return invalid(fmt::format("[{}] has the tensor \"{}\", and so has {}; each must be in one file", file->path(),
                                 entry.name, at->second));
    if (int8.take(file, entry)) continue;
    const auto dtype = importable(entry.dtype);
    if (!dtype || entry.shape.size() > static_cast<size_t>(Shape::kMaxRank)) {
      opened.other_types.push_back(entry.name + ": " + entry.dtype);
      continue;
    }
    opened.tensors[entry.name] = {
        .name = entry.name,
        .dtype = *dtype,
        .shape = Shape(std::span<const int64_t>(entry.shape)),
        .read = [file, &entry](int64_t offset, std::span<std::byte> into) { return file->read(entry, offset, into); },
        .place = file->path()};
  }
  return ok_status();
}

}  // namespace

Result<std::string> identity_of_file(FileSystem& files, const std::string& path) {
  ASSIGN_OR_RETURN(const auto file, files.open(path));
  StreamingChecksum sum;
  std::vector<std::byte> sample;
  const int64_t step = std::max(kSampleBytes, file->size() / kNumSamples);
  for (int64_t at = 0; at < file->size(); at += step) {
    sample.resize(static_cast<size_t>(std::min(kSampleBytes, file->size() - at)));
    RETURN_IF_ERROR(read_exactly(*file, at, sample).at(path));
    sum.add(sample);
  }
  return fmt::format("{}:{:016x} ", file->size(), sum.value());
}

Result<std::vector<std::string>> list_tensor_files(FileSystem& files, const std::string& directory) {
  ASSIGN_OR_RETURN(const auto entries, files.list(directory));
  const auto has = [&](const std::string& name) {
    return std::ranges::any_of(entries, [&](const FileEntry& e) { return !e.is_directory && e.name == name; });
  };
  if (has(kIndexName)) {
    ASSIGN_OR_RETURN(const auto file_of, read_index(files, directory + "/" + kIndexName));
    std::set<std::string> names;
    for (const auto& [tensor, file] : file_of) names.insert(file);
    return std::vector<std::string>(names.begin(), names.end());
  }
  if (has("model.safetensors")) return std::vector<std::string>{"model.safetensors"};
  std::vector<std::string> names;
  for (const FileEntry& entry : entries)
    if (!entry.is_directory && entry.name.ends_with(kSuffix)) names.push_back(entry.name);
  if (names.empty()) return no_tensor_files(directory, entries);
  if (const auto cut = std::ranges::find_if(names, [](const auto& n) { return n.find("-TP-") != std::string::npos; });
      cut != names.end())
    return invalid(
        fmt::format("[{}/{}] is one tensor-parallel rank's part of its matrices; needed whole matrices: join the parts "
                    "of *-TP-000 to "
                    "*-TP-007 along the dimension that was cut, and give the joined files",
                    directory, *cut));
  return names;
}

Result<TensorFiles> open_tensor_files(FileSystem& files, const std::string& directory) {
  ASSIGN_OR_RETURN(const auto names, list_tensor_files(files, directory));
  TensorFiles opened;
  Int8Weights int8;
  std::map<std::string, std::string> place_of;
  for (const std::string& name : names) {
    const std::string path = directory + "/" + name;
    ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::open(files, path));
    opened.files.push_back(std::make_shared<const SafetensorsFile>(std::move(file)));
    RETURN_IF_ERROR(add_tensors(opened.files.back(), opened, place_of, int8));
    ASSIGN_OR_RETURN(const std::string identity, identity_of_file(files, path));
    opened.identity += name + ":" + identity;
  }
  RETURN_IF_ERROR(int8.add_to(opened.tensors, opened.other_types));
  if (!files.stat(directory + "/" + kIndexName).ok()) return opened;
  ASSIGN_OR_RETURN(const auto file_of, read_index(files, directory + "/" + kIndexName));
  for (const auto& [tensor, file] : file_of)
    if (const auto found = place_of.find(tensor); found == place_of.end() || found->second != directory + "/" + file)
      return invalid(fmt::format("[{}/{}] puts the tensor \"{}\" into {}, where it is not; get the files again",
                                 directory, kIndexName, tensor, file));
  for (const auto& [tensor, place] : place_of)
    if (!file_of.contains(tensor))
      return invalid(fmt::format("[{}] has the tensor \"{}\", which {} does not name; the files do not belong together",
                                 place, tensor, kIndexName));
  return opened;
}

}  // namespace colossus
