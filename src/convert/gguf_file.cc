#include "convert/gguf_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <set>

#include "base/bytes.h"
#include "text/vocabulary.h"

namespace colossus {
namespace {

constexpr size_t kMaxKeyBytes = 65535, kMaxNameBytes = 255;
constexpr uint32_t kMaxDimensions = 4;
constexpr uint64_t kMaxSize = uint64_t{1} << 62;  // of a dimension

struct ValueTypeSize {
  std::string_view name;
  int64_t least_bytes;  // that one value takes
};
constexpr auto kValueTypes = std::to_array<ValueTypeSize>({{"u8", 1},
                                                           {"i8", 1},
                                                           {"u16", 2},
                                                           {"i16", 2},
                                                           {"u32", 4},
                                                           {"i32", 4},
                                                           {"f32", 4},
                                                           {"bool", 1},
                                                           {"text", 8},
                                                           {"array", 12},
                                                           {"u64", 8},
                                                           {"i64", 8},
                                                           {"f64", 8}});

// The file from front to back, through a small buffer. Never goes behind the end.
class Cursor {
 public:
  explicit Cursor(FileReader& file) : file_(file), size_(file.size()) {}

  int64_t at() const { return at_; }
  int64_t left() const { return size_ - at_; }

  template <class T>
  Result<T> number(std::string_view what) {
    T value;
    RETURN_IF_ERROR(bytes(writable_bytes_of(value), what));
    return value;
  }
  Status bytes(std::span<std::byte> into, std::string_view what) {
    if (static_cast<int64_t>(into.size()) > left()) return cut(what);
    while (!into.empty()) {
      if (at_ < begin_ || at_ >= begin_ + static_cast<int64_t>(buffer_.size())) RETURN_IF_ERROR(fill());
      const auto from = static_cast<size_t>(at_ - begin_);
      const size_t count = std::min(into.size(), buffer_.size() - from);
      std::memcpy(into.data(), buffer_.data() + from, count);
      into = into.subspan(count);
      at_ += static_cast<int64_t>(count);
    }
    return ok_status();
  }
  // `what`: for messages.
  Status skip(int64_t num_bytes, std::string_view what) {
    if (num_bytes > left()) return cut(what);
    at_ += num_bytes;
    return ok_status();
  }
  Result<int64_t> text_size(std::string_view what) {
    ASSIGN_OR_RETURN(const uint64_t size, number<uint64_t>(what));
    if (size > static_cast<uint64_t>(left()))
      return corrupt(fmt::format("{} is {} bytes long, and the file has only {} more; it was cut, or is no GGUF", what,
                                 size, left()));
    return static_cast<int64_t>(size);
  }
  Result<std::string> text(std::string_view what, size_t most) {
    ASSIGN_OR_RETURN(const int64_t size, text_size(what));
    if (static_cast<size_t>(size) > most)
      return invalid(fmt::format("{} is {} bytes long; at most {} are read", what, size, most));
    std::string text(static_cast<size_t>(size), '\0');
    RETURN_IF_ERROR(bytes(std::as_writable_bytes(std::span(text)), what));
    return text;
  }

 private:
  Status cut(std::string_view what) const {
    return corrupt(fmt::format("the file ends within {}, at byte {}; copy it again", what, size_));
  }
  Status fill() {
    buffer_.resize(static_cast<size_t>(std::min<int64_t>(kBufferBytes, left())));
    begin_ = at_;
    return read_exactly(file_, begin_, buffer_);
  }

  static constexpr int64_t kBufferBytes = 256 << 10;
  FileReader& file_;
  const int64_t size_;
  int64_t at_ = 0, begin_ = 0;
  std::vector<std::byte> buffer_;
};

// What an array takes, passed over.
Status skip_array(Cursor& cursor, const GgufArray& array, int depth, const std::string& key) {
  const int64_t least = kValueTypes[static_cast<size_t>(array.element)].least_bytes;
  if (array.count > cursor.left() / least)
    return corrupt(fmt::format("{} is an array of {} {}, and the file has only {} more bytes", key, array.count,
                               gguf_type_name(array.element), cursor.left()));
  if (array.element == GgufValueType::kText) {
    for (int64_t i = 0; i < array.count; ++i) {
      ASSIGN_OR_RETURN(const int64_t size, cursor.text_size(key));
      RETURN_IF_ERROR(cursor.skip(size, key));
    }
    return ok_status();
  }
  if (array.element != GgufValueType::kArray) return cursor.skip(array.count * least, key);
  if (depth >= kMaxGgufDepth) return invalid(fmt::format("{} has arrays more than {} deep", key, kMaxGgufDepth));
  for (int64_t i = 0; i < array.count; ++i) {
    ASSIGN_OR_RETURN(const uint32_t type, cursor.number<uint32_t>(key));
    ASSIGN_OR_RETURN(const uint64_t count, cursor.number<uint64_t>(key));
    if (type >= kValueTypes.size())
      return invalid(
          fmt::format("{} has elements of the type {}; types go from 0 to {}", key, type, kValueTypes.size() - 1));
    const GgufArray inner{.element = static_cast<GgufValueType>(type),
                          .count = static_cast<int64_t>(std::min(count, kMaxSize))};
    RETURN_IF_ERROR(skip_array(cursor, inner, depth + 1, key));
  }
  return ok_status();
}

template <class T>
Result<GgufValue> read_scalar(Cursor& cursor, GgufValueType type, const std::string& key) {
  ASSIGN_OR_RETURN(const T value, cursor.number<T>(key));
  if constexpr (std::is_floating_point_v<T>) {
    return GgufValue{type, static_cast<double>(value)};
  } else if constexpr (std::is_same_v<T, uint64_t>) {
    if (value > static_cast<uint64_t>(INT64_MAX)) return GgufValue{type, value};
    return GgufValue{type, static_cast<int64_t>(value)};
  } else {
    return GgufValue{type, static_cast<int64_t>(value)};
  }
}

Result<GgufValue> read_value(Cursor& cursor, GgufValueType type, const std::string& key) {
  switch (type) {
    case GgufValueType::kU8: return read_scalar<uint8_t>(cursor, type, key);
    case GgufValueType::kI8: return read_scalar<int8_t>(cursor, type, key);
    case GgufValueType::kU16: return read_scalar<uint16_t>(cursor, type, key);
    case GgufValueType::kI16: return read_scalar<int16_t>(cursor, type, key);
    case GgufValueType::kU32: return read_scalar<uint32_t>(cursor, type, key);
    case GgufValueType::kI32: return read_scalar<int32_t>(cursor, type, key);
    case GgufValueType::kU64: return read_scalar<uint64_t>(cursor, type, key);
    case GgufValueType::kI64: return read_scalar<int64_t>(cursor, type, key);
    case GgufValueType::kF32: return read_scalar<float>(cursor, type, key);
    case GgufValueType::kF64: return read_scalar<double>(cursor, type, key);
    case GgufValueType::kBool: {
      ASSIGN_OR_RETURN(const uint8_t value, cursor.number<uint8_t>(key));
      if (value > 1) return invalid(fmt::format("{} is a bool with the value {}; needed 0 or 1", key, value));
      return GgufValue{type, value == 1};
    }
    case GgufValueType::kText: {
      ASSIGN_OR_RETURN(std::string text, cursor.text(key, SIZE_MAX));
      return GgufValue{type, std::move(text)};
    }
    case GgufValueType::kArray: break;
  }
  ASSIGN_OR_RETURN(const uint32_t element, cursor.number<uint32_t>(key));
  ASSIGN_OR_RETURN(const uint64_t count, cursor.number<uint64_t>(key));
  if (element >= kValueTypes.size())
    return invalid(
        fmt::format("{} is an array of the type {}; types go from 0 to {}", key, element, kValueTypes.size() - 1));
  GgufArray array{.element = static_cast<GgufValueType>(element),
                  .count = static_cast<int64_t>(std::min(count, kMaxSize)),
                  .offset = cursor.at()};
  RETURN_IF_ERROR(skip_array(cursor, array, 1, key));
  array.num_bytes = cursor.at() - array.offset;
  return GgufValue{type, array};
}

Status wrong_array(const GgufArray& array, std::string_view wanted, int64_t most) {
  return invalid(fmt::format("it is an array of {} {}; needed {}, at most {}", array.count,
                             gguf_type_name(array.element), wanted, most));
}

int64_t rounded_up(int64_t bytes, int64_t alignment) { return (bytes + alignment - 1) / alignment * alignment; }

}  // namespace

std::string_view gguf_type_name(GgufValueType type) { return kValueTypes[static_cast<size_t>(type)].name; }

std::optional<int64_t> GgufValue::whole() const {
  const auto* found = std::get_if<int64_t>(&value);
  return found ? std::optional(*found) : std::nullopt;
}
std::optional<double> GgufValue::number() const {
  if (const auto* large = std::get_if<uint64_t>(&value)) return static_cast<double>(*large);
  if (const auto exact = whole()) return static_cast<double>(*exact);
  const auto* found = std::get_if<double>(&value);
  if (!found) return std::nullopt;
  if (type != GgufValueType::kF32) return *found;
  // 1e-5 was written as the nearest float; what was meant is the decimal.
  const std::string decimal = fmt::format("{}", static_cast<float>(*found));
  double meant = *found;
  std::from_chars(decimal.data(), decimal.data() + decimal.size(), meant);
  return meant;
}
std::optional<bool> GgufValue::flag() const {
  const auto* found = std::get_if<bool>(&value);
  return found ? std::optional(*found) : std::nullopt;
}
const std::string* GgufValue::text() const { return std::get_if<std::string>(&value); }
const GgufArray* GgufValue::array() const { return std::get_if<GgufArray>(&value); }

// The header, part by part; messages say where.
class GgufParser {
 public:
  GgufParser(GgufFile& file) : file_(file), cursor_(*file.file_) {}

  Status parse() {
    RETURN_IF_ERROR(parse_counts());
    for (int64_t i = 0; i < num_keys_; ++i) RETURN_IF_ERROR(parse_key(i));
    RETURN_IF_ERROR(take_alignment());
    std::set<std::string_view> names;
    file_.tensors_.reserve(static_cast<size_t>(num_tensors_));  // names are viewed
    for (int64_t i = 0; i < num_tensors_; ++i) {
      RETURN_IF_ERROR(parse_tensor(i));
      if (!names.insert(file_.tensors_.back().name).second)
        return invalid(fmt::format("the tensor {} stands twice", file_.tensors_.back().name));
    }
    file_.data_offset_ = rounded_up(cursor_.at(), file_.alignment_);
    return check_layout();
  }

 private:
  Status parse_counts() {
    std::array<char, 4> magic{};
    RETURN_IF_ERROR(cursor_.bytes(std::as_writable_bytes(std::span(magic)), "its first four bytes"));
    if (std::string_view(magic.data(), 4) != "GGUF")
      return invalid(fmt::format("it begins with {}, not with \"GGUF\"", shown({magic.data(), magic.size()})));
    ASSIGN_OR_RETURN(file_.version_, cursor_.number<uint32_t>("its version"));
    if ((file_.version_ & 0xFFFF) == 0 && file_.version_ != 0)
      return invalid("it is big-endian; only little-endian files are read: write it again on such a machine");
    if (file_.version_ != 2 && file_.version_ != 3)
      return invalid(
          fmt::format("it is of version {}; needed 2 or 3: make it again with a newer llama.cpp", file_.version_));
    ASSIGN_OR_RETURN(num_tensors_, parse_count("tensors", 25, kMaxGgufTensors));
    ASSIGN_OR_RETURN(num_keys_, parse_count("keys", 14, kMaxGgufKeys));
    return ok_status();
  }
  // `least_bytes`: that each of them takes.
  Result<int64_t> parse_count(std::string_view what, int64_t least_bytes, int64_t most) {
    ASSIGN_OR_RETURN(const uint64_t count, cursor_.number<uint64_t>(what));
    if (count > static_cast<uint64_t>(cursor_.left() / least_bytes))
      return corrupt(fmt::format("it says {} {}, and has only {} more bytes; it was cut, or is no GGUF", count, what,
                                 cursor_.left()));
    if (count > static_cast<uint64_t>(most))
      return invalid(fmt::format("it has {} {}; at most {} are read", count, what, most));
    return static_cast<int64_t>(count);
  }
  Status parse_key(int64_t index) {
    ASSIGN_OR_RETURN(const std::string key, cursor_.text(fmt::format("key {}", index), kMaxKeyBytes));
    if (key.empty() || has_unprintable(key))
      return invalid(fmt::format("key {} is {}; needed printable characters", index, shown(key)));
    ASSIGN_OR_RETURN(const uint32_t type, cursor_.number<uint32_t>(key));
    if (type >= kValueTypes.size())
      return invalid(fmt::format("{} is of the type {}; types go from 0 to {}", key, type, kValueTypes.size() - 1));
    ASSIGN_OR_RETURN(GgufValue value, read_value(cursor_, static_cast<GgufValueType>(type), key));
    if (!file_.metadata_.emplace(key, std::move(value)).second) return invalid(fmt::format("{} stands twice", key));
    return ok_status();
  }
  static std::string shown(std::string_view text) { return printable_bytes(text.substr(0, 64)); }
  static bool has_unprintable(std::string_view text) {
    return std::ranges::any_of(text, [](char c) { return c <= ' ' || c > '~'; });
  }
  Status take_alignment() {
    const auto found = file_.metadata_.find("general.alignment");
    if (found == file_.metadata_.end()) return ok_status();
    const auto alignment = found->second.whole();
    if (found->second.type != GgufValueType::kU32 || *alignment < 1 || !std::has_single_bit(uint64_t(*alignment)))
      return invalid(fmt::format("general.alignment is {}; needed a power of two, as u32",
                                 alignment ? std::to_string(*alignment) : gguf_type_name(found->second.type)));
    file_.alignment_ = *alignment;
    return ok_status();
  }
  Status parse_tensor(int64_t index) {
    GgufTensor tensor;
    ASSIGN_OR_RETURN(tensor.name, cursor_.text(fmt::format("the name of tensor {}", index), kMaxNameBytes));
    if (tensor.name.empty() || has_unprintable(tensor.name))
      return invalid(fmt::format("tensor {} is called {}; needed printable characters", index, shown(tensor.name)));
    ASSIGN_OR_RETURN(const uint32_t rank, cursor_.number<uint32_t>(tensor.name));
    if (rank < 1 || rank > kMaxDimensions)
      return invalid(fmt::format("{} has {} dimensions; needed 1 to {}", tensor.name, rank, kMaxDimensions));
    std::array<uint64_t, kMaxDimensions> sizes{};
    for (uint32_t d = 0; d < rank; ++d) {
      ASSIGN_OR_RETURN(sizes[d], cursor_.number<uint64_t>(tensor.name));
      if (sizes[d] < 1 || sizes[d] > kMaxSize)
        return invalid(fmt::format("{} has a dimension of {}", tensor.name, sizes[d]));
    }
    ASSIGN_OR_RETURN(const uint32_t type, cursor_.number<uint32_t>(tensor.name));
    const GgmlTypeSize* size = ggml_type_size(type);
    if (!size) return invalid(fmt::format("{} is of the type {}, which is not known", tensor.name, type));
    tensor.type = static_cast<GgmlType>(type);
    RETURN_IF_ERROR(take_shape(std::span(sizes).first(rank), *size, tensor));
    ASSIGN_OR_RETURN(const uint64_t offset, cursor_.number<uint64_t>(tensor.name));
    if (offset > static_cast<uint64_t>(file_.num_bytes()))
      return corrupt(fmt::format("{} begins at byte {} of the tensors; the file has {} in all: it was cut", tensor.name,
                                 offset, file_.num_bytes()));
    tensor.offset = static_cast<int64_t>(offset);  // in the tensors; check_layout makes it one in the file
    file_.tensors_.push_back(std::move(tensor));
    return ok_status();
  }
  // Held to the file's size step by step: no product leaves it.
  Status take_shape(std::span<const uint64_t> sizes, const GgmlTypeSize& type, GgufTensor& tensor) const {
    const auto block = static_cast<uint64_t>(type.block_elements);
    if (sizes[0] % block != 0)
      return invalid(
          fmt::format("{} is {} with rows of {}; needed a multiple of {}", tensor.name, type.name, sizes[0], block));
    uint64_t blocks = sizes[0] / block;
    const auto most = static_cast<uint64_t>(file_.num_bytes() / type.block_bytes);
    bool fits = blocks <= most;
    for (const uint64_t size : sizes.subspan(1)) {
      fits = fits && blocks <= most / size;
      blocks = fits ? blocks * size : 0;
    }
    if (!fits)
      return corrupt(fmt::format("{} has more elements than the file's {} bytes hold; it was cut, or is no GGUF",
                                 tensor.name, file_.num_bytes()));
    tensor.num_bytes = static_cast<int64_t>(blocks) * type.block_bytes;
    std::vector<int64_t> outermost_first(sizes.rbegin(), sizes.rend());
    tensor.shape = Shape(std::span<const int64_t>(outermost_first));
    return ok_status();
  }
  Status check_layout() {
    std::ranges::stable_sort(file_.tensors_, {}, &GgufTensor::offset);
    int64_t end = 0;  // of those before, padded
    int64_t last = 0;
    for (GgufTensor& tensor : file_.tensors_) {
      if (tensor.offset % file_.alignment_ != 0)
        return invalid(fmt::format("{} begins at byte {} of the tensors; needed a multiple of {}", tensor.name,
                                   tensor.offset, file_.alignment_));
      if (tensor.offset < end)
        return invalid(
            fmt::format("{} begins at byte {} of the tensors, inside of the one before", tensor.name, tensor.offset));
      if (tensor.offset > end)
        return invalid(
            fmt::format("{} begins at byte {} of the tensors, after a gap from {}", tensor.name, tensor.offset, end));
      tensor.offset += file_.data_offset_;
      last = tensor.offset + tensor.num_bytes;
      if (last > file_.num_bytes())
        return corrupt(fmt::format("{} ends at byte {}; the file has only {}: it was cut, copy it again", tensor.name,
                                   last, file_.num_bytes()));
      end = rounded_up(last - file_.data_offset_, file_.alignment_);
    }
    const int64_t padded = file_.tensors_.empty() ? file_.num_bytes() : file_.data_offset_ + end;
    file_.bytes_behind_ = std::max<int64_t>(0, file_.num_bytes() - padded);
    return ok_status();
  }

  GgufFile& file_;
  Cursor cursor_;
  int64_t num_tensors_ = 0, num_keys_ = 0;
};

Result<GgufFile> GgufFile::open(FileSystem& files, const std::string& path) {
  GgufFile opened;
  opened.path_ = path;
  ASSIGN_OR_RETURN(opened.file_, files.open(path));
  if (const Status parsed = GgufParser(opened).parse(); !parsed.ok()) return parsed.at(path);
  return opened;
}

Result<std::vector<std::string>> GgufFile::texts(const GgufArray& array, int64_t most) const {
  if (array.element != GgufValueType::kText || array.count > most) return wrong_array(array, "text", most);
  std::string bytes(static_cast<size_t>(array.num_bytes), '\0');
  RETURN_IF_ERROR(read_exactly(*file_, array.offset, std::as_writable_bytes(std::span(bytes))).at(path_));
  std::vector<std::string> texts;
  texts.reserve(static_cast<size_t>(array.count));
  size_t at = 0;
  for (int64_t i = 0; i < array.count; ++i) {
    uint64_t size = 0;
    // Sizes were looked at when the file was opened; it may be another one by now.
    if (bytes.size() - at >= sizeof(size)) std::memcpy(&size, bytes.data() + at, sizeof(size));
    if (bytes.size() - at < sizeof(size) || size > bytes.size() - at - sizeof(size))
      return corrupt(fmt::format("[{}] was changed while it was read", path_));
    texts.push_back(bytes.substr(at + sizeof(size), size));
    at += sizeof(size) + size;
  }
  return texts;
}

Result<std::vector<float>> GgufFile::floats(const GgufArray& array, int64_t most) const {
  if (array.element != GgufValueType::kF32 || array.count > most) return wrong_array(array, "f32", most);
  std::vector<float> numbers(static_cast<size_t>(array.count));
  RETURN_IF_ERROR(read_exactly(*file_, array.offset, std::as_writable_bytes(std::span(numbers))).at(path_));
  return numbers;
}

Result<std::vector<int32_t>> GgufFile::wholes(const GgufArray& array, int64_t most) const {
  const bool is_signed = array.element == GgufValueType::kI32;
  if ((!is_signed && array.element != GgufValueType::kU32) || array.count > most)
    return wrong_array(array, "i32", most);
  std::vector<int32_t> numbers(static_cast<size_t>(array.count));
  RETURN_IF_ERROR(read_exactly(*file_, array.offset, std::as_writable_bytes(std::span(numbers))).at(path_));
  if (!is_signed && std::ranges::any_of(numbers, [](int32_t n) { return n < 0; }))
    return invalid("its numbers are too large");
  return numbers;
}

Result<std::string> GgufFile::bytes(const GgufArray& array, int64_t most) const {
  if ((array.element != GgufValueType::kU8 && array.element != GgufValueType::kI8) || array.count > most)
    return wrong_array(array, "u8", most);
  std::string bytes(static_cast<size_t>(array.count), '\0');
  RETURN_IF_ERROR(read_exactly(*file_, array.offset, std::as_writable_bytes(std::span(bytes))).at(path_));
  return bytes;
}

Status GgufFile::read(const GgufTensor& tensor, int64_t offset, std::span<std::byte> into) const {
  return read_exactly(*file_, tensor.offset + offset, into).at(path_);
}

}  // namespace colossus
