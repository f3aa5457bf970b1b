#include "io/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "io/safetensors_header.h"

namespace colossus {
namespace {

constexpr int64_t kLengthBytes = 8;
constexpr int64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr size_t kPieceBytes = size_t{1} << 20;

Result<std::string> read_header(FileReader& file, int64_t* data_offset) {
  if (file.size() < kLengthBytes) {
    return corrupt(fmt::format("{} bytes are too few for a safetensors file", file.size()));
  }
  std::array<std::byte, kLengthBytes> length_bytes;
  RETURN_IF_ERROR(read_exactly(file, 0, length_bytes));
  uint64_t length = 0;
  for (int byte = 0; byte < kLengthBytes; ++byte) {
    length |= uint64_t{std::to_integer<uint8_t>(length_bytes[static_cast<size_t>(byte)])} << (8 * byte);
  }
  if (length > static_cast<uint64_t>(kMaxHeaderBytes)) {
    return invalid(fmt::format("the header would have {} bytes, more than the format's {}; not a safetensors file",
                               length, kMaxHeaderBytes));
  }
  if (static_cast<int64_t>(length) > file.size() - kLengthBytes) {
    return corrupt(
        fmt::format("the header has {} bytes, the file only {}; it was cut: copy it again", length, file.size()));
  }
  std::string json(length, '\0');
  RETURN_IF_ERROR(read_exactly(file, kLengthBytes, std::as_writable_bytes(std::span(json))));
  *data_offset = kLengthBytes + static_cast<int64_t>(length);
  return json;
}

Result<SafetensorsHeader> read_and_parse(FileReader& file) {
  int64_t data_offset = 0;
  ASSIGN_OR_RETURN(const std::string json, read_header(file, &data_offset));
  ASSIGN_OR_RETURN(SafetensorsHeader header, parse_safetensors_header(json, file.size() - data_offset));
  for (SafetensorsEntry& tensor : header.tensors) tensor.offset += data_offset;
  return header;
}

}  // namespace

Result<SafetensorsFile> SafetensorsFile::open(FileSystem& files, const std::string& path) {
  SafetensorsFile opened;
  opened.path_ = path;
  ASSIGN_OR_RETURN(opened.file_, files.open(path));
  auto header = read_and_parse(*opened.file_);
  if (!header.ok()) return header.status().at(path);
  opened.tensors_ = std::move(header->tensors);
  opened.metadata_ = std::move(header->metadata);
  for (size_t i = 0; i < opened.tensors_.size(); ++i) opened.by_name_.emplace(opened.tensors_[i].name, i);
  return opened;
}

const SafetensorsEntry* SafetensorsFile::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

Status SafetensorsFile::read(const SafetensorsEntry& tensor, int64_t first_byte, std::span<std::byte> into) const {
  const auto count = static_cast<int64_t>(into.size());
  CHECK(first_byte >= 0 && count <= tensor.size_bytes && first_byte <= tensor.size_bytes - count);
  return read_exactly(*file_, tensor.offset + first_byte, into).at(path_ + ": " + tensor.name);
}

Result<SafetensorsWriter> SafetensorsWriter::create(FileSystem& files, const std::string& path,
                                                    std::vector<SafetensorsSpec> specs,
                                                    const std::map<std::string, std::string>& metadata) {
  const auto header = write_safetensors_header(specs, metadata);
  if (!header.ok()) return header.status().at(path);
  if (static_cast<int64_t>(header->size()) > kMaxHeaderBytes + kLengthBytes) {
    return invalid(
        fmt::format("[{}] the header of {} tensors would have {} bytes, more than the format's {}; write several "
                    "files",
                    path, specs.size(), header->size(), kMaxHeaderBytes));
  }
  SafetensorsWriter writer;
  writer.path_ = path;
  writer.file_bytes_ = static_cast<int64_t>(header->size());
  for (const SafetensorsSpec& spec : specs) {
    const int64_t bytes = *safetensors_tensor_bytes(spec.dtype, spec.shape);  // the header could be written: it is ok
    writer.sizes_bytes_.push_back(bytes);
    writer.file_bytes_ += bytes;
  }
  writer.specs_ = std::move(specs);
  ASSIGN_OR_RETURN(writer.file_, files.create(path));
  RETURN_IF_ERROR(writer.file_->append(std::as_bytes(std::span(*header))));
  writer.pass_full_tensors();
  return writer;
}

// Those without a byte are full from the start.
void SafetensorsWriter::pass_full_tensors() {
  for (; current_ < specs_.size() && current_bytes_ == sizes_bytes_[current_]; ++current_) current_bytes_ = 0;
}

Status SafetensorsWriter::flush() {
  if (pending_.empty()) return ok_status();
  const Status written = file_->append(pending_);
  pending_.clear();
  return written;
}

Status SafetensorsWriter::append(std::span<const std::byte> bytes) {
  auto rest = bytes;
  while (!rest.empty()) {
    if (current_ == specs_.size()) {
      return invalid(fmt::format("[{}] {} bytes more than the tensors have", path_, rest.size()));
    }
    const int64_t missing = sizes_bytes_[current_] - current_bytes_;
    const size_t taken = std::min(rest.size(), static_cast<size_t>(missing));
    current_bytes_ += static_cast<int64_t>(taken);
    rest = rest.subspan(taken);
    pass_full_tensors();
  }
  if (bytes.size() >= kPieceBytes) {
    RETURN_IF_ERROR(flush());
    return file_->append(bytes);
  }
  pending_.insert(pending_.end(), bytes.begin(), bytes.end());
  return pending_.size() >= kPieceBytes ? flush() : ok_status();
}

Status SafetensorsWriter::finish() {
  if (current_ != specs_.size()) {
    return invalid(fmt::format("[{}] \"{}\" has {} of its {} bytes, and nothing follows", path_, specs_[current_].name,
                               current_bytes_, sizes_bytes_[current_]));
  }
  RETURN_IF_ERROR(flush());
  RETURN_IF_ERROR(file_->sync());
  return file_->close();
}

}  // namespace colossus
