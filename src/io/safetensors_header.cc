#include "io/safetensors_header.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

namespace colossus {
namespace {

using Json = nlohmann::json;

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

// Reads exactly the shape a header has and refuses everything else at the first token. A tree of JSON would forget
// that a name came twice, and let a hostile header take many times its size in memory.
class HeaderReader final : public nlohmann::json_sax<Json> {
 public:
  bool start_object(std::size_t) override {
    switch (place_) {
      case Place::kStart: place_ = Place::kNames; return true;
      case Place::kTensorStart: place_ = Place::kFields; return true;
      case Place::kMetadataStart: place_ = Place::kMetadata; return true;
      default: return refuse("an object");
    }
  }

  bool end_object() override {
    switch (place_) {
      case Place::kNames: place_ = Place::kEnd; return true;
      case Place::kMetadata: place_ = Place::kNames; return true;
      case Place::kFields: place_ = Place::kNames; return finish_tensor();
      default: return refuse("the end of an object");
    }
  }

  bool key(std::string& name) override {
    key_ = name;
    switch (place_) {
      case Place::kNames: return start_name(name);
      case Place::kMetadata:
        if (header_.metadata.contains(name))
          return fail(fmt::format("{} has the key \"{}\" twice", kMetadataKey, name));
        place_ = Place::kMetadataValue;
        return true;
      case Place::kFields: return start_field(name);
      default: return refuse("a key");
    }
  }

  bool string(std::string& text) override {
    if (place_ == Place::kMetadataValue) {
      header_.metadata.emplace(key_, text);
      place_ = Place::kMetadata;
      return true;
    }
    if (place_ != Place::kDtype) return refuse("a string");
    tensor_.dtype = text;
    place_ = Place::kFields;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::kShapeStart)
      place_ = Place::kShape;
    else if (place_ == Place::kOffsetsStart)
      place_ = Place::kOffsets;
    else
      return refuse("a list");
    return true;
  }

  bool end_array() override {
    if (place_ != Place::kShape && place_ != Place::kOffsets) return refuse("the end of a list");
    if (place_ == Place::kOffsets && offsets_.size() != 2) {
      return fail(fmt::format("\"{}\": data_offsets has {} numbers, not 2", tensor_.name, offsets_.size()));
    }
    place_ = Place::kFields;
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ != Place::kShape && place_ != Place::kOffsets) return refuse("a number");
    if (value > static_cast<uint64_t>(INT64_MAX))
      return fail(fmt::format("\"{}\": {} is too large", tensor_.name, value));
    auto& list = place_ == Place::kShape ? tensor_.shape : offsets_;
    if (list.size() == kMaxDimensions) {
      return fail(fmt::format("\"{}\": {} has more than {} numbers", tensor_.name, key_, kMaxDimensions));
    }
    list.push_back(static_cast<int64_t>(value));
    return true;
  }

  bool number_integer(number_integer_t) override { return refuse("a negative number"); }
  bool number_float(number_float_t, const std::string&) override { return refuse("a fraction or a number too large"); }
  bool boolean(bool) override { return refuse("true or false"); }
  bool null() override { return refuse("null"); }
  bool binary(binary_t&) override { return refuse("binary"); }
  bool parse_error(std::size_t position, const std::string&, const Json::exception&) override {
    return fail(fmt::format("byte {} of the header is not valid JSON", position));
  }

  const std::string& error() const { return error_; }
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

  bool fail(std::string message) {
    if (error_.empty()) error_ = std::move(message);
    return false;
  }
  bool refuse(const char* what) {
    return fail(fmt::format("{} where the format has none, after the key \"{}\"", what, key_));
  }

  bool start_name(const std::string& name) {
    if (!names_.insert(name).second) return fail(fmt::format("the name \"{}\" comes twice", name));
    if (name == kMetadataKey) {
      place_ = Place::kMetadataStart;
      return true;
    }
    tensor_ = SafetensorsEntry{.name = name, .dtype = {}, .shape = {}, .offset = 0, .size_bytes = 0};
    offsets_.clear();
    fields_.clear();
    place_ = Place::kTensorStart;
    return true;
  }

  bool start_field(const std::string& name) {
    if (!fields_.insert(name).second) return fail(fmt::format("\"{}\" has {} twice", tensor_.name, name));
    if (name == "dtype")
      place_ = Place::kDtype;
    else if (name == "shape")
      place_ = Place::kShapeStart;
    else if (name == "data_offsets")
      place_ = Place::kOffsetsStart;
    else
      return fail(fmt::format("\"{}\" has the unknown field \"{}\"", tensor_.name, name));
    return true;
  }

  bool finish_tensor() {
    if (fields_.size() != 3) return fail(fmt::format("\"{}\" lacks one of dtype, shape, data_offsets", tensor_.name));
    tensor_.offset = offsets_[0];
    tensor_.size_bytes = offsets_[1] - offsets_[0];  // both are in 0..2^63-1: no overflow
    header_.tensors.push_back(std::move(tensor_));
    return true;
  }

  Place place_ = Place::kStart;
  std::string key_;
  std::set<std::string> names_, fields_;
  SafetensorsEntry tensor_;
  std::vector<int64_t> offsets_;
  SafetensorsHeader header_;
  std::string error_;
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
  if (!Json::sax_parse(json, &reader)) return invalid(reader.error());
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
