#include "io/safetensors_header.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "io/checked_json.h"

namespace colossus {
namespace {

constexpr size_t kMaxDimensions = 64;
constexpr const char* kMetadataKey = "__metadata__";

constexpr std::array<std::pair<std::string_view, int64_t>, 17> kDtypes = {{{"BOOL", 1},
                                                                           {"U8", 1},
                                                                           {"I8", 1},
                                                                           {"F8_E5M2", 1},
                                                                           {"F8_E4M3", 1},
                                                                           {"F8_E8M0", 1},
                                                                           {"I16", 2},
                                                                           {"U16", 2},
                                                                           {"F16", 2},
                                                                           {"BF16", 2},
                                                                           {"I32", 4},
                                                                           {"U32", 4},
                                                                           {"F32", 4},
                                                                           {"I64", 8},
                                                                           {"U64", 8},
                                                                           {"F64", 8},
                                                                           {"C64", 8}}};

// Reads exactly the shape a header has and refuses everything else at the first token: a tree of a hostile header would
// take many times its size in memory.
class HeaderReader final : public JsonVisitor {
 public:
  Status begin_object() override {
    switch (place_) {
      case Place::kStart: return go(Place::kNames);
      case Place::kTensorStart: return go(Place::kFields);
      case Place::kMetadataStart: return go(Place::kMetadata);
      default: return refuse("an object");
    }
  }

  Status end_object() override {
    switch (place_) {
      case Place::kNames: return go(Place::kEnd);
      case Place::kMetadata: return go(Place::kNames);
      case Place::kFields: RETURN_IF_ERROR(finish_tensor()); return go(Place::kNames);
      default: return refuse("the end of an object");
    }
  }

  Status key(const std::string& name) override {
    key_ = name;
    switch (place_) {
      case Place::kNames: return start_name();
      case Place::kMetadata: return go(Place::kMetadataValue);
      case Place::kFields: return start_field();
      default: return refuse("a key");
    }
  }

  Status begin_list() override {
    if (place_ == Place::kShapeStart) return go(Place::kShape);
    if (place_ == Place::kOffsetsStart) return go(Place::kOffsets);
    return refuse("a list");
  }

  Status end_list() override {
    if (place_ != Place::kShape && place_ != Place::kOffsets) return refuse("the end of a list");
    if (place_ == Place::kOffsets && offsets_.size() != 2) {
      return invalid(fmt::format("{}: data_offsets has {} numbers, not 2", quoted(tensor_.name), offsets_.size()));
    }
    return go(Place::kFields);
  }

  Status value(Json value) override {
    if (place_ == Place::kMetadataValue && value.is_string()) {
      header_.metadata.emplace(*key_, std::move(value.get_ref<std::string&>()));
      return go(Place::kMetadata);
    }
    if (place_ == Place::kDtype && value.is_string()) {
      tensor_.dtype = std::move(value.get_ref<std::string&>());
      return go(Place::kFields);
    }
    if ((place_ == Place::kShape || place_ == Place::kOffsets) && value.is_number()) return take_number(value);
    return refuse(brief_json(value).c_str());
  }

  SafetensorsHeader take() && { return std::move(header_); }

 private:
  enum class Place {
    kStart,
    kNames,
    kTensorStart,
    kMetadataStart,
    kMetadata,
    kMetadataValue,
    kFields,
    kDtype,
    kShapeStart,
    kShape,
    kOffsetsStart,
    kOffsets,
    kEnd
  };

  static std::string quoted(const std::string& name) { return brief_json(Json(name)); }

  Status go(Place place) {
    place_ = place;
    return ok_status();
  }

  Status refuse(const char* what) const {
    const std::string where = key_ ? "behind the key " + quoted(*key_) : "at the start";
    return invalid(fmt::format("{} {}, where the format has {}", what, where, wanted()));
  }

  const char* wanted() const {
    switch (place_) {
      case Place::kStart: return "an object of tensors by name";
      case Place::kTensorStart: return "an object with dtype, shape and data_offsets";
      case Place::kMetadataStart: return "an object of strings";
      case Place::kMetadataValue:
      case Place::kDtype: return "a string";
      case Place::kShapeStart:
      case Place::kOffsetsStart: return "a list of whole numbers";
      case Place::kShape:
      case Place::kOffsets: return "whole numbers from 0 to 2^63 - 1";
      case Place::kNames:
      case Place::kMetadata:
      case Place::kFields:
      case Place::kEnd: break;
    }
    return "none";
  }

  Status take_number(const Json& value) {
    // A fraction, a negative number, or one that no int64 holds.
    if (!value.is_number_unsigned() || value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
      return refuse(brief_json(value).c_str());
    auto& list = place_ == Place::kShape ? tensor_.shape : offsets_;
    if (list.size() == kMaxDimensions)
      return invalid(fmt::format("{}: {} has more than {} numbers", quoted(tensor_.name), *key_, kMaxDimensions));
    list.push_back(value.get<int64_t>());
    return ok_status();
  }

  Status start_name() {
    if (*key_ == kMetadataKey) return go(Place::kMetadataStart);
    tensor_ = SafetensorsEntry{.name = *key_, .dtype = {}, .shape = {}, .offset = 0, .size_bytes = 0};
    offsets_.clear();
    num_fields_ = 0;
    return go(Place::kTensorStart);
  }

  Status start_field() {
    ++num_fields_;
    if (*key_ == "dtype") return go(Place::kDtype);
    if (*key_ == "shape") return go(Place::kShapeStart);
    if (*key_ == "data_offsets") return go(Place::kOffsetsStart);
    return invalid(fmt::format("{} has the unknown field {}", quoted(tensor_.name), quoted(*key_)));
  }

  Status finish_tensor() {
    if (num_fields_ != 3)
      return invalid(fmt::format("{} lacks one of dtype, shape, data_offsets", quoted(tensor_.name)));
    tensor_.offset = offsets_[0];
    tensor_.size_bytes = offsets_[1] - offsets_[0];  // both are in 0..2^63-1: no overflow
    header_.tensors.push_back(std::move(tensor_));
    return ok_status();
  }

  Place place_ = Place::kStart;
  std::optional<std::string> key_;  // the last one
  int num_fields_ = 0;              // of the tensor; each is there once
  SafetensorsEntry tensor_;
  std::vector<int64_t> offsets_;
  SafetensorsHeader header_;
};

Status check_layout(std::vector<SafetensorsEntry>& tensors, int64_t data_bytes) {
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    return std::pair(a.offset, a.size_bytes) < std::pair(b.offset, b.size_bytes);
  });
  int64_t next = 0;
  for (const SafetensorsEntry& tensor : tensors) {
    const auto size = safetensors_tensor_bytes(tensor.dtype, tensor.shape);
    if (!size.ok()) return size.status().at(tensor.name);
    const int64_t needed = *size;
    if (tensor.size_bytes != needed) {
      return invalid(fmt::format("\"{}\": {} of shape ({}) needs {} bytes, its offsets span {}", tensor.name,
                                 tensor.dtype, fmt::join(tensor.shape, ", "), needed, tensor.size_bytes));
    }
    if (tensor.offset != next) {
      return invalid(fmt::format("\"{}\" starts at byte {} of the data, {} the byte {} where the one before it ends",
                                 tensor.name, tensor.offset, tensor.offset < next ? "inside of" : "after a gap behind",
                                 next));
    }
    if (needed > data_bytes - next) {
      return corrupt(fmt::format("\"{}\" ends at byte {} of the data, the file has only {}; it was cut: copy it again",
                                 tensor.name, next + needed, data_bytes));
    }
    next += needed;
  }
  if (next != data_bytes) {
    return corrupt(fmt::format("{} bytes follow the last tensor; they belong to none", data_bytes - next));
  }
  return ok_status();
}

}  // namespace

std::optional<int64_t> safetensors_dtype_bytes(const std::string& dtype) {
  const auto* found =
      std::find_if(kDtypes.begin(), kDtypes.end(), [&](const auto& known) { return known.first == dtype; });
  if (found == kDtypes.end()) return std::nullopt;
  return found->second;
}

Result<int64_t> safetensors_tensor_bytes(const std::string& dtype, const std::vector<int64_t>& shape) {
  const auto element_bytes = safetensors_dtype_bytes(dtype);
  if (!element_bytes) return invalid(fmt::format("the dtype \"{}\" is unknown", dtype));
  int64_t bytes = *element_bytes;
  for (const int64_t size : shape) {
    if (size < 0) return invalid(fmt::format("the shape ({}) has a negative size", fmt::join(shape, ", ")));
    if (__builtin_mul_overflow(bytes, size, &bytes)) {
      return invalid(fmt::format("the shape ({}) has more elements than any file", fmt::join(shape, ", ")));
    }
  }
  return bytes;
}

Result<SafetensorsHeader> parse_safetensors_header(std::string_view json, int64_t data_bytes) {
  HeaderReader reader;
  // The format says that the header begins with the brace; spaces may only follow it.
  if (json.empty() || json.front() != '{') return invalid("the header does not begin with {: not a safetensors file");
  RETURN_IF_ERROR(visit_checked_json(json, reader));
  SafetensorsHeader header = std::move(reader).take();
  RETURN_IF_ERROR(check_layout(header.tensors, data_bytes));
  return header;
}

Result<std::string> write_safetensors_header(const std::vector<SafetensorsSpec>& specs,
                                             const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[kMetadataKey] = metadata;
  std::set<std::string_view> names;
  int64_t offset = 0;
  for (const SafetensorsSpec& spec : specs) {
    if (spec.name == kMetadataKey || !names.insert(spec.name).second) {
      return invalid(fmt::format("two tensors would have the name \"{}\"", spec.name));
    }
    const auto bytes = safetensors_tensor_bytes(spec.dtype, spec.shape);
    if (!bytes.ok()) return bytes.status().at(spec.name);
    // push_back and not []: the ordered object would look through all names for each new one.
    header.get_ref<nlohmann::ordered_json::object_t&>().push_back(
        {spec.name, {{"dtype", spec.dtype}, {"shape", spec.shape}, {"data_offsets", {offset, offset + *bytes}}}});
    offset += *bytes;
  }
  std::string json;
  try {
    json = header.dump();
  } catch (const nlohmann::json::exception&) {
    return invalid("a tensor's name or a metadata value is not valid UTF-8");
  }
  json.append((8 - json.size() % 8) % 8, ' ');
  std::string out;
  for (int byte = 0; byte < 8; ++byte) out.push_back(static_cast<char>(json.size() >> (8 * byte)));
  return out + json;
}

}  // namespace colossus
