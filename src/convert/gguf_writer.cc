#include "convert/gguf_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/bytes.h"

namespace colossus {
namespace {

constexpr int64_t kAlignment = 32;
constexpr int64_t kReadBytes = 4 << 20;
constexpr int64_t kBytesBetweenRecords = int64_t{256} << 20;
constexpr int64_t kMaxRecordBytes = 1 << 20;
constexpr const char* kPart = ".part";
constexpr const char* kRecord = ".part.done";

int64_t padding_behind(int64_t bytes) { return (kAlignment - bytes % kAlignment) % kAlignment; }

class Bytes {
 public:
  template <class T>
  void number(T value) {
    const auto bytes = bytes_of(value);
    out_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  void text(std::string_view text) {
    number(static_cast<uint64_t>(text.size()));
    out_ += text;
  }
  void pad() { out_.append(static_cast<size_t>(padding_behind(static_cast<int64_t>(out_.size()))), '\0'); }
  void append(std::string_view bytes) { out_ += bytes; }
  std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

// Of the types that gguf_u32 and the others beside it make.
void append_value(Bytes& out, const GgufValue& value) {
  out.number(static_cast<uint32_t>(value.type));
  switch (value.type) {
    case GgufValueType::kU32: return out.number(static_cast<uint32_t>(*value.whole()));
    case GgufValueType::kF32: return out.number(static_cast<float>(*value.number()));
    case GgufValueType::kBool: return out.number(static_cast<uint8_t>(*value.flag()));
    case GgufValueType::kText: return out.text(*value.text());
    default: CHECK(false, "values of this type are not written");
  }
}

struct ListWriter {
  Bytes& out;
  void operator()(const std::vector<std::string>& texts) const {
    head(GgufValueType::kText, texts.size());
    for (const std::string& text : texts) out.text(text);
  }
  void operator()(const std::vector<float>& numbers) const {
    head(GgufValueType::kF32, numbers.size());
    for (const float number : numbers) out.number(number);
  }
  void operator()(const std::vector<int32_t>& numbers) const {
    head(GgufValueType::kI32, numbers.size());
    for (const int32_t number : numbers) out.number(number);
  }
  void operator()(const std::string& bytes) const {
    head(GgufValueType::kU8, bytes.size());
    out.append(bytes);
  }
  void head(GgufValueType element, size_t count) const {
    out.number(static_cast<uint32_t>(GgufValueType::kArray));
    out.number(static_cast<uint32_t>(element));
    out.number(static_cast<uint64_t>(count));
  }
};

std::string header_of(const GgufToWrite& file) {
  Bytes out;
  out.append("GGUF");
  out.number(uint32_t{3});
  out.number(static_cast<uint64_t>(file.tensors.size()));
  out.number(static_cast<uint64_t>(file.metadata.size() + file.lists.size()));
  for (const auto& [key, value] : file.metadata) {
    out.text(key);
    append_value(out, value);
  }
  for (const auto& [key, list] : file.lists) {
    out.text(key);
    std::visit(ListWriter{out}, list);
  }
  int64_t offset = 0;
  for (const GgufTensorToWrite& tensor : file.tensors) {
    out.text(tensor.name);
    const auto sizes = tensor.shape.sizes();
    out.number(static_cast<uint32_t>(sizes.size()));
    for (size_t d = sizes.size(); d-- > 0;) out.number(static_cast<uint64_t>(sizes[d]));
    out.number(static_cast<uint32_t>(tensor.type));
    out.number(static_cast<uint64_t>(offset));
    offset += tensor.num_bytes() + padding_behind(tensor.num_bytes());
  }
  out.pad();
  return out.take();
}

// The bytes that an earlier try has on the disk for sure; 0 where there was none, or one of something else.
int64_t bytes_done(FileSystem& files, const std::string& path, const std::string& identity) {
  const auto record = read_file(files, path + kRecord, kMaxRecordBytes);
  const auto part = files.stat(path + kPart);
  const std::string head = identity + "\n";
  if (!record.ok() || !part.ok() || !record->starts_with(head)) return 0;
  int64_t done = 0;
  const char* end = record->data() + record->size();
  const auto read = std::from_chars(record->data() + head.size(), end, done);
  return read.ec == std::errc() && read.ptr != end && *read.ptr == '\n' && done > 0 && done <= part->size_bytes ? done
                                                                                                                : 0;
}

// The unfinished file. What an earlier try left of it is compared with what is appended, until its end is reached.
class PartFile {
 public:
  PartFile(FileSystem& files, const std::string& path, const std::string& identity)
      : files_(files), path_(path), identity_(identity) {}

  Status open(bool go_on) {
    recorded_ = go_on ? bytes_done(files_, path_, identity_) : 0;
    if (recorded_ == 0) {
      RETURN_IF_ERROR(files_.remove_all(path_ + kRecord));
      ASSIGN_OR_RETURN(writer_, files_.create(path_ + kPart));
      return ok_status();
    }
    ASSIGN_OR_RETURN(reader_, files_.open(path_ + kPart));
    there_ = reader_->size();
    ASSIGN_OR_RETURN(writer_, files_.open_to_append(path_ + kPart));
    return ok_status();
  }
  // Whether so many more bytes are on the disk for sure; they are passed over.
  bool pass(int64_t num_bytes) {
    if (at_ + num_bytes > recorded_) return false;
    at_ += num_bytes;
    return true;
  }
  Status append(std::span<const std::byte> bytes) {
    const int64_t known = std::clamp<int64_t>(there_ - at_, 0, static_cast<int64_t>(bytes.size()));
    if (known > 0) {
      compared_.resize(static_cast<size_t>(known));
      RETURN_IF_ERROR(read_exactly(*reader_, at_, compared_).at(path_ + kPart));
      differs_ = differs_ || std::memcmp(compared_.data(), bytes.data(), compared_.size()) != 0;
    }
    RETURN_IF_ERROR(writer_->append(bytes.subspan(static_cast<size_t>(known))));
    at_ += static_cast<int64_t>(bytes.size());
    return at_ - recorded_ >= kBytesBetweenRecords && at_ >= there_ && !differs_ ? record() : ok_status();
  }
  // What is there is not the beginning of this file: begin anew.
  bool differs() const { return differs_ || at_ < there_; }
  bool differs_already() const { return differs_; }
  Status record() {
    RETURN_IF_ERROR(writer_->sync());
    RETURN_IF_ERROR(write_file_atomically(files_, path_ + kRecord, fmt::format("{}\n{}\n", identity_, at_)));
    recorded_ = at_;
    return ok_status();
  }
  Status finish() {
    RETURN_IF_ERROR(writer_->sync());
    RETURN_IF_ERROR(writer_->close());
    RETURN_IF_ERROR(files_.rename(path_ + kPart, path_));
    RETURN_IF_ERROR(files_.remove_all(path_ + kRecord));
    const size_t slash = path_.rfind('/');
    return files_.sync_directory(slash == std::string::npos ? "." : path_.substr(0, std::max<size_t>(slash, 1)));
  }
  int64_t at() const { return at_; }

 private:
  FileSystem& files_;
  const std::string& path_;
  const std::string& identity_;
  std::unique_ptr<FileWriter> writer_;
  std::unique_ptr<FileReader> reader_;
  int64_t at_ = 0;        // of the file
  int64_t there_ = 0;     // bytes of an earlier try
  int64_t recorded_ = 0;  // bytes that are on the disk for sure
  bool differs_ = false;
  std::vector<std::byte> compared_;
};

struct Progress {
  const GgufWriteOptions& options;
  int64_t all_bytes;
  Status tell(int64_t done) const {
    return options.progress && !options.progress(done, all_bytes) ? interrupted("stopped") : ok_status();
  }
};

Status append_tensor(const GgufTensorToWrite& tensor, const Progress& progress, PartFile& part) {
  const int64_t block_bytes = ggml_type_size(static_cast<uint32_t>(tensor.type))->block_bytes;
  const int64_t step = kReadBytes / block_bytes * block_bytes;
  std::vector<std::byte> bytes;
  for (int64_t at = 0; at < tensor.num_bytes() && !part.differs_already(); at += step) {
    const int64_t size = std::min(step, tensor.num_bytes() - at);
    if (!part.pass(size)) {
      bytes.resize(static_cast<size_t>(size));
      const Status read = tensor.read(at, bytes);
      if (!read.ok()) return Status(read.code(), fmt::format("{}: {}", tensor.name, read.message()));
      RETURN_IF_ERROR(part.append(bytes));
    }
    // What was done stays for the next try.
    if (const Status told = progress.tell(part.at()); !told.ok()) {
      if (!part.differs()) RETURN_IF_ERROR(part.record());
      return told;
    }
  }
  bytes.assign(static_cast<size_t>(padding_behind(tensor.num_bytes())), std::byte{0});
  return part.pass(static_cast<int64_t>(bytes.size())) ? ok_status() : part.append(bytes);
}

}  // namespace

int64_t GgufTensorToWrite::num_bytes() const {
  const GgmlTypeSize& size = *ggml_type_size(static_cast<uint32_t>(type));
  return shape.num_elements() / size.block_elements * size.block_bytes;
}

Result<int64_t> write_gguf(FileSystem& files, const std::string& path, const GgufToWrite& file,
                           const GgufWriteOptions& options) {
  CHECK(options.identity.find('\n') == std::string::npos);
  const std::string header = header_of(file);
  Progress progress{options, static_cast<int64_t>(header.size())};
  for (const GgufTensorToWrite& tensor : file.tensors)
    progress.all_bytes += tensor.num_bytes() + padding_behind(tensor.num_bytes());
  for (const bool go_on : {true, false}) {
    PartFile part(files, path, options.identity);
    RETURN_IF_ERROR(part.open(go_on));
    RETURN_IF_ERROR(part.append(std::as_bytes(std::span(header))));
    for (const GgufTensorToWrite& tensor : file.tensors) RETURN_IF_ERROR(append_tensor(tensor, progress, part));
    if (part.differs()) continue;
    RETURN_IF_ERROR(part.finish());
    return progress.all_bytes;
  }
  return corrupt(fmt::format("[{}{}] changes while it is written", path, kPart));
}

}  // namespace colossus
